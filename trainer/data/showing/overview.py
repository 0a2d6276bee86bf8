"""The facts of a data set, in one pass over its episodes that decodes no frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Dataset, Episode, Field
from trainer.data.errors import DataError
from trainer.data.instructions import task_phrasings
from trainer.data.locations import Location


@dataclass(eq=False)
class FieldFacts:
    """low, high: of each number, over all steps and episodes; inf, -inf where none was finite."""

    described: Field
    num_episodes: int = 0
    low: FloatArray | None = None
    high: FloatArray | None = None
    num_not_finite: int = 0

    def add(self, values: FloatArray) -> None:
        self.num_episodes += 1
        flat = values.reshape(len(values), -1)
        finite = np.isfinite(flat)
        self.num_not_finite += int((~finite).sum())
        low = np.where(finite, flat, np.inf).min(axis=0)
        high = np.where(finite, flat, -np.inf).max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def to_json(self) -> dict[str, Any]:
        def numbers(values: FloatArray | None) -> list[float | None] | None:
            if values is None:
                return None
            return [float(value) if np.isfinite(value) else None for value in values]

        return {
            "shape": list(self.described.shape),
            "dtype": self.described.dtype,
            "kind": self.described.kind,
            "role": self.described.role,
            "unit": self.described.unit,
            "frame": self.described.frame,
            "part": self.described.part,
            "names": list(self.described.names),
            "num_episodes": self.num_episodes,
            "low": numbers(self.low),
            "high": numbers(self.high),
            "num_not_finite": self.num_not_finite,
        }


@dataclass(eq=False)
class Overview:
    """instructions: how many episodes have each wording. rates_hz, outcomes, tasks: likewise."""

    where: str
    format_name: str
    num_bytes: int | None
    num_episodes: int = 0
    num_steps: int = 0
    duration_s: float = 0.0
    shortest: int = 0
    longest: int = 0
    rates_hz: dict[float, int] = field(default_factory=dict)
    fields: dict[str, FieldFacts] = field(default_factory=dict)
    cameras: dict[str, dict[Camera, int]] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)
    num_without_instruction: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        plain = dict(vars(self))
        plain["fields"] = {name: facts.to_json() for name, facts in self.fields.items()}
        plain["cameras"] = {
            name: [vars(view) | {"num_episodes": number} for view, number in views.items()]
            for name, views in self.cameras.items()
        }
        # NaN where an episode tells no times; JSON knows none.
        plain["duration_s"] = self.duration_s if np.isfinite(self.duration_s) else None
        plain["rates_hz"] = {f"{rate:g}": number for rate, number in self.rates_hz.items()}
        return plain


def overview(
    dataset: Dataset, *, ranges: bool = True, progress: Callable[[range], Any] = iter
) -> Overview:
    """ranges: read the fields too; without, only descriptions and times are read.

    Raises DataError for a data set without episodes.
    """
    if len(dataset) == 0:
        raise DataError("holds no episodes", where=dataset.where)
    facts = Overview(
        where=dataset.where, format_name=dataset.format_name, num_bytes=_size(dataset.where)
    )
    for index in progress(range(len(dataset))):
        _add(facts, dataset.episode(index), ranges)
    return facts


def _add(facts: Overview, episode: Episode, ranges: bool) -> None:
    description = episode.description
    times_s = episode.times_s()
    steps_s = np.diff(times_s)
    step_s = float(np.median(steps_s)) if len(steps_s) else 0.0
    facts.num_episodes += 1
    facts.num_steps += description.num_steps
    # The last step lasts as long as the others.
    facts.duration_s += float(times_s[-1] - times_s[0]) + step_s
    facts.longest = max(facts.longest, description.num_steps)
    facts.shortest = min(facts.shortest or description.num_steps, description.num_steps)
    rate_hz = description.rate_hz or (1 / step_s if step_s > 0 else None)
    if rate_hz is not None:
        _count(facts.rates_hz, float(f"{rate_hz:.3g}"))
    for name, described in description.fields.items():
        field_facts = facts.fields.setdefault(name, FieldFacts(described))
        if not ranges or np.dtype(described.dtype).kind not in "fiub":
            field_facts.num_episodes += 1
        elif described.shape != field_facts.described.shape:
            raise DataError(
                f"expected {field_facts.described.shape} as in the episodes before, "
                f"got {described.shape}",
                where=facts.where,
                episode=description.episode_id,
                field=name,
            )
        else:
            field_facts.add(np.asarray(episode.read(name), dtype=np.float64))
    for name, view in description.cameras.items():
        _count(facts.cameras.setdefault(name, {}), view)
    if description.task is not None:
        _count(facts.tasks, description.task)
    wordings = {text.strip() for text in task_phrasings(description) if text.strip()}
    for text in wordings:
        _count(facts.instructions, text)
    facts.num_without_instruction += not wordings
    _count(
        facts.outcomes,
        {True: "success", False: "failure", None: "unknown"}[description.success],
    )


def _count(numbers: dict[Any, int], key: Any) -> None:
    numbers[key] = numbers.get(key, 0) + 1


def _size(where: str) -> int | None:
    """In bytes, of all files; None where the data set lies in no place of its own."""
    place = Location.parse(where)
    if not place.exists():
        return None
    if place.is_file():
        return place.size()
    return sum(file.size() for file in place.find())
