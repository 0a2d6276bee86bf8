"""Who answers about pictures: a vision-language model's checkpoint, or that of a policy on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError, checkpoint_kind
from trainer.data.errors import DataError
from trainer.data.text.vocabulary import Vocabulary
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.generation import GenerationConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_answers import answer
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageTrainConfig

SPEAKING_KINDS = (VisionLanguageTrainConfig.kind, VisionLanguageActionTrainConfig.kind)


@dataclass(frozen=True, kw_only=True, eq=False)
class Speaker:
    """image_size: pixels a side that pictures are resized to."""

    model: VisionLanguageModel | HuggingFaceAnswerer
    vocabulary: Vocabulary
    image_size: int

    def answer(self, question: str, images: Sequence[bytes], drawn: GenerationConfig) -> str:
        """images: JPEG or PNG files. Raises DataError for a file that is none."""
        return answer(
            self.model, self.vocabulary, question, images, image_size=self.image_size, drawn=drawn
        )


def read_speaker(path: Path) -> Speaker:
    """In float32, in evaluation mode. Raises CheckpointError for what says nothing."""
    kind = checkpoint_kind(path)
    if kind == VisionLanguageTrainConfig.kind:
        seeing = read_vision_language_checkpoint(path)
        shape, model = seeing.config.model, build_vision_language_model(seeing)
        tokenizer = seeing.build_tokenizer()
    elif kind == VisionLanguageActionTrainConfig.kind:
        acting = read_checkpoint(path)
        assert isinstance(acting.config, VisionLanguageActionTrainConfig)
        shape = acting.config.model
        if not isinstance(shape, VisionLanguageActionShape | ActionTokenShape):
            raise CheckpointError(
                f"{path}: expected a model that answers, got a policy on a vision-language model "
                "of Hugging Face's, which learns no words here"
            )
        network, prompts = acting.build_network(), acting.build_prompts()
        assert isinstance(network, VisionLanguagePolicy | ActionTokenPolicy)
        assert prompts is not None
        assert isinstance(network.model.backbone, VisionLanguageModel)
        model, tokenizer = network.model.backbone, acting.build_tokenizer()
    else:
        raise CheckpointError(
            f"{path}: expected a model that answers about pictures, got a checkpoint of kind "
            f"{kind!r}"
        )
    try:
        vocabulary = Vocabulary.of(tokenizer, shape.tokens_per_image, shape.chat)
    except DataError as error:
        raise CheckpointError(f"{path}: its words are not enough to answer: {error}") from error
    return Speaker(model=model, vocabulary=vocabulary, image_size=shape.image_size)
