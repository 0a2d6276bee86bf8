"""What is to be seen in a picture, by its label and depth images: nothing is guessed.

Axes: H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from policy_interface.types import CameraView, FloatArray

# An object of fewer of the picture's pixels is not pointed out.
_LEAST_SHARE = 0.0015

_AGREEING_SHARE = 2 / 3

# Colours by their common names, as sRGB.
_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (25, 25, 25),
    "grey": (128, 128, 128),
    "white": (235, 235, 235),
    "red": (200, 35, 35),
    "orange": (235, 130, 30),
    "yellow": (230, 205, 50),
    "green": (60, 150, 60),
    "turquoise": (60, 180, 180),
    "blue": (45, 80, 190),
    "purple": (120, 60, 160),
    "pink": (235, 140, 170),
    "brown": (115, 75, 45),
    "beige": (215, 190, 150),
}
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


@dataclass(frozen=True, kw_only=True)
class SeenObject:
    """name: in words. colour: a common name, if it has one. row, column: the middle of what is seen
    of it, from 0 to 1. distance_m: from the camera, along its axis."""

    name: str
    colour: str | None
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
    view: CameraView, label_names: Mapping[int, str], objects: Sequence[str]
) -> tuple[SeenObject, ...]:
    """Those of the named objects that the picture shows, by name.

    view: with label and depth images. label_names: what a number in the label image stands for.
    """
    assert view.label is not None
    assert view.depth is not None
    height, width = view.label.shape
    found = []
    for number, name in sorted(label_names.items(), key=lambda item: item[1]):
        if name not in objects:
            continue
        rows, columns = np.nonzero(view.label == number)
        if len(rows) < _LEAST_SHARE * height * width:
            continue
        found.append(
            SeenObject(
                name=name.replace("_", " "),
                colour=colour_name(view.rgb[rows, columns]),
                row=float((rows.mean() + 0.5) / height),
                column=float((columns.mean() + 0.5) / width),
                distance_m=1e-3 * float(np.median(view.depth[rows, columns])),
            )
        )
    return tuple(found)


def colour_name(pixels: npt.NDArray[np.uint8]) -> str | None:
    """Of (N, 3) RGB: the name that most of the lighter half have, or None where fewer than two
    thirds agree.

    A pixel's name is the nearest to the eye (CIELAB), lightness counting a third: light and shade
    change how light a thing looks, and hardly its hue.
    """
    names = list(_COLOURS)
    weights = np.array([1 / 3, 1.0, 1.0])
    known_KC = _lab(np.array(list(_COLOURS.values()))) * weights
    seen_NC = _lab(pixels)
    lit_NC = seen_NC[seen_NC[:, 0] >= np.median(seen_NC[:, 0])]
    differences_NK = np.square(lit_NC[:, None] * weights - known_KC).sum(axis=2)
    votes = np.bincount(np.argmin(differences_NK, axis=1), minlength=len(names))
    most = int(np.argmax(votes))
    return names[most] if votes[most] >= _AGREEING_SHARE * len(lit_NC) else None


def _lab(colour: npt.ArrayLike) -> FloatArray:
    """(N, 3) sRGB from 0 to 255 to CIELAB."""
    image = np.asarray(colour, np.float32)[None] / 255
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[0].astype(np.float64)
