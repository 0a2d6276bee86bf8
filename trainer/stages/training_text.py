"""What a model of text learns from, in an order that the seed chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from trainer.data.sampling import Mixture, Source
from trainer.data.text.corpus import Corpus
from trainer.data.text.packing import PackedSequence, PackedSequences


class TrainingText(ABC):
    """Sample n is always the same sequence, whenever it is asked for."""

    @abstractmethod
    def sequences(self, numbers: range, batch: range) -> list[PackedSequence]:
        """Samples of these numbers, counted from 0: a rank's part of those of a batch.

        Raises DataError for data that are not whole.
        """

    @abstractmethod
    def describe(self) -> str:
        """`1,234 tokens of 5 documents, 9 sequences of 128`."""

    @abstractmethod
    def facts(self) -> Mapping[str, int]:
        """For a checkpoint's provenance, as far as they are known yet."""

    def close(self) -> None:
        """Let go of processes."""
        return


class WholeText(TrainingText):
    """All of it at hand as tokens, and shuffled as a whole."""

    def __init__(self, corpus: Corpus, packed: PackedSequences, *, name: str, seed: int) -> None:
        self._corpus, self._packed = corpus, packed
        self._order = Mixture([Source(name=name, num_samples=len(packed))], seed)

    def sequences(self, numbers: range, batch: range) -> list[PackedSequence]:
        del batch
        return [self._packed.sequence(int(index)) for index in self._order.samples(numbers).index]

    def describe(self) -> str:
        return (
            f"{self._corpus.num_tokens:,} tokens of {len(self._corpus)} documents, "
            f"{len(self._packed)} sequences of {self._packed.length}, "
            f"{self._packed.filled:.0%} filled"
        )

    def facts(self) -> Mapping[str, int]:
        return {
            "num_documents": len(self._corpus),
            "num_tokens_of_data": self._corpus.num_tokens,
        }
