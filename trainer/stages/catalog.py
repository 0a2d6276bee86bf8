"""Which stage a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.policy_configuration import TrainConfig
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.stages.language import open_language_stage
from trainer.stages.policy import open_policy_stage
from trainer.stages.stage import Stage
from trainer.stages.vision_language import open_vision_language_stage
from trainer.stages.vision_language_action import open_vision_language_action_stage
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig


def open_stage(config: RunConfig, run: RunDirectory) -> Callable[[], Stage[Any, Any]]:
    """Look at the data, and return what makes the stage of them.

    Nothing is written before that is called. Raises ConfigurationError, DataError, RunError.
    """
    if isinstance(config, TrainConfig):
        return open_policy_stage(config, run)
    if isinstance(config, VisionLanguageActionTrainConfig):
        return open_vision_language_action_stage(config, run)
    if isinstance(config, VisionLanguageTrainConfig):
        return open_vision_language_stage(config, run)
    return open_language_stage(config, run)
