"""Sequences of a stream that has no end in sight, and a place in it that can be kept.

For data that is too large to be encoded beforehand, or that lives on the Hugging Face Hub. Where
the documents are at hand, `PackedSequences` is better: it shuffles all of them and pads less.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.data.errors import DataError
from trainer.data.sampling import Mixture, Source
from trainer.data.text.documents import Columns, Document, document_of
from trainer.data.text.encoding import EncodedDocument, Encoder, Overlong, pieces
from trainer.data.text.packing import PackedSequence, pack
from trainer.data.text.source import TextSource


class DocumentStream(ABC):
    """Documents one after the other. `state` is JSON: given back to `restore`, it goes on there."""

    where: str

    @abstractmethod
    def __next__(self) -> Document:
        """Raises StopIteration at the end, if there is one."""

    @abstractmethod
    def state(self) -> dict[str, Any]: ...

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None: ...


class ShuffledStream(DocumentStream):
    """A source again and again, in a new order each time."""

    def __init__(self, source: TextSource, seed: int) -> None:
        self.where, self._source, self._next = source.where, source, 0
        self._mixture = Mixture([Source(name=source.where, num_samples=len(source))], seed)

    def __next__(self) -> Document:
        index = int(self._mixture.samples(self._next).index)
        self._next += 1
        return self._source.document(index)

    def state(self) -> dict[str, Any]:
        return {"next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        self._next = int(state["next"])


class HubStream(DocumentStream):
    """A data set of the Hugging Face Hub, or any that `datasets` reads, without downloading it.

    options: of `datasets.load_dataset`, such as split="train", name="...", data_files=[...].
    Its own shuffling keeps a buffer that cannot be kept: shuffled are the shards alone.
    """

    def __init__(
        self, path: str, *, columns: Columns | None = None, seed: int | None = None, **options: Any
    ) -> None:
        """Raises DataError where `datasets` is not installed or the data set cannot be opened."""
        try:
            datasets = importlib.import_module("datasets")
        except ModuleNotFoundError as error:
            raise DataError(f"{path}: streaming needs datasets: pip install datasets") from error
        self.where = f"hf://datasets/{path}" if "data_files" not in options else path
        self._columns = columns or Columns()
        try:
            opened = datasets.load_dataset(path, streaming=True, **({"split": "train"} | options))
        except (ValueError, OSError) as error:
            raise DataError(str(error), where=self.where) from error
        if not isinstance(opened, datasets.IterableDataset):
            raise DataError(f"split: name one of {sorted(opened)}", where=self.where)
        # Pictures stay files: they are decoded once, where the model wants them.
        for name, feature in (opened.features or {}).items():
            if isinstance(feature, datasets.Image):
                opened = opened.cast_column(name, datasets.Image(decode=False))
        self._dataset = opened if seed is None else opened.shuffle(seed=seed, buffer_size=1)
        self._iterator: Iterator[dict[str, Any]] | None = None
        self._number = 0

    def __next__(self) -> Document:
        if self._iterator is None:
            self._iterator = iter(self._dataset)
        record = next(self._iterator)
        where = f"{self.where}, record {self._number}"
        self._number += 1
        return document_of(record, self._columns, where, _no_file)

    def state(self) -> dict[str, Any]:
        return {"number": self._number, "datasets": self._dataset.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self._number = int(state["number"])
        self._dataset.load_state_dict(state["datasets"])
        self._iterator = None


def _no_file(path: str) -> bytes:
    raise DataError(f"a stream holds its images itself; {path!r} names a file")


_Part = tuple[EncodedDocument, tuple[bytes, ...]]


class StreamPacker:
    """Sequences of a stream's documents in their order: the next one that does not fit begins anew.

    Its state is the stream's before the document that is under way, and how many of its parts
    are taken: a run goes on exactly where it stopped.

    Raises DataError for a stream that ends without giving anything.
    """

    def __init__(
        self,
        stream: DocumentStream,
        encoder: Encoder,
        length: int,
        *,
        pad: int,
        overlong: Overlong = "split",
    ) -> None:
        self._stream, self._encoder, self.length = stream, encoder, length
        self._pad = pad
        self._overlong: Overlong = overlong
        # Parts of one document, which came after `_before` in the stream; so many are taken.
        self._waiting: list[_Part] = []
        self._before, self._num_taken = stream.state(), 0
        self._given = 0

    def __iter__(self) -> StreamPacker:
        return self

    def __next__(self) -> PackedSequence:
        taken: list[_Part] = []
        room = self.length
        while (self._waiting or self._fetch()) and len(self._waiting[0][0]) <= room:
            taken.append(self._waiting.pop(0))
            self._num_taken += 1
            room -= len(taken[-1][0])
        if not taken:
            if self._given == 0:
                raise DataError("the stream holds nothing to learn", where=self._stream.where)
            raise StopIteration
        self._given += 1
        packed = pack([(one, 0, len(one)) for one, _ in taken], self.length, self._pad)
        return replace(packed, images=tuple(image for _, files in taken for image in files))

    def state(self) -> dict[str, Any]:
        """JSON. Taken between two sequences and given back to `restore`, the next are the same."""
        return {"stream": self._before, "num_taken": self._num_taken, "given": self._given}

    def restore(self, state: dict[str, Any]) -> None:
        """Of a packer of the same stream, encoder and length."""
        self._stream.restore(state["stream"])
        self._waiting.clear()
        self._before, self._num_taken = state["stream"], 0
        self._given = int(state["given"])
        while self._num_taken < state["num_taken"]:
            if not self._waiting and not self._fetch():
                raise DataError("the stream ends before its state", where=self._stream.where)
            self._waiting.pop(0)
            self._num_taken += 1

    def _fetch(self) -> bool:
        """The parts of the next document that has anything to learn; False at the end."""
        while not self._waiting:
            before = self._stream.state()
            try:
                document = next(self._stream)
            except StopIteration:
                return False
            encoded = self._encoder.encode(document)
            self._before, self._num_taken = before, 0
            for start, stop in pieces(encoded, self.length, self._overlong, document.where):
                places = encoded.image_start
                shown = np.flatnonzero((places >= start) & (places < stop))
                part = EncodedDocument(
                    token=encoded.token[start:stop],
                    learnt=encoded.learnt[start:stop],
                    image_start=places[shown] - start,
                    tokens_per_image=encoded.tokens_per_image,
                )
                self._waiting.append((part, tuple(document.images[one] for one in shown)))
        return True
