"""What the training of a vision-language model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from trainer.data.text.chat_format import ChatFormat
from trainer.data.text.encoding import Learnt
from trainer.hugging_face_configuration import (
    AnyLanguage,
    AnyVision,
    HuggingFaceVision,
    HuggingFaceVisionLanguage,
    chat_of,
    language_network,
    require_image_size,
    vision_network,
)
from trainer.language_configuration import TextTrainConfig
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.requirements import require, require_positive


@dataclass(frozen=True, kw_only=True)
class VisionLanguageShape:
    """A vision tower whose tokens stand among a language model's words.

    Attributes:
        language: The language model, ours or one of Hugging Face's. From a checkpoint (--init) it
            is that of the checkpoint.
        vision: The vision tower, ours or one of Hugging Face's, and its connector. From a
            vision-language model's checkpoint it is that of the checkpoint.
        image_size: Pixels a side that images are resized to.
        bidirectional_prefix: Whether what comes before a dialogue's first answer, pictures and
            words, sees each other in both directions.
    """

    language: AnyLanguage
    vision: AnyVision
    image_size: int = 96
    bidirectional_prefix: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "image_size")
        require_image_size(self.vision, self.image_size)

    @property
    def is_known(self) -> bool:
        """Whether its tower's folder, if there is one, has been read."""
        return not isinstance(self.vision, HuggingFaceVision) or self.vision.is_known

    @property
    def tokens_per_image(self) -> int:
        return self.vision.num_tokens(self.image_size, self.image_size)

    @property
    def chat(self) -> ChatFormat | None:
        """How dialogues are written; None for our own way."""
        return chat_of(self.language)

    def network(self, image_token: int, *, pretrained: bool = False) -> VisionLanguageConfig:
        """pretrained: with the weights of a folder of Hugging Face's, where there is one."""
        return VisionLanguageConfig(
            language=language_network(self.language, pretrained=pretrained),
            vision=vision_network(self.vision, pretrained=pretrained),
            image_token=image_token,
            bidirectional_prefix=self.bidirectional_prefix,
        )

    def build(self, image_token: int, *, pretrained: bool = False) -> VisionLanguageModel:
        """See `network`."""
        return VisionLanguageModel(self.network(image_token, pretrained=pretrained))


@dataclass(frozen=True, kw_only=True)
class HuggingFaceAnswererShape:
    """A vision-language model of Hugging Face's that learns to answer.

    Attributes:
        backbone: The model. From a checkpoint (--init) it is that of the checkpoint.
        image_size: Pixels a side that images are resized to.
        context_length: Tokens of the longest document; longer ones are cut.
    """

    backbone: HuggingFaceVisionLanguage
    image_size: int = 224
    context_length: int = 512

    def __post_init__(self) -> None:
        require_positive(self, "image_size", "context_length")

    @property
    def is_known(self) -> bool:
        """Whether its folder has been read."""
        return bool(self.backbone.shape)

    @property
    def tokens_per_image(self) -> int:
        return self.backbone.pictures(self.image_size).tokens_per_image

    @property
    def vocabulary_size(self) -> int:
        return self.backbone.vocabulary_size

    @property
    def transformer(self) -> TransformerConfig:
        return self.backbone.transformer

    @property
    def chat(self) -> ChatFormat:
        return self.backbone.chat

    def build(self, image_token: int, *, pretrained: bool = False) -> HuggingFaceAnswerer:
        """pretrained: with the weights of the folder, not with random ones."""
        return HuggingFaceAnswerer(
            self.backbone.network(pretrained=pretrained),
            self.backbone.pictures(self.image_size),
            image_token=image_token,
        )


def _smallest_shape() -> VisionLanguageShape:
    return VisionLanguageShape(
        language=LanguageConfig(
            transformer=TransformerConfig(width=64, depth=2, num_heads=2),
            vocabulary_size=512,
            context_length=128,
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
    )


@dataclass(frozen=True, kw_only=True)
class VisionLanguageTrainConfig(TextTrainConfig):
    """One training run of a model that answers about pictures.

    Attributes:
        name: The model's name, in reports.
        init: Checkpoint of a language model, or of a vision-language model, to begin with; without
            one all begins at random.
        init_except: Its tensors, by name or by beginning, that may be missing or unexpected.
        num_answers: Held-out pictures that the model is asked about at each measurement.
        model: The network.
    """

    kind: ClassVar[str] = "vision_language"
    learnt: ClassVar[Learnt] = "answers"
    # Of a run that has begun the weights are its own.
    may_differ: ClassVar[tuple[str, ...]] = (*TextTrainConfig.may_differ, "data", "init")

    name: str = "vision_language_model"
    init: str = ""
    init_except: tuple[str, ...] = ()
    num_answers: int = 3
    model: VisionLanguageShape | HuggingFaceAnswererShape = field(default_factory=_smallest_shape)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_answers >= 0, "num_answers", "0 or more", self.num_answers)
        if isinstance(self.model, HuggingFaceAnswererShape):
            # Of several ranks, all would have to compute as often as one does.
            require(
                self.sharding.kind == "none",
                "sharding.kind",
                "none: documents of such a model are not cut into equal parts",
                self.sharding.kind,
            )
        if not self.model.is_known:
            return
        require(
            self.language.context_length > self.tokens_per_image,
            f"{self.language_field}.context_length",
            f"more than the {self.tokens_per_image} tokens of an image",
            self.language.context_length,
        )

    @property
    def language(self) -> AnyLanguage | HuggingFaceAnswererShape:
        if isinstance(self.model, HuggingFaceAnswererShape):
            return self.model
        return self.model.language

    @property
    def language_field(self) -> str:
        return "model" if isinstance(self.model, HuggingFaceAnswererShape) else "model.language"

    @property
    def chat(self) -> ChatFormat | None:
        return self.model.chat

    @property
    def tokens_per_image(self) -> int:
        return self.model.tokens_per_image
