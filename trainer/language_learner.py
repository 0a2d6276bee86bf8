"""The loss of models of text, computed in as many parts as memory and cores ask for.

Axes: B sequence, S position.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.text.packing import IGNORED, PackedSequence
from trainer.language_configuration import LanguageTrainConfig, TextTrainConfig
from trainer.learner import Learner
from trainer.models.language.cross_entropy import CrossEntropy
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask
from trainer.parts_of_rows import parts_of_rows


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
        self._at_once = config.micro_batch_size or config.batch_size

    def parts(self, batch: _Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        del generator

        def share(rows: slice) -> Tensor:
            loss = self.loss(batch, rows)
            return loss.loss * (loss.num_counted / batch.num_learnt)

        return [partial(share, rows) for rows in self._rows(batch)]

    def _rows(self, batch: _Batch) -> list[slice]:
        return parts_of_rows(len(batch.token_BS), self._at_once, self.num_threads)

    @abstractmethod
    def loss(self, batch: _Batch, rows: slice) -> CrossEntropy:
        """Of some of its sequences."""

    def cross_entropy(self, batch: _Batch) -> float:
        """Nats a token of a batch of any size, with the averaged weights."""
        return mean_cross_entropy(self, partial(self.loss, batch), self._rows(batch))


def mean_cross_entropy(
    learner: Learner[Any, Any], loss: Callable[[slice], CrossEntropy], parts: Sequence[slice]
) -> float:
    """Nats a token of all parts together, with the averaged weights."""

    @torch.no_grad()
    def total(rows: slice) -> tuple[Tensor, Tensor]:
        of_rows = loss(rows)
        return of_rows.cross_entropy * of_rows.num_counted, of_rows.num_counted

    sums: list[tuple[Tensor, Tensor]] = []
    with learner.averaged():
        for start in range(0, len(parts), learner.num_threads):
            together = parts[start : start + learner.num_threads]
            sums += learner.at_once([partial(total, one) for one in together])
    nats, counted = (torch.stack(list(each)).sum() for each in zip(*sums, strict=True))
    return float(nats) / float(counted)


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
