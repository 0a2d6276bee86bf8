"""What the training of a policy is made of: frozen, validated, and written beside the run.

A configuration is data and nothing else: making one reads no file and touches no device. What the
machine decides (`auto` device, precision) is settled once by `resolve`; the resolved one
is stored, and training from it gives the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, get_args

from trainer.closed_loop.configuration import EvaluateConfig
from trainer.data.configuration import AugmentationConfig, LoaderConfig, NormalizationConfig
from trainer.models.action.configuration import Solver
from trainer.models.configuration import ModelConfig
from trainer.requirements import (
    numbers_by_name,
    require,
    require_choice,
    require_one_budget,
    require_positive,
)
from trainer.training_configuration import (
    MAY_CHANGE,
    EmaConfig,
    OptimizerConfig,
    Precision,
    ShardingConfig,
    WeightsFormat,
    kept_steps,
    require_run_fields,
)


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How a checkpoint asks to be run.

    Attributes:
        num_flow_steps: From noise to a chunk.
        solver: Euler asks the network once a flow step, Heun twice, but in the last one once; a
            plan that is to agree with one being executed goes by Euler's steps in any case.
        open_loop_steps: Actions executed before replanning.
    """

    num_flow_steps: int = 8
    solver: Solver = "euler"
    open_loop_steps: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "num_flow_steps", "open_loop_steps")
        require_choice(self, solver=get_args(Solver))


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """One training run of a policy of any network.

    The budget is num_steps or num_samples, whichever is given.

    Attributes:
        data: Demonstrations, in any format that `trainer data inspect` recognises.
        more_data: PATH=WEIGHT of further ones, of the same station: WEIGHT times as many windows
            are seen of them as of `data`.
        init: Checkpoint of a policy of this kind to begin with; without one all begins at random.
        init_except: Its tensors, by name or by beginning, that may be missing or unexpected.
        name: The policy's name, in reports.
        cameras: Those the policy looks at; None takes all that were recorded.
        chunk_length: Control steps predicted at once, the anchor's own included.
        batch_size: Windows an optimizer step.
        micro_batch_size: Windows that are computed at once; None for the whole batch.
        num_steps: Budget in optimizer steps.
        num_samples: Budget in windows seen.
        checkpoint_steps: Optimizer steps whose checkpoints are kept; the last one always is.
        validation_episodes: Held out of training, the last ones by scenario index; never more than
            a fifth of a data set, which is told.
        validation_every: Optimizer steps between measurements on them.
        save_state_every: Optimizer steps between saves of what a resume needs.
        weights_format: Numbers of a checkpoint's weights; training itself keeps float32.
        seed: Of initial weights, order, noise and augmentation.
        device: auto, cpu, cuda or cuda:N.
        precision: Of activations; auto takes bfloat16 where the hardware multiplies in it.
        num_threads: CPU threads; None takes two where there are two.
        compile: Whether blocks go through torch.compile, which takes a minute and then pays.
        checkpoint_activations: Whether blocks are computed twice to save memory.
        normalization: How poses and widths become numbers of order one.
        augmentation: Noise on what the policy sees.
        loader: How frames come to the network.
        evaluate: Checkpoints that are tried in simulation beside the training.
        optimizer: AdamW and its learning rate.
        ema: The average of the weights that a checkpoint holds.
        sharding: How several ranks hold the network.
        serving: How a checkpoint asks to be run.
    """

    kind: ClassVar[str]
    # What the data are is compared.
    may_differ: ClassVar[tuple[str, ...]] = ("data", "init", "loader", "evaluate", "sharding")
    may_change: ClassVar[tuple[str, ...]] = MAY_CHANGE

    data: str = ""
    more_data: tuple[str, ...] = ()
    init: str = ""
    init_except: tuple[str, ...] = ()
    name: str = "policy"
    cameras: tuple[str, ...] | None = None
    chunk_length: int = 16
    batch_size: int = 64
    micro_batch_size: int | None = None
    num_steps: int | None = None
    num_samples: int | None = None
    checkpoint_steps: tuple[int, ...] = ()
    validation_episodes: int = 6
    validation_every: int = 200
    save_state_every: int = 200
    weights_format: WeightsFormat = "float32"
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    num_threads: int | None = None
    compile: bool = False
    checkpoint_activations: bool = False
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "chunk_length", "batch_size")
        require_one_budget({"num_steps": self.num_steps, "num_samples": self.num_samples})
        require(
            all(self.weight_of.values()) and self.data not in self.weight_of,
            "more_data",
            "other places than data, with weights of more than 0",
            self.more_data,
        )
        require(
            self.total_steps > 0, "num_samples", f"at least {self.batch_size}", self.num_samples
        )
        require_run_fields(self)
        require(
            self.cameras is None or len(set(self.cameras)) == len(self.cameras) > 0,
            "cameras",
            "at least one camera, each once",
            self.cameras,
        )
        require(
            self.validation_episodes >= 0,
            "validation_episodes",
            "0 or more",
            self.validation_episodes,
        )
        require(
            self.serving.open_loop_steps <= self.chunk_length,
            "serving.open_loop_steps",
            f"at most chunk_length ({self.chunk_length})",
            self.serving.open_loop_steps,
        )

    @property
    def weight_of(self) -> Mapping[str, float]:
        """Of further demonstrations, by where they are."""
        return numbers_by_name("more_data", self.more_data)

    @property
    def total_steps(self) -> int:
        """The budget in optimizer steps."""
        if self.num_steps is not None:
            return self.num_steps
        return (self.num_samples or 0) // self.batch_size

    @property
    def evaluated_steps(self) -> tuple[int, ...]:
        """Every optimizer step whose checkpoint is tried in simulation, ascending."""
        every, total = self.evaluate.every, self.total_steps
        return () if every is None else (*range(every, total, every), total)

    @property
    def kept_steps(self) -> tuple[int, ...]:
        return tuple(sorted({*kept_steps(self), *self.evaluated_steps}))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(PolicyConfig):
    """One training run of a policy of convolutions and a flow head.

    Attributes:
        model: The network.
    """

    kind: ClassVar[str] = "policy"

    model: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        per_token = self.model.flow_head.timesteps_per_token
        require(
            self.chunk_length % per_token == 0,
            "chunk_length",
            f"a multiple of model.flow_head.timesteps_per_token ({per_token})",
            self.chunk_length,
        )
