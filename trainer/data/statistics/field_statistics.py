"""Statistics of a data set's fields, and the file that holds them.

They are of low-dimensional fields, in float64 whatever the field's dtype, and of vectors put
together from fields (`trainer.data.vector_layout`), such as poses relative to where the arm was.
`overall` counts each control step of a field once, and each step of each window of a vector.
`per_step[k]` is of step k of a window, `past` being the anchor: of all windows in which that step
is real, not padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.statistics.summary import Summary

STATISTICS_FORMAT = "assay.statistics/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldStatistics:
    """Of the numbers of a field, flattened. shape: of a control step. names: one a number.

    past: place of the anchor in per_step.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    overall: Summary
    per_step: tuple[Summary, ...]
    past: int

    @staticmethod
    def merged(parts: Sequence[FieldStatistics]) -> FieldStatistics:
        first = parts[0]
        for part in parts[1:]:
            if (part.shape, part.names) != (first.shape, first.names):
                raise DataError(
                    f"cannot merge statistics of {part.shape} {list(part.names)} with those of "
                    f"{first.shape} {list(first.names)}"
                )
        return FieldStatistics(
            shape=first.shape,
            names=first.names,
            overall=Summary.merged([part.overall for part in parts]),
            per_step=tuple(
                Summary.merged(steps) for steps in zip(*(p.per_step for p in parts), strict=True)
            ),
            past=first.past,
        )

    def to_fields(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "names": list(self.names),
            "overall": self.overall.to_fields(),
            "per_step": [summary.to_fields() for summary in self.per_step],
        }

    @staticmethod
    def from_fields(fields: Mapping[str, Any], past: int) -> FieldStatistics:
        return FieldStatistics(
            shape=tuple(fields["shape"]),
            names=tuple(fields["names"]),
            overall=Summary.from_fields(fields["overall"]),
            per_step=tuple(Summary.from_fields(each) for each in fields["per_step"]),
            past=past,
        )


@dataclass(frozen=True, kw_only=True)
class StatisticsSource:
    """What statistics are of.

    digest: the data set's own, where its format keeps checksums (`Dataset.digest`); otherwise
    SHA-256 over the episodes' ids and numbers.
    """

    where: str
    format_name: str
    num_episodes: int
    num_steps: int
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetStatistics:
    """past, future: control steps around the anchor that per_step covers."""

    past: int
    future: int
    sources: tuple[StatisticsSource, ...]
    fields: Mapping[str, FieldStatistics]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    @property
    def num_episodes(self) -> int:
        return sum(source.num_episodes for source in self.sources)

    @property
    def num_steps(self) -> int:
        return sum(source.num_steps for source in self.sources)

    @staticmethod
    def merged(parts: Sequence[DatasetStatistics]) -> DatasetStatistics:
        """Of several data sets. Raises DataError where windows or fields differ."""
        first = parts[0]
        for part in parts[1:]:
            if (part.past, part.future) != (first.past, first.future):
                raise DataError(
                    "cannot merge statistics of different windows: "
                    f"{first.past} past and {first.future} future steps, and "
                    f"{part.past} and {part.future}; compute them anew with one window"
                )
            if set(part.fields) != set(first.fields):
                raise DataError(
                    "cannot merge statistics of different fields: only some have "
                    f"{sorted(set(part.fields) ^ set(first.fields))}"
                )
        merged: dict[str, FieldStatistics] = {}
        for name in first.fields:
            try:
                merged[name] = FieldStatistics.merged([part.fields[name] for part in parts])
            except DataError as error:
                raise DataError(str(error), field=name) from error
        return DatasetStatistics(
            past=first.past,
            future=first.future,
            sources=tuple(source for part in parts for source in part.sources),
            fields=merged,
        )

    def to_json(self) -> str:
        fields = {
            "format": STATISTICS_FORMAT,
            "past": self.past,
            "future": self.future,
            "sources": [vars(source) for source in self.sources],
            "fields": {name: each.to_fields() for name, each in self.fields.items()},
        }
        return json.dumps(fields, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> DatasetStatistics:
        """Raises DataError for anything but statistics of this format."""
        try:
            fields = json.loads(text)
            found = fields.get("format")
            if found != STATISTICS_FORMAT:
                raise DataError(f"statistics: expected {STATISTICS_FORMAT!r}, got {found!r}")
            past = int(fields["past"])
            return DatasetStatistics(
                past=past,
                future=int(fields["future"]),
                sources=tuple(StatisticsSource(**source) for source in fields["sources"]),
                fields={
                    name: FieldStatistics.from_fields(each, past)
                    for name, each in fields["fields"].items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"statistics: cannot be read: {error!r}") from error

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        with atomic_file(path) as file:
            file.write(self.to_json().encode())

    @staticmethod
    def load(path: Path) -> DatasetStatistics:
        """Raises DataError naming the file."""
        try:
            return DatasetStatistics.from_json(path.read_text())
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(str(error), where=path) from error
