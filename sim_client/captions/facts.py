"""What is to be seen in a picture, by its label and depth images; colours are those declared.

Axes: H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from policy_interface.types import CameraView, FloatArray
from sim_client.manipulands.manipuland import Colour, Manipuland

# An object of fewer of the picture's pixels is not pointed out.
_LEAST_SHARE = 0.0015

# Colours by their common names, as sRGB.
_COLOURS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("black", (25, 25, 25)),
    ("grey", (110, 115, 120)),
    ("white", (240, 240, 240)),
    ("cream", (247, 235, 204)),
    ("red", (200, 40, 35)),
    ("orange", (235, 130, 30)),
    ("yellow", (240, 195, 40)),
    ("green", (70, 150, 60)),
    ("green", (160, 185, 60)),
    ("turquoise", (20, 110, 115)),
    ("blue", (45, 95, 180)),
    ("purple", (120, 60, 160)),
    ("pink", (235, 140, 170)),
    ("brown", (115, 75, 45)),
)
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


@dataclass(frozen=True, kw_only=True)
class SeenObject:
    """name: in words. colour: of its largest part, by a common name. row, column: the middle of
    what is seen of it, from 0 to 1. distance_m: from the camera, along its axis."""

    name: str
    colour: str
    row: float
    column: float
    distance_m: float

    @property
    def region(self) -> str:
        """One of nine: `upper left`, ..., `centre`, ..., `lower right`."""
        row = _ROWS[min(2, int(3 * self.row))]
        column = _COLUMNS[min(2, int(3 * self.column))]
        if (row, column) == ("middle", "centre"):
            return "centre"
        return f"{row} {column}"


def seen_objects(
    view: CameraView, label_names: Mapping[int, str], objects: Sequence[Manipuland]
) -> tuple[SeenObject, ...]:
    """Those of the objects that the picture shows, by name.

    view: with label and depth images. label_names: what a number in the label image stands for.
    """
    assert view.label is not None
    assert view.depth is not None
    height, width = view.label.shape
    numbers = {name: number for number, name in label_names.items()}
    found = []
    for each in sorted(objects, key=lambda item: item.name):
        rows, columns = np.nonzero(view.label == numbers[each.name])
        if len(rows) < _LEAST_SHARE * height * width:
            continue
        found.append(
            SeenObject(
                name=each.name.replace("_", " "),
                colour=colour_name(each.colour),
                row=float((rows.mean() + 0.5) / height),
                column=float((columns.mean() + 0.5) / width),
                distance_m=1e-3 * float(np.median(view.depth[rows, columns])),
            )
        )
    return tuple(found)


def colour_name(colour: Colour) -> str:
    """The common name that is nearest to the eye (CIELAB)."""
    known = _lab(np.array([rgb for _, rgb in _COLOURS]) / 255)
    return _COLOURS[int(np.argmin(np.square(known - _lab([colour])).sum(axis=1)))][0]


def _lab(colour: npt.ArrayLike) -> FloatArray:
    """(N, 3) sRGB from 0 to 1 to CIELAB."""
    image = np.asarray(colour, np.float32)[None]
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[0].astype(np.float64)
