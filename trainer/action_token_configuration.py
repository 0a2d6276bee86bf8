"""The shape of a policy that tells actions in words, and what of it a run may choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.backbone_configuration import BackboneShape
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action_token_model import ActionTokenModelConfig
from trainer.models.language.configuration import LanguageConfig
from trainer.requirements import require


@dataclass(frozen=True, kw_only=True)
class ActionTokenShape(BackboneShape):
    """A vision-language model that tells a chunk of actions as words, one after another.

    Attributes:
        language: The language model, one of ours. From a checkpoint (--init) it is that of the
            checkpoint.
        tokens: How coarsely actions are told, and in how many words.
    """

    language: LanguageConfig
    tokens: ActionTokenConfig = field(default_factory=ActionTokenConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        # A beginning may put one of Hugging Face's here.
        require(
            isinstance(self.language, LanguageConfig),
            "model.language",
            "a language model of ours, which tells actions",
            type(self.language).__name__,
        )

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
            backbone=self.backbone_network(image_token=image_token, pretrained=pretrained),
            num_words=tokenizer.vocabulary_size,
            most_words=tokenizer.most_words,
            proprioception_size=proprioception_size,
        )
