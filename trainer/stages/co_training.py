"""Policies that learn of pictures with words, and of text, in the same steps as of demonstrations.

Each of these data has its own tokens, order and held-out documents, in `also/NAME/` beside the run,
as a vision-language model's run has its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.co_training_configuration import AlsoSource
from trainer.co_training_learner import CoTrainedBatch, CoTrainingLearner
from trainer.data.batches import Batch
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.text.tokenizer import TextTokenizer
from trainer.distributed import current_world
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.plotting.answers import Answered, picture_of_answers
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory
from trainer.stages.answering import answers_about, in_words
from trainer.stages.language_data import LanguageData, TextOpening
from trainer.stages.policy import PolicyStage
from trainer.stages.stage import Measurement, StepReport
from trainer.stages.text_batches import TextBatches
from trainer.throughput import training_flops_per_token
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig
from trainer.vision_language_learner import PicturedBatch


@dataclass(frozen=True, kw_only=True)
class AlsoOpening:
    """One of the other data, looked at before anything is written."""

    source: AlsoSource
    config: VisionLanguageTrainConfig
    text: TextOpening

    @staticmethod
    def of(
        source: AlsoSource,
        config: VisionLanguageActionTrainConfig,
        run: RunDirectory,
        tokenizer: TextTokenizer | None,
    ) -> AlsoOpening:
        """tokenizer: the policy's, where it is known yet.

        Raises ConfigurationError, DataError, RunError.
        """
        size, micro = current_world().size, config.also.micro_batch_size
        if source.batch_size < size:
            raise ConfigurationError(
                f"also.data: expected at least {size} sequences of {source.path} an optimizer "
                f"step, one for each rank, got {source.batch_size}"
            )
        if micro is not None and source.batch_size % (size * micro):
            raise ConfigurationError(
                f"also.data: expected a multiple of {size * micro} sequences of {source.path} an "
                f"optimizer step for {size} ranks of {micro} at once, got {source.batch_size}"
            )
        as_a_run = run_of(source, config)
        folder = RunDirectory(root=run.root / "also" / source.name)
        text = TextOpening.of(as_a_run, folder, tokenizer, has_begun=run.has_state())
        return AlsoOpening(source=source, config=as_a_run, text=text)

    def texts(self) -> Iterator[str]:
        """What there is to learn from, for a tokenizer of it."""
        self.text.run.root.mkdir(parents=True, exist_ok=True)
        return self.text.texts()

    def prepare(self, tokenizer: TextTokenizer) -> LanguageData:
        self.text.run.root.mkdir(parents=True, exist_ok=True)
        return replace(self.text, tokenizer=tokenizer).prepare()


def run_of(
    source: AlsoSource, config: VisionLanguageActionTrainConfig
) -> VisionLanguageTrainConfig:
    """What the policy's run does with one of the other data, as a run of its own would."""
    shape, also = config.model, config.also
    assert isinstance(shape, VisionLanguageActionShape)
    return VisionLanguageTrainConfig(
        data=source.path,
        name=source.name,
        batch_size=source.batch_size,
        num_steps=config.total_steps,
        validation_documents=also.validation_documents,
        validation_sequences=also.validation_sequences,
        num_answers=also.num_answers,
        seed=config.seed,
        model=VisionLanguageShape(
            language=shape.language,
            vision=shape.vision,
            image_size=shape.image_size,
            bidirectional_prefix=shape.bidirectional_prefix,
        ),
    )


@dataclass(kw_only=True, eq=False)
class _Other:
    """answers: of the last measurement."""

    opening: AlsoOpening
    data: LanguageData
    batches: TextBatches
    answers: list[Answered]


class CoTrainedPolicyStage(PolicyStage):
    learner: CoTrainingLearner

    def __init__(
        self,
        config: VisionLanguageActionTrainConfig,
        recordings: RobotRecordings,
        tokenizer: TextTokenizer,
        openings: Sequence[AlsoOpening],
        **options: Any,
    ) -> None:
        """options: see PolicyStage."""
        data = [opening.prepare(tokenizer) for opening in openings]
        super().__init__(config, recordings, tokenizer, **options)
        self._others = [
            _Other(
                opening=opening,
                data=one,
                batches=TextBatches(
                    opening.config,
                    one,
                    partial(
                        PicturedBatch.with_pictures,
                        size=config.model.image_size,
                        device=self.learner.device,
                    ),
                ),
                answers=[],
            )
            for opening, one in zip(openings, data, strict=True)
        ]
        self._flops_of_others = 0.0
        assert isinstance(config.model, VisionLanguageActionShape)
        language = config.model.language
        if isinstance(language, LanguageConfig):
            # As a vision-language model's run counts them: the ViT's part is left out.
            self._flops_of_others = training_flops_per_token(language) * sum(
                opening.config.step_tokens for opening in openings
            )
        digests = [self.data_digest, *(one.digest for one in data)]
        self.data_digest = hashlib.sha256(json.dumps(digests).encode()).hexdigest()

    def describe(self) -> str:
        others = [
            f"{other.opening.source.name} x {other.opening.source.weight:g} "
            f"({other.data.training.describe()}, {other.opening.source.batch_size} a step)"
            for other in self._others
        ]
        return ", and ".join([super().describe(), *others])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        world = self.learner.world
        for step, batch in zip(range(start, stop), super().batches(start, stop), strict=True):
            others = {
                other.opening.source.name: other.batches.share(step, world)
                for other in self._others
            }
            yield CoTrainedBatch.of(batch, others)

    def step(self, batch: Batch, step: int) -> StepReport:
        assert isinstance(batch, CoTrainedBatch)
        world, device = self.learner.world, self.learner.device
        others = {
            name: TextBatches.counted(share, world, device) for name, share in batch.others.items()
        }
        batch = replace(batch, others=others)
        report = super().step(batch, step)
        num_tokens = sum(other.num_tokens for other in batch.others.values())
        return replace(
            report,
            counts={**report.counts, "tokens": num_tokens},
            flops=report.flops + self._flops_of_others,
        )

    def measure(self) -> Measurement | None:
        own = super().measure() or Measurement(scalars={}, told="no episode held out")
        scalars, told, texts = dict(own.scalars), [own.told], dict(own.texts)
        for other in self._others:
            name, held_out = other.opening.source.name, other.batches.held_out()
            if held_out is None:
                continue
            scalars[f"loss_{name}"] = self.learner.cross_entropy(held_out)
            told.append(f"{name} {scalars[f'loss_{name}']:.3f}")
            with self.learner.averaged() as network, self.learner.autocast():
                backbone = network.model.backbone
                assert isinstance(backbone, VisionLanguageModel)
                other.answers = answers_about(other.data, other.opening.config, backbone)
            said = in_words(other.answers)
            texts |= {f"{name}_{number}": text for number, text in said.items()}
        return Measurement(scalars=scalars, told=", ".join(told), texts=texts)

    def pictures(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        answered = {
            f"answers_{other.opening.source.name}": picture_of_answers(other.answers)
            for other in self._others
            if other.answers
        }
        return {**super().pictures(), **answered}

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        also = {
            other.opening.source.name: {
                "data": other.opening.source.path,
                "weight": other.opening.source.weight,
                "data_sha256": other.data.digest,
                "num_documents": other.data.training.facts()["num_documents"],
            }
            for other in self._others
        }
        super().write_checkpoint(path, {**provenance, "also": also})
