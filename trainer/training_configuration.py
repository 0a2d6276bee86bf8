"""What trainings of all kinds have in common: the optimizer, the average, the ranks, the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

from trainer.requirements import numbers_by_name, require, require_choice, require_positive

Precision = Literal["auto", "float32", "bfloat16"]
WeightsFormat = Literal["float32", "float16", "bfloat16"]
Schedule = Literal["cosine", "constant_decay"]
OptimizerKind = Literal["adamw", "muon"]
ShardingKind = Literal["none", "gradients", "full"]
EmaSchedule = Literal["ratio", "power"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become steps; learning rates rise linearly, then fall to a final fraction.

    Attributes:
        kind: AdamW; or Muon for the matrices and kernels inside of a network and AdamW for the
            rest: half the steps or fewer, of which each takes somewhat longer.
        matrix_learning_rate: Muon's greatest one: about the greatest singular value of an update.
        momentum: Decay of Muon's average of gradients.
        learning_rate: The greatest one, after the warm-up.
        warmup_steps: Optimizer steps of linear rise.
        schedule: It falls along a cosine; or stays, and falls along a line at the end, so that a
            run of any length can be decided upon while it lasts.
        decay_fraction: The part of all steps in which constant_decay falls.
        final_learning_rate_fraction: Where it ends, as a fraction of the greatest.
        weight_decay: Acts on matrices and kernels alone, never on biases or norms.
        beta1: Decay of AdamW's average of gradients.
        beta2: Decay of AdamW's average of squared gradients.
        max_gradient_norm: Gradients longer than this are shortened to it.
        spike_factor: Steps whose gradient is more than so many times as long as the median of the
            last hundred are left out; None takes every step.
        multipliers: Of the learning rate, by a module's name: model.backbone.vision=0.1. The
            longest name that holds a parameter counts, and 0 freezes it.
    """

    kind: OptimizerKind = "adamw"
    matrix_learning_rate: float = 0.02
    momentum: float = 0.95
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    schedule: Schedule = "cosine"
    decay_fraction: float = 0.2
    final_learning_rate_fraction: float = 0.02
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    max_gradient_norm: float = 1.0
    spike_factor: float | None = None
    multipliers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate", "matrix_learning_rate", "max_gradient_norm")
        require(
            self.spike_factor is None or self.spike_factor > 1,
            "spike_factor",
            "more than 1, or None",
            self.spike_factor,
        )
        require(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        require(
            0 < self.decay_fraction <= 1,
            "decay_fraction",
            "0 < fraction <= 1",
            self.decay_fraction,
        )
        for name in ("final_learning_rate_fraction", "momentum", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, name, "0 <= value < 1", value)
        _ = self.multiplier_of

    @property
    def multiplier_of(self) -> Mapping[str, float]:
        """By a module's name."""
        return numbers_by_name("multipliers", self.multipliers)


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights, which is what a checkpoint holds.

    Without one (a greatest decay of 0) it holds the weights themselves, and no copy is kept.

    The decay grows with the steps taken, so that an early checkpoint is an average of recent
    weights and not of the random first ones.

    Attributes:
        max_decay: What the decay grows to; 0 for no average.
        schedule: How it grows up to there. After the k-th step it is, of ratio,
            (1 + k) / (10 + k); of power, 1 - (1 + (k - 1) / inverse_gamma) ** -power, with which
            the first step's weights are taken as they are.
        power: Of that schedule: 0.75 comes to 0.999 after 10,000 steps and to 0.9999 after 215,000;
            1 makes a plain mean of all steps.
        inverse_gamma: Of that schedule: the steps in which it begins to grow.
    """

    max_decay: float = 0.998
    schedule: EmaSchedule = "ratio"
    power: float = 0.75
    inverse_gamma: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.max_decay < 1, "max_decay", "0 <= decay < 1", self.max_decay)
        require_choice(self, schedule=get_args(EmaSchedule))
        require_positive(self, "power", "inverse_gamma")


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """How several ranks hold one network; a process that trains alone holds all of it.

    Attributes:
        kind: none: each rank holds the whole network. full: each holds its part of the weights,
            gradients, averages and moments (FSDP2), and a block's weights are whole only while it
            is computed, forward and again backward. gradients: weights stay whole from the
            forward to the backward pass, which costs memory and saves an exchange.
        cpu_offload: Whether a rank's part lies in the CPU's memory, and is stepped there.
    """

    kind: ShardingKind = "none"
    cpu_offload: bool = False

    def __post_init__(self) -> None:
        require(
            not self.cpu_offload or self.kind != "none",
            "sharding.cpu_offload",
            "false where the kind of sharding is none",
            self.cpu_offload,
        )


# Of any kind of training, what may be another from the step on that a run goes on from. The batch
# size is not among them: a run's place in its data is counted in batches.
MAY_CHANGE = (
    # How it is computed: what is learnt differs by rounding, if at all.
    "device",
    "precision",
    "num_threads",
    "micro_batch_size",
    "compile",
    "checkpoint_activations",
    # When it is measured and saved, and what a checkpoint's numbers are.
    "validation_every",
    "save_state_every",
    "checkpoint_steps",
    "weights_format",
    # How many steps there are, and how far those go that are left.
    "num_steps",
    "num_samples",
    "optimizer.learning_rate",
    "optimizer.matrix_learning_rate",
    "optimizer.warmup_steps",
    "optimizer.schedule",
    "optimizer.decay_fraction",
    "optimizer.final_learning_rate_fraction",
    "optimizer.max_gradient_norm",
    "optimizer.spike_factor",
)


class RunFields(Protocol):
    """What the configurations of all kinds of training have in common."""

    kind: ClassVar[str]
    # When a run goes on, fields that may be others without a word: they change nothing that is
    # learnt, or what they name is compared.
    may_differ: ClassVar[tuple[str, ...]]
    # Those that may be others, by names with dots, told and recorded with the step.
    may_change: ClassVar[tuple[str, ...]]

    @property
    def data(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def micro_batch_size(self) -> int | None: ...
    @property
    def checkpoint_steps(self) -> tuple[int, ...]: ...
    @property
    def validation_every(self) -> int: ...
    @property
    def save_state_every(self) -> int: ...
    @property
    def weights_format(self) -> WeightsFormat: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def num_threads(self) -> int | None: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...
    @property
    def ema(self) -> EmaConfig: ...
    @property
    def sharding(self) -> ShardingConfig: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def kept_steps(self) -> tuple[int, ...]: ...


def require_run_fields(config: RunFields) -> None:
    require_positive(config, "batch_size", "validation_every", "save_state_every")
    micro = config.micro_batch_size
    require(
        micro is None or (micro > 0 and config.batch_size % micro == 0),
        "micro_batch_size",
        f"a divisor of batch_size ({config.batch_size})",
        micro,
    )
    require(
        config.num_threads is None or config.num_threads > 0,
        "num_threads",
        "a positive number",
        config.num_threads,
    )
    require(
        all(0 < step <= config.total_steps for step in config.checkpoint_steps),
        "checkpoint_steps",
        f"optimizer steps from 1 to {config.total_steps}",
        config.checkpoint_steps,
    )
    require(0 <= config.seed < 2**63, "seed", "0 <= seed < 2**63", config.seed)
    require(
        config.device in ("auto", "cpu", "cuda") or config.device.removeprefix("cuda:").isdigit(),
        "device",
        "auto, cpu, cuda or cuda:N",
        config.device,
    )


def kept_steps(config: RunFields) -> tuple[int, ...]:
    """Every optimizer step with a checkpoint, ascending, the last one included."""
    return tuple(sorted({*config.checkpoint_steps, config.total_steps}))
