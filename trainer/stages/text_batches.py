"""Batches of text, each a function of the seed and the optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from trainer.data.sampling import share_of_batch
from trainer.data.text.packing import PackedSequence
from trainer.distributed import World
from trainer.language_configuration import TextTrainConfig
from trainer.stages.language_data import LanguageData


class TextBatches:
    """make: of sequences, a TextBatch or what else a learner takes."""

    def __init__(
        self,
        config: TextTrainConfig,
        data: LanguageData,
        make: Callable[[Sequence[PackedSequence]], Any],
    ) -> None:
        self._config, self._data, self._make = config, data, make
        self._held_out: Any = None

    def share(self, step: int, world: World) -> Any:
        """A rank's part of that of optimizer step `step`, with its own counts."""
        size = self._config.batch_size
        numbers = share_of_batch(step, size, world.rank, world.size)
        return self._make(self._data.training.sequences(numbers, share_of_batch(step, size)))

    @staticmethod
    def counted(share: Any, world: World, device: torch.device) -> Any:
        """The same with the counts of all ranks, which all have to ask for."""
        num_tokens, num_learnt = world.total([share.num_tokens, share.num_learnt], device)
        return replace(share, num_tokens=num_tokens, num_learnt=num_learnt)

    def held_out(self) -> Any:
        """What is measured, as one batch; None where nothing was held out."""
        packed = self._data.held_out
        if packed is not None and self._held_out is None:
            count = min(len(packed), self._config.validation_sequences)
            self._held_out = self._make([packed.sequence(n) for n in range(count)])
        return self._held_out
