"""Documents side by side in sequences of one length, each alone with itself.

Which documents share a sequence is planned once, from their lengths: each goes where it leaves
the least room (best fit), so that little is padded. What a sequence holds never changes;
`trainer.data.sampling.Mixture` says which sequence is sample n, and mixes them with other data.

Axes: S token of a sequence, D document in it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.sampling import permuted
from trainer.data.text.corpus import Corpus
from trainer.data.text.encoding import EncodedDocument, Overlong, pieces

# The label of a position from which nothing is learnt, as the models' loss has it.
IGNORED: Final = -100
_PLAN_STREAM = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedSequence:
    """token: (S,) int64, padded. label: (S,), what should follow; IGNORED where nothing is learnt.

    document: (S,) int64, 0 for the first, padding being one of its own: a token attends to those
    of its number alone. position: (S,), from 0 in each document. valid: (S,), False where padded.
    boundaries: (D + 1,) int32, where each document begins and the last one ends (cu_seqlens).
    images: files, in the order of their place holders.
    """

    token: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    boundaries: npt.NDArray[np.int32]
    images: tuple[bytes, ...] = ()

    @property
    def is_prefix(self) -> npt.NDArray[np.bool_]:
        """(S,), up to the token that each document's first answer follows; a text has no prefix but
        its first token."""
        is_prefix = np.zeros(len(self.token), bool)
        for begin, end in pairwise(self.boundaries.tolist()):
            answers = np.flatnonzero(self.label[begin:end] != IGNORED)
            is_prefix[begin : begin + (answers[0] + 1 if len(answers) else 0)] = True
        return is_prefix


def pack(parts: list[tuple[EncodedDocument, int, int]], length: int, pad: int) -> PackedSequence:
    """Parts of documents, start to stop, that fit the length together."""
    token = np.full(length, pad, np.int64)
    label = np.full(length, IGNORED, np.int64)
    document = np.full(length, len(parts), np.int64)
    position = np.zeros(length, np.int64)
    boundaries = [0]
    for number, (encoded, start, stop) in enumerate(parts):
        begin, end = boundaries[-1], boundaries[-1] + stop - start
        token[begin:end] = encoded.token[start:stop]
        follows = encoded.token[start + 1 : stop]
        label[begin : end - 1] = np.where(encoded.learnt[start + 1 : stop], follows, IGNORED)
        document[begin:end] = number
        position[begin:end] = np.arange(stop - start)
        boundaries.append(end)
    position[boundaries[-1] :] = np.arange(length - boundaries[-1])
    return PackedSequence(
        token=token,
        label=label,
        document=document,
        position=position,
        valid=np.arange(length) < boundaries[-1],
        boundaries=np.array(boundaries, np.int32),
    )


class PackedSequences:
    """All of a corpus in sequences of `length` tokens; sequence i is always the same.

    overlong: what becomes of a document longer than that. seed: of who sits beside whom.
    Raises DataError where nothing is left to learn.
    """

    def __init__(
        self,
        corpus: Corpus,
        length: int,
        *,
        pad: int,
        overlong: Overlong = "split",
        seed: int = 0,
    ) -> None:
        if length < 2:
            raise DataError(f"length: expected at least 2 tokens, got {length}")
        self._corpus, self.length, self._pad = corpus, length, pad
        parts: list[tuple[int, int, int]] = []
        for index in range(len(corpus)):
            where = f"{corpus.folder}, document {index}"
            cuts = pieces(corpus.document(index), length, overlong, where)
            parts += [(index, start, stop) for start, stop in cuts]
        if not parts:
            raise DataError("holds nothing to learn at this length", where=corpus.folder)
        self._bins = best_fit(parts, length, seed)

    def __len__(self) -> int:
        return len(self._bins)

    @property
    def filled(self) -> float:
        """The share of all positions that hold a token."""
        held = sum(stop - start for one in self._bins for _, start, stop in one)
        return held / (len(self._bins) * self.length)

    def sequence(self, index: int) -> PackedSequence:
        chosen = self._bins[index]
        packed = pack(
            [(self._corpus.document(number), start, stop) for number, start, stop in chosen],
            self.length,
            self._pad,
        )
        images: list[bytes] = []
        for number, start, stop in chosen:
            places = self._corpus.document(number).image_start
            shown = np.flatnonzero((places >= start) & (places < stop))
            if len(shown):
                files = self._corpus.images(number)
                images += [files[one] for one in shown]
        return replace(packed, images=tuple(images))


def best_fit(
    parts: list[tuple[int, int, int]], length: int, seed: int
) -> list[list[tuple[int, int, int]]]:
    """Each part where it leaves the least room, the parts in an order that the seed chooses."""
    bins: list[list[tuple[int, int, int]]] = []
    # (room, bin) in order, of the bins that are not full.
    open_bins: list[tuple[int, int]] = []
    order = permuted(np.arange(len(parts)), len(parts), seed, _PLAN_STREAM)
    for place in order:
        part = parts[int(place)]
        size = part[2] - part[1]
        found = bisect_left(open_bins, (size, -1))
        if found < len(open_bins):
            room, number = open_bins.pop(found)
            bins[number].append(part)
        else:
            room, number = length, len(bins)
            bins.append([part])
        if room > size:
            insort(open_bins, (room - size, number))
    return bins
