"""The shape of a policy that tells actions in words, and what of it a run may choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.data.text.chat_format import ChatFormat
from trainer.hugging_face_configuration import (
    AnyVision,
    chat_of,
    language_network,
    require_image_size,
    vision_network,
)
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action_token_model import ActionTokenModelConfig
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision_language import VisionLanguageConfig
from trainer.requirements import require, require_positive


@dataclass(frozen=True, kw_only=True)
class ActionTokenShape:
    """A vision-language model that tells a chunk of actions as words, one after another.

    Attributes:
        language: The language model, one of ours. From a checkpoint (--init) it is that of the
            checkpoint.
        vision: The vision tower, ours or one of Hugging Face's, and its connector. From a
            checkpoint it is that of the checkpoint.
        bidirectional_prefix: Whether images, words and the body's state see each other in both
            directions; what is told of actions stays causal.
        image_size: Pixels a side that each camera's images are resized to.
        instruction_tokens: Longest instruction that can be told.
        tokens: How coarsely actions are told, and in how many words.
    """

    language: LanguageConfig
    vision: AnyVision
    bidirectional_prefix: bool = True
    image_size: int = 96
    instruction_tokens: int = 32
    tokens: ActionTokenConfig = field(default_factory=ActionTokenConfig)

    def __post_init__(self) -> None:
        require_positive(self, "image_size", "instruction_tokens")
        require_image_size(self.vision, self.image_size)
        # A beginning may put one of Hugging Face's here.
        require(
            isinstance(self.language, LanguageConfig),
            "model.language",
            "a language model of ours, which tells actions",
            type(self.language).__name__,
        )
        causal = self.language.transformer.causal
        require(causal, "model.language.transformer.causal", "true", causal)

    @property
    def tokens_per_image(self) -> int:
        return self.vision.num_tokens(self.image_size, self.image_size)

    @property
    def vocabulary_size(self) -> int:
        """Of the language: words of actions are others."""
        return self.language.vocabulary_size

    @property
    def chat(self) -> ChatFormat | None:
        """How prompts are written; None for our own way."""
        return chat_of(self.language)

    def network(
        self,
        *,
        image_token: int,
        tokenizer: ActionTokenizer,
        proprioception_size: int,
        pretrained: bool = False,
    ) -> ActionTokenModelConfig:
        """pretrained: with the weights of a folder of Hugging Face's, where there is one."""
        return ActionTokenModelConfig(
            backbone=VisionLanguageConfig(
                language=language_network(self.language, pretrained=pretrained),
                vision=vision_network(self.vision, pretrained=pretrained),
                image_token=image_token,
                bidirectional_prefix=self.bidirectional_prefix,
            ),
            num_words=tokenizer.vocabulary_size,
            most_words=tokenizer.most_words,
            proprioception_size=proprioception_size,
        )
