"""The loss of models of text, computed in as many parts as memory and cores ask for.

Axes: B sequence, S position.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.text.packing import IGNORED, PackedSequence
from trainer.language_configuration import LanguageTrainConfig, TextTrainConfig
from trainer.learner import Learner
from trainer.models.language.cross_entropy import CrossEntropy
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask


@dataclass(frozen=True, kw_only=True, eq=False)
class TextBatch:
    """Packed sequences (B, S), a rank's. The others' are counted too: num_tokens, without padding;
    num_learnt, labels that count.
    """

    token_BS: Tensor
    label_BS: Tensor
    document_BS: Tensor
    position_BS: Tensor
    num_tokens: int
    num_learnt: int

    @staticmethod
    def of(sequences: Sequence[PackedSequence], device: torch.device) -> TextBatch:
        def stacked(name: str) -> Tensor:
            arrays = [getattr(sequence, name) for sequence in sequences]
            return torch.from_numpy(np.stack(arrays)).to(device)

        return TextBatch(
            token_BS=stacked("token"),
            label_BS=stacked("label"),
            document_BS=stacked("document"),
            position_BS=stacked("position"),
            num_tokens=sum(int(sequence.valid.sum()) for sequence in sequences),
            num_learnt=sum(int((sequence.label != IGNORED).sum()) for sequence in sequences),
        )


class TextBatches(Protocol):
    """What batches of every kind have: see TextBatch."""

    @property
    def token_BS(self) -> Tensor: ...
    @property
    def num_learnt(self) -> int: ...


_Model = TypeVar("_Model", bound=nn.Module)
_Batch = TypeVar("_Batch", bound=TextBatches)


class TextLearner(Learner[_Model, _Batch]):
    def __init__(
        self,
        model: _Model,
        config: TextTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(model, config, device, num_threads=num_threads)
        self._accumulation = config.accumulation
        self._at_once = config.batch_size // config.accumulation

    def parts(self, batch: _Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        del generator

        def share(rows: slice) -> Tensor:
            loss = self.loss(batch, rows)
            return loss.loss * (loss.num_counted / batch.num_learnt)

        return [partial(share, rows) for rows in self._rows(len(batch.token_BS))]

    def _rows(self, num_sequences: int) -> list[slice]:
        """Parts of a batch, such that no more than a micro-batch of them is computed at once."""
        micro_batches = -(-num_sequences // self._at_once)
        count = min(num_sequences, micro_batches * self.num_threads)
        edges = [num_sequences * part // count for part in range(count + 1)]
        return [slice(*pair) for pair in pairwise(edges)]

    @abstractmethod
    def loss(self, batch: _Batch, rows: slice) -> CrossEntropy:
        """Of some of its sequences."""

    @torch.no_grad()
    def cross_entropy(self, batch: _Batch) -> float:
        """Nats a token of a batch of any size, with the averaged weights."""

        def total(rows: slice) -> Tensor:
            with torch.no_grad():
                loss = self.loss(batch, rows)
            return loss.cross_entropy * loss.num_counted

        sums: list[Tensor] = []
        with self.averaged():
            rows = self._rows(len(batch.token_BS))
            for start in range(0, len(rows), self.num_threads):
                together = rows[start : start + self.num_threads]
                sums += self.at_once([partial(total, one) for one in together])
        return float(torch.stack(sums).sum()) / batch.num_learnt


class LanguageLearner(TextLearner[LanguageModel, TextBatch]):
    def __init__(
        self,
        model: LanguageModel,
        config: LanguageTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(model, config, device, num_threads=num_threads)
        model.checkpoint_activations(config.checkpoint_activations)
        if config.compile:
            model.compile_blocks()

    def loss(self, batch: TextBatch, rows: slice) -> CrossEntropy:
        with self.autocast():
            output = self.network(
                batch.token_BS[rows],
                label_BS=batch.label_BS[rows],
                mask=AttentionMask(document_BK=batch.document_BS[rows]),
                position_BS=batch.position_BS[rows],
            )
        assert output.loss is not None
        return output.loss
