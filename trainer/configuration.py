"""What a training run is made of: frozen, validated, and written beside the run.

A configuration is data and nothing else: making one reads no file and touches no device. What the
machine decides (`auto` device, precision) is settled once by `resolve`; the resolved one
is stored, and training from it gives the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

Precision = Literal["auto", "float32", "bfloat16"]
WeightsFormat = Literal["float32", "float16", "bfloat16"]
NormalizationScope = Literal["global", "per_timestep"]
NormalizationMethod = Literal["quantiles", "min_max", "std"]
Schedule = Literal["cosine", "constant_decay"]
ShardingKind = Literal["none", "gradients", "full"]


class ConfigurationError(ValueError):
    """A configuration that cannot be, or that does not fit the data or the run at hand."""


def _require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigurationError(f"{name}: expected {expected}, got {got!r}")


def _require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value > 0, name, "a positive number", value)


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig:
    """How poses and widths become numbers of order one.

    The floors keep an arm that hardly moved from being scaled up into noise.

    Attributes:
        scope: One scale a number, or one for each timestep of the chunk.
        method: Maps a range of quantiles, or from least to greatest, to -1 to 1; or divides by
            the standard deviation.
        centered: Ranges map to -1 to 1, otherwise to 0 to 1; std is always about the mean.
        lower_quantile: Maps to -1; what lies below is not clipped.
        upper_quantile: Maps to 1; what lies above is not clipped.
        translation_floor_m: Least scale of a translation.
        rotation_floor: Least scale of a rotation's numbers.
        width_floor_m: Least scale of a gripper's width.
    """

    scope: NormalizationScope = "global"
    method: NormalizationMethod = "quantiles"
    centered: bool = True
    lower_quantile: float = 0.01
    upper_quantile: float = 0.99
    translation_floor_m: float = 0.02
    rotation_floor: float = 0.1
    width_floor_m: float = 0.01

    def __post_init__(self) -> None:
        _require(
            self.centered or self.method != "std",
            "centered",
            "true where method is 'std'",
            self.centered,
        )
        _require(
            0 <= self.lower_quantile < self.upper_quantile <= 1,
            "lower_quantile, upper_quantile",
            "0 <= lower < upper <= 1",
            (self.lower_quantile, self.upper_quantile),
        )
        _require_positive(self, "translation_floor_m", "rotation_floor", "width_floor_m")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Noise on what the policy sees, so that it does not lean on a pixel or a millimetre.

    Attributes:
        shift_pixels: Each image moves by up to so many pixels each way, its edges repeated.
        brightness: Greatest offset of an image, whose values lie in -1 to 1.
        contrast: Greatest relative change of an image's contrast.
        crop_fraction: Least part of an image's sides that is kept, then enlarged to the whole; 1
            keeps all.
        saturation: Greatest relative change of how far colours are from grey.
        hue: Greatest turn of colours about grey, in turns.
        blur_pixels: Greatest standard deviation of a Gaussian blur; 0 leaves images sharp.
        proprioception_noise: Standard deviation in normalised units.
    """

    shift_pixels: int = 2
    brightness: float = 0.15
    contrast: float = 0.15
    crop_fraction: float = 1.0
    saturation: float = 0.0
    hue: float = 0.0
    blur_pixels: float = 0.0
    proprioception_noise: float = 0.02

    def __post_init__(self) -> None:
        _require(self.shift_pixels >= 0, "shift_pixels", "0 or more", self.shift_pixels)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            _require(0 <= value < 1, name, "0 <= jitter < 1", value)
        _require(
            0 < self.crop_fraction <= 1, "crop_fraction", "0 < fraction <= 1", self.crop_fraction
        )
        _require(0 <= self.hue <= 0.5, "hue", "0 to 0.5 turns", self.hue)
        _require(self.blur_pixels >= 0, "blur_pixels", "0 or more", self.blur_pixels)
        _require(
            self.proprioception_noise >= 0,
            "proprioception_noise",
            "0 or more",
            self.proprioception_noise,
        )


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How frames come to the network: never which, so that it may change when a run goes on.

    Attributes:
        cache_gib: Data sets whose decoded frames fit in so much memory are kept there; others are
            decoded anew for each batch.
        num_workers: Processes that decode; None takes as many as there are cores, up to eight.
        num_batches_ahead: Batches that are decoded before they are asked for.
    """

    cache_gib: float = 4.0
    num_workers: int | None = None
    num_batches_ahead: int = 3

    def __post_init__(self) -> None:
        _require(self.cache_gib >= 0, "cache_gib", "0 or more", self.cache_gib)
        _require(
            self.num_workers is None or self.num_workers > 0,
            "num_workers",
            "a positive number",
            self.num_workers,
        )
        _require_positive(self, "num_batches_ahead")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """One small convolutional encoder a camera.

    Attributes:
        stem_channels: Channels of the first, strided convolution.
        channels: Channels of the feature map.
        num_keypoints: Features whose place in the image is read.
        pooled_size: Side of the grid of averaged features beside the keypoints.
    """

    stem_channels: int = 32
    channels: int = 64
    num_keypoints: int = 32
    pooled_size: int = 3

    def __post_init__(self) -> None:
        _require_positive(self, "stem_channels", "channels", "num_keypoints", "pooled_size")
        for name in ("stem_channels", "channels"):
            value = getattr(self, name)
            _require(value % 8 == 0, name, "a multiple of 8 (normalisation groups)", value)


@dataclass(frozen=True, kw_only=True)
class FlowHeadConfig:
    """The transformer that denoises an action chunk.

    Attributes:
        width: Width of a token. It should exceed the numbers that a token stands for.
        depth: Transformer blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden units of a block's MLP, by its width.
        timesteps_per_token: Successive control steps that share one token.
        flow_times_per_image: Noise levels trained for each encoded image.
    """

    width: int = 192
    depth: int = 3
    num_heads: int = 4
    mlp_ratio: int = 3
    timesteps_per_token: int = 4
    flow_times_per_image: int = 4

    def __post_init__(self) -> None:
        _require_positive(
            self,
            "width",
            "depth",
            "num_heads",
            "mlp_ratio",
            "timesteps_per_token",
            "flow_times_per_image",
        )
        _require(
            self.width % (2 * self.num_heads) == 0,
            "width",
            f"a multiple of twice num_heads ({2 * self.num_heads})",
            self.width,
        )


@dataclass(frozen=True, kw_only=True)
class DiffusionHeadConfig:
    """The convolutional diffusion policy's head: a U-Net over the chunk's time that tells noise.

    Chi et al. 2023, arXiv:2303.04137. It is trained as a DDPM and sampled by DDIM.

    Attributes:
        channels: Of each level; every level after the first has half the timesteps.
        kernel_size: Timesteps that a convolution sees; odd.
        num_levels: Levels of noise in training.
        levels_per_image: Of these, trained for each encoded image.
    """

    channels: tuple[int, ...] = (96, 192)
    kernel_size: int = 5
    num_levels: int = 100
    levels_per_image: int = 4

    def __post_init__(self) -> None:
        _require_positive(self, "kernel_size", "num_levels", "levels_per_image")


@dataclass(frozen=True, kw_only=True)
class RegressionHeadConfig:
    """ACT's head without its latent style: a transformer that tells the chunk at once, by L1.

    Zhao et al. 2023, arXiv:2304.13705.

    Attributes:
        width: Of a token.
        decoder_depth: Transformer blocks.
        num_heads: Attention heads.
    """

    width: int = 192
    decoder_depth: int = 4
    num_heads: int = 4

    def __post_init__(self) -> None:
        _require_positive(self, "width", "decoder_depth", "num_heads")


BaselineHeadConfig = DiffusionHeadConfig | RegressionHeadConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A policy of convolutions and a head.

    Attributes:
        vision: An encoder a camera; all cameras' tokens have flow_head.width.
        flow_head: The head, unless a baseline takes its place.
        baseline: Another head, to compare with.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    flow_head: FlowHeadConfig = field(default_factory=FlowHeadConfig)
    baseline: BaselineHeadConfig | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; the learning rate rises linearly, then falls to its final fraction.

    Attributes:
        learning_rate: The greatest one, after the warm-up.
        warmup_steps: Optimizer steps of linear rise.
        schedule: It falls along a cosine; or stays, and falls along a line at the end, so that a
            run of any length can be decided upon while it lasts.
        decay_fraction: The part of all steps in which constant_decay falls.
        final_learning_rate_fraction: Where it ends, as a fraction of the greatest.
        weight_decay: Acts on matrices and kernels alone, never on biases or norms.
        beta1: Decay of the gradients' average.
        beta2: Decay of the squared gradients' average.
        max_gradient_norm: Gradients longer than this are shortened to it.
        spike_factor: Steps whose gradient is more than so many times as long as the median of the
            last hundred are left out; None takes every step.
        multipliers: Of the learning rate, by a module's name: model.backbone.vision=0.1. The
            longest name that holds a parameter counts, and 0 freezes it.
    """

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
        _require_positive(self, "learning_rate", "max_gradient_norm")
        _require(
            self.spike_factor is None or self.spike_factor > 1,
            "spike_factor",
            "more than 1, or None",
            self.spike_factor,
        )
        _require(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        _require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        _require(
            0 < self.decay_fraction <= 1,
            "decay_fraction",
            "0 < fraction <= 1",
            self.decay_fraction,
        )
        for name in ("final_learning_rate_fraction", "beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, name, "0 <= value < 1", value)
        _ = self.multiplier_of

    @property
    def multiplier_of(self) -> Mapping[str, float]:
        """By a module's name."""
        return numbers_by_name("multipliers", self.multipliers)


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights, which is what a checkpoint holds.

    Without one (a greatest decay of 0) it holds the weights themselves, and no copy is kept.

    The decay grows with the steps taken, min(max_decay, (1 + k) / (10 + k)), so that an early
    checkpoint is an average of recent weights and not of the random first ones.

    Attributes:
        max_decay: What the decay grows to; 0 for no average.
    """

    max_decay: float = 0.998

    def __post_init__(self) -> None:
        _require(0 <= self.max_decay < 1, "max_decay", "0 <= decay < 1", self.max_decay)


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
        _require(
            not self.cpu_offload or self.kind != "none",
            "sharding.cpu_offload",
            "false where the kind of sharding is none",
            self.cpu_offload,
        )


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How a checkpoint asks to be run.

    Attributes:
        num_flow_steps: Euler steps a chunk.
        open_loop_steps: Actions executed before replanning.
    """

    num_flow_steps: int = 8
    open_loop_steps: int = 8

    def __post_init__(self) -> None:
        _require_positive(self, "num_flow_steps", "open_loop_steps")


class RunFields(Protocol):
    """What the configurations of all kinds of training have in common."""

    kind: ClassVar[str]
    # Fields that may be others when a run goes on.
    may_change: ClassVar[tuple[str, ...]]

    @property
    def data(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
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


def numbers_by_name(field_name: str, texts: Sequence[str]) -> dict[str, float]:
    """`name=number` of each, the numbers 0 or more. Raises ConfigurationError."""
    numbers: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        is_new = bool(name) and name not in numbers
        _require(
            is_new and 0 <= value < float("inf"),
            field_name,
            "name=number, the number 0 or more, each name once",
            text,
        )
        numbers[name] = value
    return numbers


def require_one_budget(budgets: Mapping[str, int | None]) -> None:
    """Of several units to count a run in, just one may be used."""
    _require(
        sum(value is not None for value in budgets.values()) == 1,
        ", ".join(budgets),
        "exactly one of them",
        tuple(budgets.values()),
    )
    for name, value in budgets.items():
        _require(value is None or value > 0, name, "a positive number", value)


def require_run_fields(config: RunFields) -> None:
    _require_positive(config, "batch_size", "validation_every", "save_state_every")
    _require(
        config.num_threads is None or config.num_threads > 0,
        "num_threads",
        "a positive number",
        config.num_threads,
    )
    _require(
        all(0 < step <= config.total_steps for step in config.checkpoint_steps),
        "checkpoint_steps",
        f"optimizer steps from 1 to {config.total_steps}",
        config.checkpoint_steps,
    )
    _require(0 <= config.seed < 2**63, "seed", "0 <= seed < 2**63", config.seed)
    _require(
        config.device in ("auto", "cpu", "cuda") or config.device.removeprefix("cuda:").isdigit(),
        "device",
        "auto, cpu, cuda or cuda:N",
        config.device,
    )


def kept_steps(config: RunFields) -> tuple[int, ...]:
    """Every optimizer step with a checkpoint, ascending, the last one included."""
    return tuple(sorted({*config.checkpoint_steps, config.total_steps}))


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """One training run of a policy of any network.

    The budget is num_steps or num_samples, whichever is given.

    Attributes:
        data: Demonstrations, in any format that `trainer data inspect` recognises.
        more_data: PATH=WEIGHT of further ones, of the same station: WEIGHT times as many windows
            are seen of them as of `data`.
        name: The policy's name, in reports.
        cameras: Those the policy looks at; None takes all that were recorded.
        chunk_length: Control steps predicted at once, the anchor's own included.
        batch_size: Windows an optimizer step.
        num_steps: Budget in optimizer steps.
        num_samples: Budget in windows seen.
        checkpoint_steps: Optimizer steps whose checkpoints are kept; the last one always is.
        validation_episodes: Held out of training, the last ones by scenario index.
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
        optimizer: AdamW and its learning rate.
        ema: The average of the weights that a checkpoint holds.
        sharding: How several ranks hold the network.
        serving: How a checkpoint asks to be run.
    """

    kind: ClassVar[str]
    may_change: ClassVar[tuple[str, ...]] = ("data", "loader", "sharding")

    data: str = ""
    more_data: tuple[str, ...] = ()
    name: str = "policy"
    cameras: tuple[str, ...] | None = None
    chunk_length: int = 16
    batch_size: int = 64
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
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        _require_positive(self, "chunk_length", "batch_size")
        require_one_budget({"num_steps": self.num_steps, "num_samples": self.num_samples})
        _require(
            all(self.weight_of.values()) and self.data not in self.weight_of,
            "more_data",
            "other places than data, with weights of more than 0",
            self.more_data,
        )
        _require(
            self.total_steps > 0, "num_samples", f"at least {self.batch_size}", self.num_samples
        )
        require_run_fields(self)
        _require(
            self.cameras is None or len(set(self.cameras)) == len(self.cameras) > 0,
            "cameras",
            "at least one camera, each once",
            self.cameras,
        )
        _require(
            self.validation_episodes >= 0,
            "validation_episodes",
            "0 or more",
            self.validation_episodes,
        )
        _require(
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
    def kept_steps(self) -> tuple[int, ...]:
        return kept_steps(self)


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
        _require(
            self.chunk_length % per_token == 0,
            "chunk_length",
            f"a multiple of model.flow_head.timesteps_per_token ({per_token})",
            self.chunk_length,
        )
