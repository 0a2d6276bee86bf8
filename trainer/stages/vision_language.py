"""Vision-language models, begun at random, from a language model or from one of their own kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer.data.text.packing import PackedSequence
from trainer.hugging_face_answers_learner import DocumentBatch, HuggingFaceAnswersLearner
from trainer.initialization import load_part
from trainer.language_checkpoint import LanguageCheckpoint, write_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.learner import num_threads_of
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.plotting.answers import Answered, picture_of_answers
from trainer.run_directory import RunDirectory
from trainer.stages.answering import answers_about, in_words
from trainer.stages.beginnings import (
    Beginning,
    begins_with_others,
    init_tokenizer,
    plain_weights,
    read_beginning,
)
from trainer.stages.language import TextStage
from trainer.stages.language_data import LanguageData, TextOpening
from trainer.throughput import training_flops_per_token
from trainer.vision_language_configuration import VisionLanguageTrainConfig
from trainer.vision_language_learner import PicturedBatch, VisionLanguageLearner


def open_vision_language_stage(
    config: VisionLanguageTrainConfig, run: RunDirectory
) -> Callable[[], VisionLanguageStage]:
    """Raises CheckpointError, ConfigurationError, DataError, RunError."""
    # Of a run that has begun the weights are in its state, and the words in its folder.
    has_begun = run.has_state()
    beginning = None if has_begun else read_beginning(config)
    tokenizer = None if has_begun and begins_with_others(config) else init_tokenizer(config)
    opening = TextOpening.of(config, run, tokenizer, has_begun=has_begun)
    # A language model's checkpoint has no vision tower.
    from_words = beginning is not None and isinstance(beginning.config, LanguageTrainConfig)
    pretrained = not has_begun and (beginning is None or from_words)

    def make() -> VisionLanguageStage:
        return VisionLanguageStage(
            config, opening.prepare(), beginning=beginning, pretrained=pretrained
        )

    return make


class VisionLanguageStage(TextStage):
    learner: VisionLanguageLearner | HuggingFaceAnswersLearner

    def __init__(
        self,
        config: VisionLanguageTrainConfig,
        data: LanguageData,
        *,
        beginning: Beginning | None = None,
        pretrained: bool = False,
    ) -> None:
        """beginning: whose weights it has first. pretrained: what is of Hugging Face's has those
        of its folder.

        Raises ConfigurationError for tensors that are not those of the network.
        """
        super().__init__(config, data)
        self._config = config
        # Of the last measurement.
        self._answers: list[Answered] = []
        image_token = data.vocabulary.template.image_token
        assert image_token is not None
        self._image_token = image_token
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = config.model.build(image_token, pretrained=pretrained)
        if beginning is not None:
            _begin_with(beginning, model, config)
        self.learner = _learner(model, config)

    def describe(self) -> str:
        begun = f", begun with {self._config.init}" if self._config.init else ""
        return super().describe() + begun

    def _batch(self, sequences: Sequence[PackedSequence]) -> PicturedBatch | DocumentBatch:
        size, device = self._config.model.image_size, self.learner.device
        if isinstance(self.learner, VisionLanguageLearner):
            return PicturedBatch.with_pictures(sequences, size, device)
        return DocumentBatch.of(
            sequences,
            size,
            device,
            image_token=self._image_token,
            tokens_per_image=self._config.tokens_per_image,
        )

    def _flops(self) -> float:
        # The ViT's part depends on how many pictures a batch has, and is left out; what is frozen
        # of a model of others takes less.
        language = self._config.language
        if not isinstance(language, LanguageConfig):
            return 0.0
        return self._config.step_tokens * training_flops_per_token(language)

    def _said(self) -> dict[str, str]:
        if self._data.shown is None:
            return {}
        with self.learner.averaged() as model, self.learner.autocast():
            self._answers = answers_about(self._data, self._config, model)
        return in_words(self._answers)

    def pictures(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        return {"answers": picture_of_answers(self._answers)} if self._answers else {}

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        write_language_checkpoint(
            LanguageCheckpoint(
                weights=self.learner.ema,
                config=self._config,
                tokenizer=self._data.vocabulary.tokenizer.content(),
                provenance={**provenance, **self._provenance(), "init": self._config.init},
            ),
            path,
        )


def _learner(
    model: VisionLanguageModel | HuggingFaceAnswerer, config: VisionLanguageTrainConfig
) -> VisionLanguageLearner | HuggingFaceAnswersLearner:
    device, num_threads = torch.device(config.device), num_threads_of(config)
    if isinstance(model, VisionLanguageModel):
        return VisionLanguageLearner(model, config, device, num_threads=num_threads)
    return HuggingFaceAnswersLearner(model, config, device, num_threads=num_threads)


def _begin_with(
    beginning: Beginning,
    model: VisionLanguageModel | HuggingFaceAnswerer,
    config: VisionLanguageTrainConfig,
) -> None:
    part: nn.Module = model
    if isinstance(model, VisionLanguageModel) and isinstance(beginning.config, LanguageTrainConfig):
        part = model.language
    load_part(part, plain_weights(beginning), source=config.init, exceptions=config.init_except)
    if part is not model:
        assert isinstance(model, VisionLanguageModel)
        model.reset_observation_token()
