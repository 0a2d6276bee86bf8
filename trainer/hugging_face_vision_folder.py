"""What a folder of Hugging Face's says of the vision tower in it: shape, and pictures as numbers.

Nothing of a folder is run.
"""

from __future__ import annotations

from dataclasses import replace

from trainer.hugging_face_configuration import HuggingFaceVision
from trainer.hugging_face_folder import image_processor, model_config
from trainer.models.hugging_face_common import shape_of
from trainer.models.hugging_face_vision import TOWERS
from trainer.requirements import ConfigurationError

# Models that see and read: pictures and words in one space.
_WITH_WORDS = ("clip", "siglip")


def read_vision_folder(vision: HuggingFaceVision) -> HuggingFaceVision:
    """With what its folder says. Raises ConfigurationError."""
    name = "model.vision"
    config = model_config(vision.path, None, f"{name}.path")
    tower = config.vision_config if config.model_type in _WITH_WORDS else config
    if tower.model_type not in TOWERS:
        raise ConfigurationError(
            f"{name}.path: expected one of {', '.join((*_WITH_WORDS, *TOWERS))}, got a "
            f"{config.model_type!r} in {vision.path}"
        )
    mean, std = vision.image_mean, vision.image_std
    if not (mean and std):
        processor = image_processor(vision.path, name)
        mean, std = mean or processor["image_mean"], std or processor["image_std"]
    return replace(
        vision,
        shape=shape_of(tower),
        image_mean=tuple(map(float, mean)),
        image_std=tuple(map(float, std)),
    )
