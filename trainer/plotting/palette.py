"""Colours by role, for a light and for a dark scheme: those of the reports on rollouts, so that a
run has one look everywhere.

The colours of runs start from Okabe and Ito's blue and vermilion and go on so that each keeps its
distance to those before it, for every kind of colour vision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

_PAIRS: Mapping[str, tuple[str, str]] = {
    "paper": ("#fdfcf9", "#15171b"),
    "ink": ("#21252b", "#e9e7e2"),
    "muted": ("#646b75", "#9ba1ab"),
    "line": ("#e2e0d9", "#31353c"),
    "wash": ("#f4f2ec", "#1d2025"),
}
_SERIES = (
    ("#0072b2", "#58a6e6"),
    ("#d55e00", "#ff8a3d"),
    ("#0e604a", "#8fe3c4"),
    ("#c2557f", "#d9799b"),
    ("#353056", "#d0c6f6"),
    ("#a58e63", "#a0885e"),
    ("#6d951e", "#b2da62"),
    ("#a7008b", "#deadcf"),
    ("#5a4304", "#fdd895"),
    ("#878ebc", "#8289b6"),
    ("#56271f", "#d99c90"),
    ("#5a5c31", "#adb068"),
)


def series_role(index: int) -> str:
    """The role of the run, or policy, with this number; colours repeat after the twelfth."""
    return f"series-{index % len(_SERIES)}"


def colours(scheme: Scheme) -> dict[str, str]:
    """'#rrggbb' by role."""
    side = SCHEMES.index(scheme)
    by_role = {role: pair[side] for role, pair in _PAIRS.items()}
    return by_role | {series_role(i): pair[side] for i, pair in enumerate(_SERIES)}


def style_variables(scheme: Scheme) -> str:
    """The colours as declarations of a style sheet: '--paper: #fdfcf9; …'."""
    return " ".join(f"--{role}: {colour};" for role, colour in colours(scheme).items())
