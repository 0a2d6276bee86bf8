"""Episodes whose fields or cameras are not those of the others."""

from __future__ import annotations

from typing import ClassVar

from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.episode import EpisodeDescription


class Schema(Check):
    """Compares with the kind of episode that is the most frequent."""

    name: ClassVar[str] = "schema"

    def __init__(self) -> None:
        self._kinds: dict[tuple[tuple[str, str], ...], list[str]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        self._kinds.setdefault(_kind(episode.description), []).append(
            episode.description.episode_id
        )

    def findings(self) -> list[Finding]:
        if len(self._kinds) < 2:
            return []
        usual = max(self._kinds, key=lambda kind: len(self._kinds[kind]))
        return [
            Finding(
                check=self.name,
                severity=Severity.ERROR,
                episodes=tuple(episodes),
                measured=_difference(dict(usual), dict(kind)),
                numbers={"num_usual": len(self._kinds[usual])},
                cost="batches cannot be made of both, or a missing field is filled with something",
                remedy="convert or train them apart",
            )
            for kind, episodes in self._kinds.items()
            if kind != usual
        ]


def _kind(description: EpisodeDescription) -> tuple[tuple[str, str], ...]:
    fields = {
        name: f"{field.shape} {field.kind} {field.unit or ''}".strip()
        for name, field in description.fields.items()
    }
    cameras = {
        f"camera {name}": f"{camera.width}x{camera.height}"
        for name, camera in description.cameras.items()
    }
    return tuple(sorted((fields | cameras).items()))


def _difference(usual: dict[str, str], other: dict[str, str]) -> str:
    parts = [f"lack {name}" for name in usual if name not in other]
    parts += [f"have {name} besides" for name in other if name not in usual]
    parts += [
        f"{name} is {other[name]}, elsewhere {usual[name]}"
        for name in usual
        if name in other and other[name] != usual[name]
    ]
    return "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
