"""Checks of single fields of the files of others; each names the field and shows what it got."""

from typing import Any

from step_analysis.rollouts import MAX_EPISODES
from step_analysis.strict_json import FormatError, shown


def checked_object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{what}: a JSON object expected, got {shown(value)}")
    return value


def checked_list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{what}: a list expected, got {shown(value)}")
    return value


def checked_text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise FormatError(f"{what}: text expected, got {shown(value)}")
    return value


def checked_success(value: object, what: str) -> bool:
    """True or false; 1 and 0 are as good. A rate or a score is neither."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise FormatError(f"{what}: true or false (or 1 or 0) expected, got {shown(value)}")


def episode_range(first: int, num_episodes: int, what: str) -> range:
    """The scenario indices of so many episodes from `first` on."""
    if not 0 <= num_episodes <= MAX_EPISODES:
        raise FormatError(
            f"{what}: at most {MAX_EPISODES} episodes of a task expected, got {num_episodes}"
        )
    return range(first, first + num_episodes)
