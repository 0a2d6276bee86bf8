"""What a source of texts is: documents by number, found at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from trainer.data.text.documents import Document


class TextSource(ABC):
    """Documents by number. where: the file or folder."""

    where: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def document(self, index: int) -> Document:
        """Raises DataError naming the file and the line or member that is not whole."""

    def __iter__(self) -> Iterator[Document]:
        for index in range(len(self)):
            yield self.document(index)


class JoinedSource(TextSource):
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[TextSource], where: str) -> None:
        self.where = where
        self._sources = list(sources)
        self._ends: list[int] = []
        for source in sources:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(source))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def document(self, index: int) -> Document:
        which = bisect_right(self._ends, index)
        start = self._ends[which - 1] if which else 0
        return self._sources[which].document(index - start)


class ChosenDocuments(TextSource):
    """Some of a source's documents, by their numbers."""

    def __init__(self, source: TextSource, numbers: Sequence[int]) -> None:
        self.where, self._source, self._numbers = source.where, source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def document(self, index: int) -> Document:
        return self._source.document(self._numbers[index])
