"""A portion's documents as tokens, packed in sequences, in a file that appears whole or not at all.

    token     (T,) int32, of all sequences, one after the other
    learnt    (T,) bool, likewise
    part      (Q + 1,) int64, where each part of a document begins; the last is where the last ends
    sequence  (N + 1,) int64, likewise of the sequences, counted in parts

The safetensors' metadata says how many documents there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.text.encoding import EncodedDocument, Encoder, Learnt, pieces
from trainer.data.text.packing import PackedSequence, best_fit, pack
from trainer.data.text.portions import Portions
from trainer.data.text.tokenizer import TextTokenizer
from trainer.data.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class PortionTokens:
    """How portions become tokens. length: of a sequence. folder: where the files are.

    A file is a function of its portion and of what is named here, whoever makes it and when.
    """

    portions: Portions
    tokenizer: Path
    vocabulary_size: int
    learnt: Learnt
    length: int
    folder: Path

    def path(self, index: int) -> Path:
        return self.folder / f"portion_{index:06d}.safetensors"

    def failure(self, index: int) -> Path:
        """Says why there is no such file."""
        return self.folder / f"portion_{index:06d}.error"

    def remove_failures(self) -> None:
        """Of an earlier time: what was amiss may be mended."""
        for path in self.folder.glob("portion_*.error"):
            path.unlink()

    def encoder(self) -> Encoder:
        return Encoder(
            template=Vocabulary.of(TextTokenizer(self.tokenizer)).template,
            vocabulary_size=self.vocabulary_size,
            learnt=self.learnt,
        )

    def make(self, index: int, encoder: Encoder) -> None:
        """Write a portion's file. Raises DataError, OSError."""
        source = self.portions.training(index)
        documents: list[EncodedDocument] = []
        parts: list[tuple[int, int, int]] = []
        for number, document in enumerate(source):
            encoded = encoder.encode(document)
            cuts = pieces(encoded, self.length, "split", document.where)
            parts += [(number, start, stop) for start, stop in cuts]
            documents.append(encoded)
        sequences = best_fit(parts, self.length, 0)
        in_order = [part for sequence in sequences for part in sequence]
        tensors = {
            "token": _joined([documents[n].token[a:b] for n, a, b in in_order], np.int32),
            "learnt": _joined([documents[n].learnt[a:b] for n, a, b in in_order], np.bool_),
            "part": _edges([stop - start for _, start, stop in in_order]),
            "sequence": _edges([len(sequence) for sequence in sequences]),
        }
        with atomic_file(self.path(index)) as file:
            file.write(safetensors.numpy.save(tensors, {"num_documents": str(len(documents))}))


class PortionFile:
    """pad: the token of what is left of a sequence. Raises DataError for a file that is none."""

    def __init__(self, path: Path, length: int, pad: int) -> None:
        self._length, self._pad = length, pad
        try:
            self._file: Any = safetensors.safe_open(path, framework="np")
            self._part = self._file.get_tensor("part")
            self._sequence = self._file.get_tensor("sequence")
            self._token, self._learnt = (self._file.get_slice(n) for n in ("token", "learnt"))
            self.num_documents = int(self._file.metadata()["num_documents"])
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a portion's tokens: {error}", where=path) from error

    @property
    def num_sequences(self) -> int:
        return len(self._sequence) - 1

    @property
    def num_tokens(self) -> int:
        return int(self._part[-1])

    def sequence(self, index: int) -> PackedSequence:
        first, last = self._sequence[index : index + 2]
        edges = self._part[first : last + 1]
        start, stop = int(edges[0]), int(edges[-1])
        all_of_it = EncodedDocument(
            token=self._token[start:stop],
            learnt=self._learnt[start:stop],
            image_start=np.zeros(0, np.int64),
        )
        inside = (edges - start).tolist()
        parts = [(all_of_it, a, b) for a, b in pairwise(inside)]
        return pack(parts, self._length, self._pad)


def _joined(arrays: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays], dtype=dtype)


def _edges(sizes: list[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *sizes], dtype=np.int64)
