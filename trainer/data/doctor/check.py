"""What a check is, and how it keeps what it saw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity


class Check(ABC):
    """Looks at each episode once, in order, and then says what it found.

    A check keeps numbers about episodes, never their data: a data set may be larger than memory.
    """

    name: ClassVar[str]

    @abstractmethod
    def look(self, episode: ExaminedEpisode) -> None: ...

    @abstractmethod
    def findings(self) -> list[Finding]: ...


@dataclass
class Sightings:
    """Of one fault in one field: the episodes that have it, and the worst of them."""

    episodes: list[str] = field(default_factory=list)
    worst: float = 0.0
    worst_episode: str = ""
    total: float = 0.0
    steps: tuple[int, int] | None = None


class Tally:
    """Gathers the same fault over episodes, so that it is told once. Keys keep their order."""

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, str], Sightings] = {}

    def add(
        self,
        episode: ExaminedEpisode,
        subject: str,
        size: float,
        *,
        fault: str = "",
        steps: tuple[int, int] | None = None,
    ) -> None:
        """size: how bad it is; the greatest is kept. fault: tells apart the faults of a check."""
        seen = self._sightings.setdefault((subject, fault), Sightings())
        episode_id = episode.description.episode_id
        if not seen.episodes:
            seen.steps = steps
        seen.episodes.append(episode_id)
        seen.total += size
        if not seen.worst_episode or abs(size) > abs(seen.worst):
            seen.worst, seen.worst_episode = size, episode_id

    def items(self, fault: str = "") -> list[tuple[str, Sightings]]:
        """The subjects that have a fault."""
        return [
            (subject, seen) for (subject, kind), seen in self._sightings.items() if kind == fault
        ]

    def findings(
        self,
        check: str,
        severity: Severity,
        *,
        fault: str = "",
        measured: Callable[[Sightings], str],
        number: str,
        cost: str,
        remedy: str,
    ) -> list[Finding]:
        """A finding a subject. number: the name of the greatest size, for machines."""
        return [
            Finding(
                check=check,
                severity=severity,
                episodes=tuple(seen.episodes),
                subject=subject or None,
                steps=seen.steps,
                measured=measured(seen),
                numbers={number: seen.worst},
                cost=cost,
                remedy=remedy,
            )
            for subject, seen in self.items(fault)
        ]
