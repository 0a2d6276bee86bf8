"""The report's colours by role, for a light and for a dark scheme.

A policy's colours start from Okabe and Ito's blue and vermilion and go on so that each keeps the
largest distance to those before it in CIELAB, for normal sight and for simulated protanopia,
deuteranopia and tritanopia (Machado et al., 2009). No figure tells policies apart by colour alone.
"""

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
    "gain": ("#0072b2", "#58a6e6"),
    "loss": ("#d55e00", "#ff8a3d"),
    "caution": ("#8a5a12", "#e2b56a"),
    "caution-wash": ("#fbf3e2", "#2a2418"),
    "alarm": ("#a8321f", "#ff8d76"),
    "alarm-wash": ("#fbeae6", "#301c19"),
}

_POLICY_PAIRS = (
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
NUM_POLICY_COLOURS = len(_POLICY_PAIRS)


def policy_role(index: int) -> str:
    """The role of the policy with this index by name; the colours repeat after the twelfth."""
    return f"policy-{index % NUM_POLICY_COLOURS}"


def colours(scheme: Scheme) -> dict[str, str]:
    """'#rrggbb' by role."""
    side = SCHEMES.index(scheme)
    by_role = {role: pair[side] for role, pair in _PAIRS.items()}
    return by_role | {policy_role(i): pair[side] for i, pair in enumerate(_POLICY_PAIRS)}


def style_variables(scheme: Scheme) -> str:
    """The colours as declarations of a style sheet: '--paper: #fdfcf9; …'."""
    return " ".join(f"--{role}: {colour};" for role, colour in colours(scheme).items())
