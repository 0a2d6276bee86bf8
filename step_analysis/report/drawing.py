"""A figure before it has a format: shapes and text in place, coloured by role.

Lengths are CSS pixels, x to the right, y down. A colour is a role of `palette`, so that one drawing
serves the light and the dark scheme and the page, where it follows the reader's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from step_analysis.report.typeface import Weight, typeface

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

TEXT_SIZE = 12.0
SMALL_TEXT_SIZE = 10.5

_MIDDLE_OF_TEXT = 0.36
"""Half the height of a digit, as a part of the text's size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Anything drawn. `policies` are the indices of those that it is about: with all of them
    switched on it shows, otherwise it fades."""

    policies: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Path(Mark):
    """A line through points, closed or not."""

    points: Sequence[Point]
    closed: bool = False
    fill: str | None = None
    stroke: str | None = None
    width: float = 1.0
    opacity: float = 1.0
    dashed: bool = False
    round_ends: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Box(Mark):
    """A rectangle with its upper left corner at (x, y)."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    opacity: float = 1.0
    radius: float = 0.0
    tip: str | None = None
    """What it says when pointed at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot(Mark):
    x: float
    y: float
    radius: float
    fill: str
    stroke: str | None = None
    stroke_width: float = 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Text(Mark):
    """Text with its baseline at y; turned counterclockwise about (x, y) by `turn_degrees`."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Anchor
    weight: Weight
    turn_degrees: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone(Mark):
    """An invisible rectangle that says something when pointed at."""

    x: float
    y: float
    width: float
    height: float
    tip: str


@dataclass(kw_only=True)
class Drawing:
    """Marks in the order in which they are drawn."""

    width: float
    height: float
    marks: list[Mark] = field(default_factory=list)

    def line(
        self,
        points: Sequence[Point],
        colour: str,
        *,
        width: float = 1.0,
        opacity: float = 1.0,
        dashed: bool = False,
        round_ends: bool = False,
        policies: tuple[int, ...] = (),
    ) -> None:
        """A line through at least two points; nothing for fewer."""
        if len(points) > 1:
            self.marks.append(
                Path(
                    points=points,
                    stroke=colour,
                    width=width,
                    opacity=opacity,
                    dashed=dashed,
                    round_ends=round_ends,
                    policies=policies,
                )
            )

    def area(
        self,
        points: Sequence[Point],
        fill: str,
        *,
        opacity: float = 1.0,
        policies: tuple[int, ...] = (),
    ) -> None:
        """A filled polygon; nothing for fewer than three points."""
        if len(points) > 2:
            self.marks.append(
                Path(points=points, closed=True, fill=fill, opacity=opacity, policies=policies)
            )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        *,
        opacity: float = 1.0,
        radius: float = 0.0,
        tip: str | None = None,
        policies: tuple[int, ...] = (),
    ) -> None:
        self.marks.append(
            Box(
                x=x,
                y=y,
                width=width,
                height=height,
                fill=fill,
                opacity=opacity,
                radius=radius,
                tip=tip,
                policies=policies,
            )
        )

    def dot(
        self,
        x: float,
        y: float,
        radius: float,
        fill: str,
        *,
        stroke: str | None = None,
        stroke_width: float = 1.5,
        policies: tuple[int, ...] = (),
    ) -> None:
        self.marks.append(
            Dot(
                x=x,
                y=y,
                radius=radius,
                fill=fill,
                stroke=stroke,
                stroke_width=stroke_width,
                policies=policies,
            )
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = TEXT_SIZE,
        colour: str = "ink",
        anchor: Anchor = "start",
        weight: Weight = "regular",
        turn_degrees: float = 0.0,
        centred: bool = False,
        room: float | None = None,
        policies: tuple[int, ...] = (),
    ) -> None:
        """Text with its baseline at y, or with its middle there if `centred`; cut to `room`."""
        if room is not None:
            text = typeface(weight).fitted(text, size, room)
        self.marks.append(
            Text(
                x=x,
                y=y + _MIDDLE_OF_TEXT * size if centred else y,
                text=text,
                size=size,
                colour=colour,
                anchor=anchor,
                weight=weight,
                turn_degrees=turn_degrees,
                policies=policies,
            )
        )

    def zone(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        tip: str,
        *,
        policies: tuple[int, ...] = (),
    ) -> None:
        self.marks.append(Zone(x=x, y=y, width=width, height=height, tip=tip, policies=policies))


def widest(texts: Iterable[str], size: float = TEXT_SIZE, weight: Weight = "regular") -> float:
    """The width of the widest of some texts; 0 without one."""
    face = typeface(weight)
    return max((face.width(text, size) for text in texts), default=0.0)
