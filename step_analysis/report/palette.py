"""The report's colours: as drawn, and the style sheet's variables that replace them on the page."""

from collections.abc import Sequence

INK = "#23272e"
MUTED = "#6f7680"
GRID = "#e3e1da"
PAPER = "#fdfcf9"

POLICY_COLOURS = (
    "#2f6690",
    "#d17a22",
    "#3a8f7b",
    "#b5507a",
    "#7861a8",
    "#8a8f2f",
    "#a3543c",
    "#4a8fb8",
)
"""Distinguishable with the common colour deficiencies for the first four, and in grey by value."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"} | {
    colour: f"--policy-{i}" for i, colour in enumerate(POLICY_COLOURS)
}


def policy_colours(policies: Sequence[str]) -> dict[str, str]:
    """A colour for each policy, in the order given; the colours repeat after the eighth."""
    return {policy: POLICY_COLOURS[i % len(POLICY_COLOURS)] for i, policy in enumerate(policies)}


def policy_variable(colour: str) -> str:
    """The style sheet's name of a drawn colour, as 'var(--policy-0)'."""
    return f"var({_VARIABLES[colour]})"


def with_variables(svg: str) -> str:
    """A drawing whose colours follow the page's light or dark scheme."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
