"""Takes a data set past all checks, one episode at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.data.doctor.catalog import all_checks
from trainer.data.doctor.content import Fingerprint, fingerprint_of
from trainer.data.doctor.examined import DEFAULT_FRAME_PAIRS, examine_episode
from trainer.data.doctor.finding import Finding, Severity, most_severe_first
from trainer.data.episode import Dataset
from trainer.data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Examination:
    """findings: the most severe first. num_frames, num_frames_seen: over all cameras.

    fingerprints: of the readable episodes, to compare with another data set's.
    """

    where: str
    num_episodes: int
    num_steps: int
    num_frames: int
    num_frames_seen: int
    findings: tuple[Finding, ...]
    fingerprints: tuple[Fingerprint, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "num_episodes": self.num_episodes,
            "num_steps": self.num_steps,
            "num_frames": self.num_frames,
            "num_frames_seen": self.num_frames_seen,
            "findings": [finding.to_json() for finding in self.findings],
        }


def examine(
    dataset: Dataset,
    *,
    frame_pairs: int = DEFAULT_FRAME_PAIRS,
    progress: Callable[[range], Any] = iter,
) -> Examination:
    """progress: wraps the episodes' numbers, as tqdm does.

    An episode that cannot be read is a finding, and the others are examined all the same.
    Raises DataError for a data set without episodes.
    """
    if len(dataset) == 0:
        raise DataError("holds no episodes", where=dataset.where)
    checks = all_checks()
    unreadable: list[tuple[str, str]] = []
    fingerprints: list[Fingerprint] = []
    num_steps = num_frames = num_seen = 0
    for index in progress(range(len(dataset))):
        try:
            episode = dataset.episode(index)
            examined = examine_episode(episode, frame_pairs)
        except DataError as error:
            unreadable.append((error.episode or f"number {index}", str(error)))
            continue
        num_steps += examined.description.num_steps
        num_frames += examined.description.num_steps * len(examined.description.cameras)
        num_seen += sum(len(sampled.steps) for sampled in examined.frames.values())
        fingerprints.append(fingerprint_of(examined))
        for check in checks:
            check.look(examined)
    findings = [_unreadable_finding(unreadable)] if unreadable else []
    for check in checks:
        findings += check.findings()
    return Examination(
        where=dataset.where,
        num_episodes=len(dataset),
        num_steps=num_steps,
        num_frames=num_frames,
        num_frames_seen=num_seen,
        findings=tuple(most_severe_first(findings)),
        fingerprints=tuple(fingerprints),
    )


def _unreadable_finding(unreadable: list[tuple[str, str]]) -> Finding:
    return Finding(
        check="unreadable",
        severity=Severity.ERROR,
        episodes=tuple(episode_id for episode_id, _ in unreadable),
        measured=f"{len(unreadable)} episodes cannot be read; the first: {unreadable[0][1]}",
        numbers={"num_unreadable": len(unreadable)},
        cost="training stops at them, or leaves them out",
        remedy="fetch or record them anew, or leave them out",
    )
