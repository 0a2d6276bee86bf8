"""The kinds of training there are, each with its own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trainer.language_configuration import LanguageTrainConfig
from trainer.policy_configuration import TrainConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig

RunConfig = (
    TrainConfig | LanguageTrainConfig | VisionLanguageTrainConfig | VisionLanguageActionTrainConfig
)

KINDS: Mapping[str, type[RunConfig]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            TrainConfig,
            LanguageTrainConfig,
            VisionLanguageTrainConfig,
            VisionLanguageActionTrainConfig,
        )
    }
)
