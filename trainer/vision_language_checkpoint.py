"""A vision-language model's checkpoint: a language model's, of another kind of network."""

from __future__ import annotations

from pathlib import Path

from trainer.checkpoint_files import CheckpointError
from trainer.checkpoint_weights import network_of
from trainer.data.errors import DataError
from trainer.data.text.tokenizer import IMAGE
from trainer.language_checkpoint import LanguageCheckpoint, read_text_checkpoint
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.vision_language import VisionLanguageModel
from trainer.vision_language_configuration import VisionLanguageTrainConfig

VisionLanguageCheckpoint = LanguageCheckpoint[VisionLanguageTrainConfig]


def read_vision_language_checkpoint(path: Path) -> VisionLanguageCheckpoint:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    return read_text_checkpoint(path, VisionLanguageTrainConfig, "a vision-language model")


def build_vision_language_model(
    checkpoint: VisionLanguageCheckpoint,
) -> VisionLanguageModel | HuggingFaceAnswerer:
    """The model with its weights, in float32, in evaluation mode. Raises CheckpointError."""
    chat = checkpoint.config.chat
    try:
        tokenizer = checkpoint.build_tokenizer()
        image_token = tokenizer.special(IMAGE if chat is None else chat.image)
    except DataError as error:
        raise CheckpointError(f"tokenizer.json: no token for images: {error}") from error
    return network_of(lambda: checkpoint.config.model.build(image_token), checkpoint.weights)
