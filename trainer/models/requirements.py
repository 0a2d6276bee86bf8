"""Checks of a model's configuration, each naming the field that cannot be."""

from __future__ import annotations

from trainer.configuration import ConfigurationError


def require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigurationError(f"{name}: expected {expected}, got {got!r}")


def require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value > 0, name, "a positive number", value)


def require_choice(owner: object, **choices: tuple[object, ...]) -> None:
    """A literal type is checked by a type checker alone; a recipe is read at run time."""
    for name, allowed in choices.items():
        value = getattr(owner, name)
        require(value in allowed, name, f"one of {', '.join(map(str, allowed))}", value)
