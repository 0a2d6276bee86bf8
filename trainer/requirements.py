"""Checks of a configuration, each naming the field that cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MOST_BLOCKS = 1000


class ConfigurationError(ValueError):
    """A configuration that cannot be, or that does not fit the data or the run at hand."""


def require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigurationError(f"{name}: expected {expected}, got {got!r}")


def require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value > 0, name, "a positive number", value)


def require_depth(owner: object, name: str = "depth") -> None:
    """Some blocks, and not so many that a stranger's checkpoint keeps us making them for ever."""
    value = getattr(owner, name)
    require(0 < value <= _MOST_BLOCKS, name, f"1 to {_MOST_BLOCKS} blocks", value)


def require_choice(owner: object, **choices: tuple[object, ...]) -> None:
    """A literal type is checked by a type checker alone; a recipe is read at run time."""
    for name, allowed in choices.items():
        value = getattr(owner, name)
        require(value in allowed, name, f"one of {', '.join(map(str, allowed))}", value)


def require_one_budget(budgets: Mapping[str, int | None]) -> None:
    """Of several units to count a run in, just one may be used."""
    require(
        sum(value is not None for value in budgets.values()) == 1,
        ", ".join(budgets),
        "exactly one of them",
        tuple(budgets.values()),
    )
    for name, value in budgets.items():
        require(value is None or value > 0, name, "a positive number", value)


def numbers_by_name(field_name: str, texts: Sequence[str]) -> dict[str, float]:
    """`name=number` of each, the numbers 0 or more. Raises ConfigurationError."""
    numbers: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        is_new = bool(name) and name not in numbers
        require(
            is_new and 0 <= value < float("inf"),
            field_name,
            "name=number, the number 0 or more, each name once",
            text,
        )
        numbers[name] = value
    return numbers
