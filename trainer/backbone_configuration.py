"""The vision-language model that a policy is built on, as a run may choose it part by part."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.text.chat_format import ChatFormat
from trainer.hugging_face_configuration import (
    AnyLanguage,
    AnyVision,
    chat_of,
    language_network,
    require_image_size,
    vision_network,
)
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision_language import VisionLanguageConfig
from trainer.requirements import require, require_positive


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """A language model and a vision tower, to which an instruction and pictures are told.

    Attributes:
        language: The language model, ours or one of Hugging Face's. From a checkpoint (--init) it
            is that of the checkpoint.
        vision: The vision tower, ours or one of Hugging Face's, and its connector. From a
            checkpoint it is that of the checkpoint.
        bidirectional_prefix: Whether images, words and, where it is told, the body's state see
            each other in both directions. Actions that are told in words stay causal.
        image_size: Pixels a side that each camera's images are resized to.
        instruction_tokens: Longest instruction that can be told.
    """

    language: AnyLanguage
    vision: AnyVision
    bidirectional_prefix: bool = True
    image_size: int = 96
    instruction_tokens: int = 32

    def __post_init__(self) -> None:
        require_positive(self, "image_size", "instruction_tokens")
        require_image_size(self.vision, self.image_size)
        if isinstance(self.language, LanguageConfig):
            causal = self.language.transformer.causal
            require(causal, "model.language.transformer.causal", "true", causal)

    def require_views(self, num_images: int) -> None:
        """Of an observation. Raises ConfigurationError for a tower that is modulated for others."""
        views = getattr(self.vision, "modulated_views", 0)
        require(
            views in (0, num_images),
            "model.vision.modulated_views",
            f"0, or the {num_images} images of an observation",
            views,
        )

    @property
    def tokens_per_image(self) -> int:
        return self.vision.num_tokens(self.image_size, self.image_size)

    @property
    def vocabulary_size(self) -> int:
        """Of the language."""
        return self.language.vocabulary_size

    @property
    def chat(self) -> ChatFormat | None:
        """How prompts are written; None for our own way."""
        return chat_of(self.language)

    def backbone_network(self, *, image_token: int, pretrained: bool) -> VisionLanguageConfig:
        """pretrained: with the weights of a folder of Hugging Face's, where there is one."""
        return VisionLanguageConfig(
            language=language_network(self.language, pretrained=pretrained),
            vision=vision_network(self.vision, pretrained=pretrained),
            image_token=image_token,
            bidirectional_prefix=self.bidirectional_prefix,
        )
