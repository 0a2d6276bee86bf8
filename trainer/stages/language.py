"""Language models, trained from scratch on packed text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trainer.data.sampling import Mixture, Source
from trainer.language_checkpoint import LanguageCheckpoint, write_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.language_learner import LanguageLearner, TextBatch
from trainer.language_sampling import continuation
from trainer.learner import num_threads_of
from trainer.models.language.generation import GenerationConfig
from trainer.models.language.language_model import LanguageModel
from trainer.run_directory import RunDirectory
from trainer.stages.language_data import LanguageData, TextOpening
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.throughput import training_flops_per_token


def open_language_stage(
    config: LanguageTrainConfig, run: RunDirectory
) -> Callable[[], LanguageStage]:
    opening = TextOpening.of(config, run)
    return lambda: LanguageStage(config, opening.prepare())


class LanguageStage(Stage[LanguageLearner, TextBatch]):
    def __init__(self, config: LanguageTrainConfig, data: LanguageData) -> None:
        self._config, self._data = config, data
        self.data_digest = data.digest
        device = torch.device(config.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = LanguageModel(config.model)
        self.learner = LanguageLearner(model, config, device, num_threads=num_threads_of(config))
        source = Source(name=config.data, num_samples=len(data.training))
        self._order = Mixture([source], config.seed)
        self._flops = config.step_tokens * training_flops_per_token(config.model)
        self._held_out_batch: TextBatch | None = None
        self._measured: dict[str, float] | None = None

    def describe(self) -> str:
        data = self._data
        return (
            f"{data.num_tokens:,} tokens of {data.num_documents} documents "
            f"({len(data.training)} sequences of {data.training.length}, "
            f"{data.training.filled:.0%} filled; {data.num_held_out_documents} held out), "
            f"vocabulary {data.vocabulary.tokenizer.vocabulary_size}"
        )

    def batches(self, start: int, stop: int) -> Iterator[TextBatch]:
        world, device = self.learner.world, self.learner.device
        for step in range(start, stop):
            samples = self._order.batch(step, self._config.batch_size, world.rank, world.size)
            sequences = [self._data.training.sequence(int(index)) for index in samples.index]
            share = TextBatch.of(sequences, device)
            num_tokens, num_learnt = world.total([share.num_tokens, share.num_learnt], device)
            yield replace(share, num_tokens=num_tokens, num_learnt=num_learnt)

    def step(self, batch: TextBatch, step: int) -> StepReport:
        # Nothing in a step is random: order and initial weights alone are.
        result = self.learner.step(batch, step, torch.Generator())
        return StepReport(
            result=result,
            counts={"samples": self._config.batch_size, "tokens": batch.num_tokens},
            flops=self._flops,
        )

    def measure(self) -> Measurement | None:
        texts = self._continuations()
        held_out = self._held_out()
        if held_out is None:
            return Measurement(scalars={}, told="nothing held out", texts=texts)
        loss = self.learner.cross_entropy(held_out)
        self._measured = {"loss": loss, "perplexity": math.exp(loss)}
        return Measurement(
            scalars=self._measured,
            told=f"held-out loss {loss:.3f}, perplexity {math.exp(loss):.2f}",
            texts=texts,
        )

    def _held_out(self) -> TextBatch | None:
        packed = self._data.held_out
        if packed is not None and self._held_out_batch is None:
            count = min(len(packed), self._config.validation_sequences)
            sequences = [packed.sequence(index) for index in range(count)]
            self._held_out_batch = TextBatch.of(sequences, self.learner.device)
        return self._held_out_batch

    def _continuations(self) -> dict[str, str]:
        drawn = GenerationConfig(max_new_tokens=self._config.sample_tokens, temperature=0.8)
        with self.learner.averaged() as model, self.learner.autocast():
            return {
                f"{number}": prompt + continuation(model, self._data.vocabulary, prompt, drawn)
                for number, prompt in enumerate(self._config.sample_prompts)
            }

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        data = self._data
        write_language_checkpoint(
            LanguageCheckpoint(
                weights=self.learner.ema,
                config=self._config,
                tokenizer=data.vocabulary.tokenizer.content(),
                provenance={
                    **provenance,
                    "held_out": self._measured,
                    "data": self._config.data,
                    "data_sha256": data.digest,
                    "num_documents": data.num_documents,
                    "num_held_out_documents": data.num_held_out_documents,
                    "num_tokens_of_data": data.num_tokens,
                },
            ),
            path,
        )
