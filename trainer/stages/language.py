"""Language models, trained from scratch on packed text, and what all models of text share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from trainer.data.text.packing import PackedSequence
from trainer.language_checkpoint import LanguageCheckpoint, write_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig, TextTrainConfig
from trainer.language_learner import LanguageLearner, TextBatch
from trainer.language_sampling import continuation
from trainer.learner import TrainingDivergedError, num_threads_of
from trainer.models.language.generation import GenerationConfig
from trainer.models.language.language_model import LanguageModel
from trainer.run_directory import RunDirectory
from trainer.stages.language_data import LanguageData, TextOpening
from trainer.stages.portioned_text import PortionedOpening
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.stages.text_batches import TextBatches
from trainer.throughput import training_flops_per_token

# Nats a token; one that knows nothing has some ten.
_LOSS_OF_NO_MODEL = 700.0


def open_language_stage(
    config: LanguageTrainConfig, run: RunDirectory
) -> Callable[[], LanguageStage]:
    opening = PortionedOpening.of(config, run) or TextOpening.of(
        config, run, has_begun=run.has_state()
    )
    return lambda: LanguageStage(config, opening.prepare())


class TextStage(Stage[Any, Any]):
    """What models of text have in common. learner: a TextLearner."""

    knows_ranks: ClassVar[bool] = True

    def __init__(self, config: TextTrainConfig, data: LanguageData) -> None:
        self._config, self._data = config, data
        self.data_digest = data.digest
        self._batches = TextBatches(config, data, self._batch)
        self._measured: dict[str, float] | None = None

    @abstractmethod
    def _batch(self, sequences: Sequence[PackedSequence]) -> Any:
        """A TextBatch, or what else the learner takes."""

    @abstractmethod
    def _flops(self) -> float:
        """Of an optimizer step."""

    @abstractmethod
    def _said(self) -> dict[str, str]:
        """What the model says at a measurement, by name."""

    def describe(self) -> str:
        data = self._data
        return (
            f"{data.training.describe()} ({data.num_held_out_documents} documents held out), "
            f"vocabulary {data.vocabulary.tokenizer.vocabulary_size}"
        )

    def batches(self, start: int, stop: int) -> Iterator[Any]:
        for step in range(start, stop):
            yield self._batches.share(step, self.learner.world)

    def step(self, batch: Any, step: int) -> StepReport:
        batch = self._batches.counted(batch, self.learner.world, self.learner.device)
        # Nothing in a step is random: order and initial weights alone are.
        result = self.learner.step(batch, step, torch.Generator())
        return StepReport(
            result=result,
            counts={"samples": self._config.batch_size, "tokens": batch.num_tokens},
            flops=self._flops(),
        )

    def measure(self) -> Measurement | None:
        texts = self._said()
        held_out = self._batches.held_out()
        if held_out is None:
            return Measurement(scalars={}, told="nothing held out", texts=texts)
        loss = self.learner.cross_entropy(held_out)
        # Also the logarithm of more than a float holds.
        if not loss < _LOSS_OF_NO_MODEL:
            raise TrainingDivergedError(
                f"held-out loss: {loss:.3g} nats a token, expected a model's; a lower "
                "optimizer.learning_rate may help: with it the run goes on from its last save"
            )
        self._measured = {"loss": loss, "perplexity": math.exp(loss)}
        return Measurement(
            scalars=self._measured,
            told=f"held-out loss {loss:.3f}, perplexity {math.exp(loss):.2f}",
            texts=texts,
        )

    def close(self) -> None:
        self._data.training.close()

    def _provenance(self) -> dict[str, Any]:
        data = self._data
        return {
            "held_out": self._measured,
            "data": self._config.data,
            "data_sha256": data.digest,
            "num_held_out_documents": data.num_held_out_documents,
            **data.training.facts(),
        }


class LanguageStage(TextStage):
    learner: LanguageLearner

    def __init__(self, config: LanguageTrainConfig, data: LanguageData) -> None:
        super().__init__(config, data)
        self._config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = LanguageModel(config.model)
        self.learner = LanguageLearner(
            model, config, torch.device(config.device), num_threads=num_threads_of(config)
        )

    def _batch(self, sequences: Sequence[PackedSequence]) -> TextBatch:
        return TextBatch.of(sequences, self.learner.device)

    def _flops(self) -> float:
        return self._config.step_tokens * training_flops_per_token(self._config.model)

    def _said(self) -> dict[str, str]:
        drawn = GenerationConfig(max_new_tokens=self._config.sample_tokens, temperature=0.8)
        with self.learner.averaged() as model, self.learner.autocast():
            return {
                f"{number}": prompt + continuation(model, self._data.vocabulary, prompt, drawn)
                for number, prompt in enumerate(self._config.sample_prompts)
            }

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        write_language_checkpoint(
            LanguageCheckpoint(
                weights=self.learner.ema,
                config=self._config,
                tokenizer=self._data.vocabulary.tokenizer.content(),
                provenance={**provenance, **self._provenance()},
            ),
            path,
        )
