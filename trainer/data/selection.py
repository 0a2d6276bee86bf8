"""Which episodes of a data set are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.data.episode import EpisodeDescription
from trainer.data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """first, end: places in the source, the last one left out; None is its end.

    only_success: leave out what failed and what nobody judged. tasks: None takes all.
    """

    first: int = 0
    end: int | None = None
    only_success: bool = False
    tasks: tuple[str, ...] | None = None

    @staticmethod
    def parse_range(text: str) -> tuple[int, int | None]:
        """From `10:20`, `10:` or `:20`. Raises DataError."""
        first, colon, end = text.partition(":")
        numbers = [number for number in (first, end) if number]
        if not (colon and all(number.isascii() and number.isdigit() for number in numbers)):
            raise DataError(f"episodes {text!r}: expected FIRST:END, such as 0:100")
        return int(first or 0), int(end) if end else None

    def indices(self, num_episodes: int) -> range:
        """Raises DataError for a range that holds none."""
        end = num_episodes if self.end is None else min(self.end, num_episodes)
        if self.first >= end:
            raise DataError(
                f"episodes {self.first}:{'' if self.end is None else self.end}: "
                f"the source has {num_episodes}, so there is nothing to do"
            )
        return range(self.first, end)

    def leaves_out(self, description: EpisodeDescription) -> str | None:
        """Why, or None."""
        if self.only_success and description.success is not True:
            return "success was not noted" if description.success is None else "it failed"
        if self.tasks is not None and description.task not in self.tasks:
            return f"its task is {description.task!r}"
        return None

    def to_json(self) -> Mapping[str, Any]:
        return {
            "first": self.first,
            "end": self.end,
            "only_success": self.only_success,
            "tasks": None if self.tasks is None else list(self.tasks),
        }
