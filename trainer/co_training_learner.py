"""A policy's loss together with that of pictures and words, each with its weight.

    loss = actions + sum over the other data of weight x next-token loss

Every part goes through the vision-language model that the expert reads: what the policy sees and
reads by is kept able to speak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trainer.co_training_configuration import ACTIONS
from trainer.data.batches import Batch
from trainer.language_learner import mean_cross_entropy
from trainer.learner import StepResult
from trainer.models.language.cross_entropy import CrossEntropy
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.parts_of_rows import parts_of_rows
from trainer.policy_learner import VisionLanguageActionLearner
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_learner import PicturedBatch, pictured_loss


@dataclass(frozen=True, kw_only=True, eq=False)
class CoTrainedBatch(Batch):
    """others: by the name of their data."""

    others: Mapping[str, PicturedBatch]

    @staticmethod
    def of(batch: Batch, others: Mapping[str, PicturedBatch]) -> CoTrainedBatch:
        return CoTrainedBatch(**vars(batch), others=others)


class CoTrainingLearner(VisionLanguageActionLearner):
    def __init__(
        self,
        network: VisionLanguagePolicy,
        config: VisionLanguageActionTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        self._weights = {source.name: source.weight for source in config.also.sources}
        self._at_once = config.also.micro_batch_size
        self._measured_at_once = self._at_once or config.also.batch_size
        # Of the step's parts, by the name of their data; threads fill a place each.
        self._losses: dict[str, list[Tensor]] = {}

    def parts(self, batch: Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        assert isinstance(batch, CoTrainedBatch)
        parts = self._noted(ACTIONS, 1.0, super().parts(batch, generator))
        for name, weight in self._weights.items():
            other = batch.others[name]
            count = len(other.token_BS)
            rows = parts_of_rows(count, self._at_once or count, self.num_threads)
            shares = [partial(self._share, other, one) for one in rows]
            parts += self._noted(name, weight, shares)
        return parts

    def _share(self, batch: PicturedBatch, rows: slice) -> Tensor:
        loss = self._language_loss(batch, rows)
        return loss.loss * (loss.num_counted / batch.num_learnt)

    def _language_loss(self, batch: PicturedBatch, rows: slice) -> CrossEntropy:
        with self.autocast():
            return pictured_loss(self.network.model.say, batch, rows)

    def _noted(
        self, name: str, weight: float, parts: list[Callable[[], Tensor]]
    ) -> list[Callable[[], Tensor]]:
        """The same, weighted; what each comes to is kept to be told."""
        losses = [torch.zeros(())] * len(parts)
        self._losses[name] = losses

        def noted(place: int, part: Callable[[], Tensor]) -> Tensor:
            loss = part()
            losses[place] = loss.detach().float()
            return weight * loss

        return [partial(noted, place, part) for place, part in enumerate(parts)]

    def step(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        result = super().step(batch, step, generator)
        sums = torch.stack([torch.stack(losses).sum() for losses in self._losses.values()])
        self.world.sum([sums])
        losses = dict(zip(self._losses, sums.tolist(), strict=True))
        # Apart from the other data, of which one may be called as one of these is.
        of_sources = {f"{ACTIONS}_{name}": loss for name, loss in result.losses.items()}
        return replace(result, losses={**losses, **of_sources})

    def cross_entropy(self, batch: PicturedBatch) -> float:
        """Nats a token of a batch of any size, with the averaged weights."""
        # As many at once as a batch for learning has, which memory is known to hold.
        rows = parts_of_rows(len(batch.token_BS), self._measured_at_once, self.num_threads)
        return mean_cross_entropy(self, partial(self._language_loss, batch), rows)
