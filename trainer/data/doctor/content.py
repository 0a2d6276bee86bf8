"""Tells episodes that are the same from others, by their numbers and not by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """digests: of each field that was observed or commanded and that changes, by name."""

    episode_id: str
    task: str | None
    seed: int | None
    digests: Mapping[str, str]

    @property
    def content(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.digests.items())


def fingerprint_of(episode: ExaminedEpisode) -> Fingerprint:
    """Of the numbers as float32, so that a format that stores them so has the same ones."""
    digests = {}
    for name in episode.names("observed", "action"):
        values = np.ascontiguousarray(episode.arrays[name].astype(np.float32))
        if len(values) > 1 and (values != values[0]).any():
            digests[name] = hashlib.sha256(values.tobytes()).hexdigest()[:24]
    description = episode.description
    return Fingerprint(
        episode_id=description.episode_id,
        task=description.task,
        seed=description.seed,
        digests=digests,
    )


class DuplicateEpisodes(Check):
    """Two episodes whose numbers are the same throughout."""

    name: ClassVar[str] = "duplicate-episodes"

    def __init__(self) -> None:
        self._episodes: dict[frozenset[tuple[str, str]], list[str]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        fingerprint = fingerprint_of(episode)
        if fingerprint.digests:
            self._episodes.setdefault(fingerprint.content, []).append(fingerprint.episode_id)

    def findings(self) -> list[Finding]:
        groups = [group for group in self._episodes.values() if len(group) > 1]
        if not groups:
            return []
        spare = sum(len(group) - 1 for group in groups)
        return [
            Finding(
                check=self.name,
                severity=Severity.ERROR,
                episodes=tuple(episode for group in groups for episode in group),
                measured=f"{spare} episodes are copies of others; {groups[0][1]} is {groups[0][0]}",
                numbers={"num_copies": spare},
                cost="they weigh double, and a split by episode puts them on both sides",
                remedy="remove the copies",
            )
        ]


def shared_findings(train: tuple[Fingerprint, ...], held: tuple[Fingerprint, ...]) -> list[Finding]:
    """What a training and a validation set have in common."""
    return [*_same_content(train, held), *_same_seeds(train, held)]


def _same_content(train: tuple[Fingerprint, ...], held: tuple[Fingerprint, ...]) -> list[Finding]:
    # Two sets may hold other fields, and an episode's own may stand still: compared is what both
    # of a pair have.
    shared: list[str] = []
    by_digest: dict[tuple[str, str], list[Fingerprint]] = {}
    for fingerprint in train:
        for item in fingerprint.digests.items():
            by_digest.setdefault(item, []).append(fingerprint)
    for fingerprint in held:
        # Episodes may share a field, such as when the gripper closes, and be others all the same.
        near = (one for item in fingerprint.digests.items() for one in by_digest.get(item, ()))
        if any(_agree(fingerprint, one) for one in near):
            shared.append(fingerprint.episode_id)
    if shared:
        return [
            Finding(
                check="shared-episodes",
                severity=Severity.ERROR,
                episodes=tuple(shared),
                measured=f"{len(shared)} of {len(held)} validation episodes are in training too",
                numbers={"num_shared": len(shared)},
                cost="validation measures memory, and picks the checkpoint that overfits",
                remedy="take them out of one of the two",
            )
        ]
    known = {name for fingerprint in train for name in fingerprint.digests}
    if known.isdisjoint(name for fingerprint in held for name in fingerprint.digests):
        return [
            Finding(
                check="shared-episodes",
                severity=Severity.WARNING,
                measured="the two have no moving field of one name: they cannot be compared",
                cost="whether validation episodes are in training stays unknown",
                remedy="convert both with the same version and options",
            )
        ]
    return []


def _agree(one: Fingerprint, other: Fingerprint) -> bool:
    """In every field that both have."""
    return all(
        digest == other.digests[name]
        for name, digest in one.digests.items()
        if name in other.digests
    )


def _same_seeds(train: tuple[Fingerprint, ...], held: tuple[Fingerprint, ...]) -> list[Finding]:
    seeds = {(one.task, one.seed) for one in train if one.seed is not None}
    shared = [one.episode_id for one in held if (one.task, one.seed) in seeds]
    if not shared:
        return []
    return [
        Finding(
            check="shared-seeds",
            severity=Severity.WARNING,
            episodes=tuple(shared),
            measured=f"{len(shared)} of {len(held)} validation episodes have task and seed of a "
            "training episode: the same scene",
            numbers={"num_shared": len(shared)},
            cost="validation says nothing about scenes that were never seen",
            remedy="record validation episodes from other seeds",
        )
    ]
