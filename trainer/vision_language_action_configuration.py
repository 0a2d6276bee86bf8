"""What the training of a policy on a vision-language model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from trainer.action_token_configuration import ActionTokenShape
from trainer.backbone_configuration import BackboneShape
from trainer.co_training_configuration import AlsoConfig
from trainer.data.text.chat_format import ChatFormat
from trainer.history_configuration import HistoryConfig
from trainer.hugging_face_configuration import HuggingFaceVisionLanguage
from trainer.models.action.configuration import (
    ActionSpaceConfig,
    CrossAttentionConfig,
    ExpertConfig,
    FlowConfig,
    ObservationTokenConfig,
    Prediction,
    TimeConditioning,
    TimeConfig,
)
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language_action import VisionLanguageActionConfig
from trainer.policy_configuration import PolicyConfig
from trainer.requirements import require, require_choice, require_positive

ExpertReads = Literal["observation_token", "layers", "keys_values"]


@dataclass(frozen=True, kw_only=True)
class ExpertShape:
    """The network that denoises chunks.

    Attributes:
        transformer: Its blocks.
        reads: One token made to be read from; or all tokens, layer by layer, projected or as the
            backbone's own keys and values.
        num_layers: Last layers of the backbone whose outputs make the observation token.
        time_conditioning: Beside the observation token the flow's time is a token of its own, or
            is added to it.
        timesteps_per_token: Successive actions that share one token; one each where the
            observation token is read.
    """

    transformer: TransformerConfig
    reads: ExpertReads = "layers"
    num_layers: int = 2
    time_conditioning: TimeConditioning = "concat"
    timesteps_per_token: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "num_layers", "timesteps_per_token")
        require_choice(
            self, reads=get_args(ExpertReads), time_conditioning=get_args(TimeConditioning)
        )
        require(
            self.reads == "observation_token" or self.time_conditioning == "concat",
            "time_conditioning",
            "concat where no observation token is read, which time could be added to",
            self.time_conditioning,
        )
        require(
            self.reads != "observation_token" or self.timesteps_per_token == 1,
            "timesteps_per_token",
            "1 where the observation token is read",
            self.timesteps_per_token,
        )
        require(
            self.reads == "observation_token" or not self.transformer.causal,
            "transformer.causal",
            "false: a chunk's actions see each other",
            self.transformer.causal,
        )

    @property
    def expert(self) -> ExpertConfig:
        if self.reads == "observation_token":
            return ObservationTokenConfig(
                transformer=self.transformer,
                num_layers=self.num_layers,
                time_conditioning=self.time_conditioning,
            )
        return CrossAttentionConfig(
            transformer=self.transformer,
            source=self.reads,
            timesteps_per_token=self.timesteps_per_token,
        )


@dataclass(frozen=True, kw_only=True)
class _ExpertTraining:
    """How an expert is trained.

    Attributes:
        time: Where between chunk and noise the expert is trained.
        predicts: What it predicts: the velocity from chunk to noise, or the clean chunk, which
            needs no token wider than its numbers.
        repeats: Draws of time and noise for each observation; the backbone runs once for all.
        action_clamp: Noisy actions are kept within this of zero, in training and in serving; None
            for no bound.
        input_noise: Deviation of noise on every action and embedded proprioception that the expert
            reads in training.
    """

    time: TimeConfig = field(default_factory=TimeConfig)
    predicts: Prediction = "velocity"
    repeats: int = 4
    action_clamp: float | None = None
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "repeats")
        require_choice(self, predicts=get_args(Prediction))
        require(
            self.action_clamp is None or self.action_clamp > 0,
            "action_clamp",
            "a positive number or None",
            self.action_clamp,
        )
        require(self.input_noise >= 0, "input_noise", "0 or more", self.input_noise)

    @property
    def objective(self) -> FlowConfig:
        return FlowConfig(
            time=self.time,
            predicts=self.predicts,
            repeats=self.repeats,
            clamp=self.action_clamp,
            input_noise=self.input_noise,
        )


@dataclass(frozen=True, kw_only=True)
class VisionLanguageActionShape(BackboneShape, _ExpertTraining):
    """A vision-language model and the expert on it.

    Attributes:
        expert: The network that denoises chunks.
    """

    expert: ExpertShape

    def __post_init__(self) -> None:
        BackboneShape.__post_init__(self)
        _ExpertTraining.__post_init__(self)

    def network(
        self, *, image_token: int, space: ActionSpaceConfig, pretrained: bool = False
    ) -> VisionLanguageActionConfig:
        """pretrained: with the weights of a folder of Hugging Face's, where there is one.

        Raises ConfigurationError where an expert does not fit the backbone, or a token it.
        """
        return VisionLanguageActionConfig(
            backbone=self.backbone_network(image_token=image_token, pretrained=pretrained),
            expert=self.expert.expert,
            space=space,
            objective=self.objective,
        )


@dataclass(frozen=True, kw_only=True)
class HuggingFaceActionShape(_ExpertTraining):
    """A vision-language model of Hugging Face's and the expert on it.

    Attributes:
        backbone: The vision-language model.
        expert: The network that denoises chunks.
        image_size: Pixels a side that each camera's images are resized to.
        instruction_tokens: Longest instruction that can be told.
    """

    backbone: HuggingFaceVisionLanguage
    expert: ExpertShape
    image_size: int = 224
    instruction_tokens: int = 48

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "image_size", "instruction_tokens")
        require(
            self.expert.reads != "keys_values",
            "model.expert.reads",
            "layers or observation_token: models of Hugging Face give no keys and values",
            self.expert.reads,
        )

    @property
    def tokens_per_image(self) -> int:
        return self.backbone.pictures(self.image_size).tokens_per_image

    @property
    def vocabulary_size(self) -> int:
        return self.backbone.vocabulary_size

    @property
    def chat(self) -> ChatFormat:
        return self.backbone.chat

    def network(
        self, *, image_token: int, space: ActionSpaceConfig, pretrained: bool = False
    ) -> VisionLanguageActionConfig:
        """See VisionLanguageActionShape; image_token is the model's own."""
        del image_token
        return VisionLanguageActionConfig(
            backbone=self.backbone.network(pretrained=pretrained),
            expert=self.expert.expert,
            space=space,
            objective=self.objective,
        )


