"""The shape of an action expert, and how its flow is trained and integrated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from trainer.models.language.configuration import TransformerConfig
from trainer.requirements import require, require_choice, require_positive

TimeDistribution = Literal["uniform", "beta", "logit_normal"]
Solver = Literal["euler", "heun"]
TimeConditioning = Literal["concat", "add"]
ConditioningSource = Literal["keys_values", "layers"]
Prediction = Literal["velocity", "chunk"]


@dataclass(frozen=True, kw_only=True)
class TimeConfig:
    """Where on the way from action (0) to noise (1) the network is trained.

    Attributes:
        distribution: Uniform; Beta(alpha, beta), as pi0 draws it; or the logistic function of a
            normal, as Stable Diffusion 3 does.
        alpha: Of the beta distribution. Above 1, and beta at 1, noise is seen more often.
        beta: Of the beta distribution.
        mean: Of the normal.
        deviation: Of the normal.
        num_levels: Times are rounded down to so many levels from 0 on; None leaves them.
    """

    distribution: TimeDistribution = "uniform"
    alpha: float = 1.5
    beta: float = 1.0
    mean: float = 0.0
    deviation: float = 1.0
    num_levels: int | None = None

    def __post_init__(self) -> None:
        require_choice(self, distribution=get_args(TimeDistribution))
        require_positive(self, "alpha", "beta", "deviation")
        require(
            self.num_levels is None or self.num_levels > 0,
            "num_levels",
            "a positive number or None",
            self.num_levels,
        )


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Flow matching of action chunks.

    Attributes:
        time: Where it is trained.
        predicts: What the network's output is: the velocity from chunk to noise, or the clean
            chunk. Noise has to pass whole through a network that predicts velocities; a chunk
            lies on few dimensions, and needs no token wider than its numbers.
        repeats: Draws of time and noise for each observation; the backbone runs once for all.
        clamp: Noisy actions are kept within this of zero, in training and in sampling; None for
            no bound.
        input_noise: Deviation of noise on every action and proprioception that the network reads.
        num_steps: Of the sampler.
        solver: Euler asks the network once a step, Heun twice, but in the last step once.
    """

    time: TimeConfig = field(default_factory=TimeConfig)
    predicts: Prediction = "velocity"
    repeats: int = 1
    clamp: float | None = None
    input_noise: float = 0.0
    num_steps: int = 10
    solver: Solver = "euler"

    def __post_init__(self) -> None:
        require_positive(self, "repeats", "num_steps")
        require_choice(self, solver=get_args(Solver), predicts=get_args(Prediction))
        require(self.clamp is None or self.clamp > 0, "clamp", "a positive number", self.clamp)
        require(self.input_noise >= 0, "input_noise", "0 or more", self.input_noise)


@dataclass(frozen=True, kw_only=True)
class ObservationTokenConfig:
    """An expert that reads one token: the observation token's outputs of several layers.

    Attributes:
        transformer: Its blocks.
        num_layers: Last blocks of the backbone whose outputs make the token.
        time_conditioning: Time as a token of its own in front, or added to the observation.
        num_times: Rows of the learned table of times.
    """

    transformer: TransformerConfig
    num_layers: int = 4
    time_conditioning: TimeConditioning = "concat"
    num_times: int = 1000

    def __post_init__(self) -> None:
        require_positive(self, "num_layers", "num_times")
        require_choice(self, time_conditioning=get_args(TimeConditioning))


@dataclass(frozen=True, kw_only=True)
class CrossAttentionConfig:
    """An expert whose every block reads all of the backbone's tokens, at a layer of its own.

    Attributes:
        transformer: Its blocks. With keys and values as the source it has the backbone's depth,
            heads and rotary base.
        source: The backbone's own keys and values, as pi0 does; or its layers' outputs through
            a projection of each block, which suits any backbone.
        timesteps_per_token: Successive actions that share one token.
    """

    transformer: TransformerConfig
    source: ConditioningSource = "keys_values"
    timesteps_per_token: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "timesteps_per_token")
        require_choice(self, source=get_args(ConditioningSource))
        require(
            not self.transformer.causal,
            "transformer.causal",
            "False: a chunk's actions see each other",
            self.transformer.causal,
        )


ExpertConfig = ObservationTokenConfig | CrossAttentionConfig


@dataclass(frozen=True, kw_only=True)
class ActionSpaceConfig:
    """What is predicted, and what is known of the body.

    Attributes:
        action_size: Numbers an action.
        chunk_length: Actions predicted at once, past ones that are given included.
        proprioception_size: Numbers of the body's state a control step; 0 for none.
        proprioception_steps: Control steps of it.
    """

    action_size: int
    chunk_length: int
    proprioception_size: int = 0
    proprioception_steps: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "action_size", "chunk_length", "proprioception_steps")
        require(
            self.proprioception_size >= 0,
            "proprioception_size",
            "0 or more",
            self.proprioception_size,
        )

    @property
    def num_proprioception_tokens(self) -> int:
        return self.proprioception_steps if self.proprioception_size else 0
