"""Portions of data that are too large to be read whole before anything is learnt from them.

A portion is some files, or a part of one large file, of a bounded size. Which they are is said by
the files' names and sizes alone, so that any portion is found and read without the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.sampling import permuted
from trainer.data.text.source import ChosenDocuments, JoinedSource, TextSource
from trainer.data.text.sources import is_one_document, open_part, text_files

_SCHEMA = "assay.text-portions/1"

# Some seconds of work for a tokenizer on one core, so that the first one is there soon; of much
# data they are larger, lest there be too many files of tokens.
_LEAST_BYTES, _MOST_BYTES = 2**22, 2**24
_WANTED_PORTIONS = 4096
# How much text a byte of a compressed file is, roughly: it need not be unpacked to be cut.
_EXPANSION: Final[Mapping[str, int]] = {".gz": 4, ".zst": 4, ".parquet": 2}

# The same documents are held out in all runs on the same data, of a few portions alone: all of
# them have to be opened.
_HELD_OUT_STREAM = 11
_HELD_OUT_PORTIONS = 16


@dataclass(frozen=True)
class _Portion:
    """files: numbers of them. part: of so many of the one file."""

    files: range
    part: int = 0
    num_parts: int = 1


@dataclass(frozen=True, kw_only=True)
class Portions:
    """place: a file or folder. files: paths below the place, and bytes. held_out: by portion the
    documents that are not learnt from, ascending."""

    place: str
    files: tuple[tuple[str, int], ...]
    held_out: Mapping[int, tuple[int, ...]]

    @staticmethod
    def of(place: str, files: Sequence[tuple[str, int]], num_held_out: int) -> Portions:
        """Reads of the data no more than the portions in which documents are held out.

        Raises DataError for data that cannot be read, and where there are too few documents.
        """
        all_of_it = Portions(place=place, files=tuple(files), held_out={})
        held_out = all_of_it._chosen(num_held_out) if num_held_out else {}
        return Portions(place=place, files=tuple(files), held_out=held_out)

    @cached_property
    def _portions(self) -> list[_Portion]:
        sizes = [_text_bytes(name, size) for name, size in self.files]
        most = min(max(sum(sizes) // _WANTED_PORTIONS, _LEAST_BYTES), _MOST_BYTES)
        portions: list[_Portion] = []
        first, gathered = 0, 0
        for number, ((name, _), size) in enumerate(zip(self.files, sizes, strict=True)):
            if gathered and gathered + size > most:
                portions.append(_Portion(range(first, number)))
                first, gathered = number, 0
            if size > most and not is_one_document(name):
                count = -(-size // most)
                portions += [_Portion(range(number, number + 1), n, count) for n in range(count)]
                first = number + 1
            else:
                gathered += size
        if gathered:
            portions.append(_Portion(range(first, len(self.files))))
        return portions

    def __len__(self) -> int:
        return len(self._portions)

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.files)

    def training(self, index: int) -> TextSource:
        """What is learnt from of a portion. Raises DataError."""
        source = self._source(index)
        left_out = set(self.held_out.get(index, ()))
        return ChosenDocuments(source, [n for n in range(len(source)) if n not in left_out])

    def held_out_documents(self) -> TextSource:
        """Raises DataError."""
        chosen = [
            ChosenDocuments(self._source(index), numbers)
            for index, numbers in sorted(self.held_out.items())
        ]
        return JoinedSource(chosen, self.place)

    def in_fixed_order(self) -> Iterator[int]:
        """All portions as chance, but no seed, has them: the first ones stand for all."""
        for place in range(len(self)):
            yield int(permuted(place, len(self), 0, _HELD_OUT_STREAM))

    def _source(self, index: int) -> TextSource:
        portion = self._portions[index]
        files = [self._file(number) for number in portion.files]
        if portion.num_parts > 1:
            return open_part(files[0], portion.part, portion.num_parts)
        return JoinedSource([open_part(file, 0, 1) for file in files], self.place)

    def _file(self, number: int) -> Location:
        name, expected = self.files[number]
        location = Location.parse(self.place)
        file = location.inside(name) if name else location
        size = file.size()
        if size != expected:
            raise DataError(
                f"expected {expected:,} bytes, as when the run began, got {size:,}", where=file
            )
        return file

    def _chosen(self, count: int) -> dict[int, tuple[int, ...]]:
        """Of few portions about as many of each."""
        share = -(-count // min(_HELD_OUT_PORTIONS, len(self)))
        chosen: dict[int, tuple[int, ...]] = {}
        left, num_seen = count, 0
        for index in self.in_fixed_order():
            size = len(self._source(index))
            num_seen += size
            if size:
                places = permuted(np.arange(size), size, 0, _HELD_OUT_STREAM, index)
                numbers = np.flatnonzero(places < min(share, left))
                chosen[index] = tuple(numbers.tolist())
                left -= len(numbers)
            if not left:
                return chosen
        raise DataError(
            f"{num_seen} documents, of which {count} cannot be held out; ask for fewer, or for 0",
            where=self.place,
        )

    def write(self, path: Path) -> None:
        with atomic_file(path) as file:
            file.write(self._to_json().encode())

    @staticmethod
    def read(path: Path, place: str) -> Portions:
        """place: where the data lie by now. Raises DataError for a file that is none."""
        try:
            facts: dict[str, Any] = json.loads(path.read_text())
            if facts.get("schema") != _SCHEMA:
                raise DataError(f"expected {_SCHEMA}, got {facts.get('schema')!r}", where=path)
            return Portions(
                place=place,
                files=tuple((str(name), int(size)) for name, size in facts["files"]),
                held_out={int(k): tuple(map(int, v)) for k, v in facts["held_out"].items()},
            )
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"no portions: {error!r}", where=path) from error

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    def _to_json(self) -> str:
        held_out = {str(index): list(numbers) for index, numbers in sorted(self.held_out.items())}
        facts = {"schema": _SCHEMA, "files": [list(each) for each in self.files]}
        return json.dumps({**facts, "held_out": held_out}) + "\n"


def _text_bytes(name: str, size: int) -> int:
    times = next((n for ending, n in _EXPANSION.items() if name.lower().endswith(ending)), 1)
    return size * times


def sized_files(place: str) -> list[tuple[str, int]]:
    """Files of text by their paths below `place`, and their bytes; that of a file itself is "".

    Raises DataError where nothing known is there.
    """
    location = Location.parse(place)
    above = len(location.path.rstrip("/")) + 1
    return [(file.path[above:], file.size()) for file in text_files(location)]