def _smallest_shape() -> VisionLanguageActionShape:
    return VisionLanguageActionShape(
        language=LanguageConfig(
            transformer=TransformerConfig(width=64, depth=2, num_heads=2), vocabulary_size=512
        ),
        vision=VisionTransformerConfig(
            width=64,
            depth=2,
            num_heads=2,
            feed_forward_width=128,
            patch_size=12,
            image_size=96,
            shuffle_factor=2,
        ),
        expert=ExpertShape(
            transformer=TransformerConfig(width=64, depth=2, num_heads=2, causal=False)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class VisionLanguageActionTrainConfig(PolicyConfig):
    """One training run of a policy that sees, reads an instruction and acts.

    Attributes:
        init: Checkpoint of a vision-language model, or of a policy that is told what to do, to
            begin with; without one all begins at random.
        tokenizer: A tokenizer.json; without one it is that of the checkpoint to begin with, or a
            byte-level BPE is trained on the instructions, and on the other data that are learnt.
        also: Pictures with words, and text, that are learnt in the same steps.
        history: What the policy sees and knows of past control steps.
        model: The network.
    """

    kind: ClassVar[str] = "vision_language_action"
    # Of a run that has begun the weights are its own, and the tokenizer's content is compared.
    may_differ: ClassVar[tuple[str, ...]] = (*PolicyConfig.may_differ, "tokenizer")
    may_change: ClassVar[tuple[str, ...]] = (*PolicyConfig.may_change, "also.micro_batch_size")

    tokenizer: str = ""
    also: AlsoConfig = field(default_factory=AlsoConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    model: VisionLanguageActionShape | HuggingFaceActionShape | ActionTokenShape = field(
        default_factory=_smallest_shape
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not isinstance(self.model, ActionTokenShape) or self.history == HistoryConfig(),
            "history",
            "none where a language model tells the actions, which it does of now alone",
            self.history,
        )
        require(
            not self.also.data or isinstance(self.model, VisionLanguageActionShape),
            "also.data",
            "none for a vision-language model of Hugging Face's, which learns no words here, or "
            "for a policy that tells actions in words",
            self.also.data,
        )
