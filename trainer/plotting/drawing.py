"""A picture before it has a format: lines, areas, dots and words in place, coloured by role.

Lengths are CSS pixels, x to the right, y down. One drawing becomes an element of a page, whose
colours follow the reader's scheme, or a PNG in one scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Through at least two points. series: the number of the run, or policy, that it is about."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    opacity: float = 1.0
    dashed: bool = False
    series: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A filled polygon."""

    points: Sequence[Point]
    colour: str
    opacity: float = 1.0
    series: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    x: float
    y: float
    radius: float
    colour: str
    series: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Its baseline at y. room: the width that it is shortened to in a PNG."""

    x: float
    y: float
    text: str
    size: float
    colour: str = "ink"
    anchor: Anchor = "start"
    room: float | None = None
    series: int | None = None


Mark = Line | Area | Dot | Text


@dataclass(kw_only=True)
class Drawing:
    """Marks in the order in which they are drawn."""

    width: float
    height: float
    marks: list[Mark] = field(default_factory=list)

    def add(self, *marks: Mark) -> None:
        self.marks += marks

    def place(self, other: Drawing, x: float, y: float) -> None:
        """Another drawing, with its upper left corner at (x, y)."""
        self.marks += [_moved(mark, x, y) for mark in other.marks]


def _moved(mark: Mark, x: float, y: float) -> Mark:
    if isinstance(mark, Line | Area):
        return replace(mark, points=[(px + x, py + y) for px, py in mark.points])
    return replace(mark, x=mark.x + x, y=mark.y + y)
