"""Grippers: polarity, range and unit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

# No parallel gripper opens wider.
_WIDEST_M = 0.3
_MAX_LAG_STEPS = 8


@dataclass
class _Range:
    low: float = np.inf
    high: float = -np.inf

    def widen(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def width(self) -> float:
        return self.high - self.low

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


class GripperUnit(Check):
    """A field that says metres and holds 0 to 1 or percent, and parts whose ranges differ."""

    name: ClassVar[str] = "gripper-unit"

    def __init__(self) -> None:
        self._ranges: defaultdict[str, _Range] = defaultdict(_Range)
        self._tally = Tally()
        self._pairs: set[tuple[str, str]] = set()

    def look(self, episode: ExaminedEpisode) -> None:
        for name in _grippers(episode, "observed", "desired", "action"):
            values = _finite(episode.arrays[name])
            if not len(values):
                continue
            low, high = float(values.min()), float(values.max())
            self._ranges[name].widen(low, high)
            if episode.description.fields[name].unit == "m" and not (
                low > -_WIDEST_M and high < _WIDEST_M
            ):
                self._tally.add(episode, name, high if high >= _WIDEST_M else low, fault="metres")
        self._pairs |= set(_action_pairs(episode))

    def findings(self) -> list[Finding]:
        findings = self._tally.findings(
            self.name,
            Severity.ERROR,
            fault="metres",
            measured=lambda seen: (
                f"said to be in metres, but reaches {seen.worst:.4g}: {_likely_unit(seen.worst)}"
            ),
            number="extreme",
            cost="a station that takes metres gets a command far beyond its stroke",
            remedy="scale it to metres, or declare its unit",
        )
        told = {finding.subject for finding in findings}
        for action, observed in sorted(self._pairs):
            ranges = self._ranges[action], self._ranges[observed]
            widths = [one.width for one in ranges]
            # Of a gripper that never held a number, the range is -inf wide.
            if told & {action, observed} or min(widths) < 1e-3:
                continue
            ratio = max(widths) / min(widths)
            # A grasp keeps the fingers from closing, so ranges differ; not tenfold.
            if ratio > 8:
                findings.append(
                    Finding(
                        check=self.name,
                        severity=Severity.ERROR,
                        subject=f"{action} against {observed}",
                        measured=f"commanded {ranges[0]}, observed {ranges[1]}: not one unit",
                        numbers={"ratio": ratio},
                        cost="a policy that sees one and gives the other moves by a wrong amount",
                        remedy="scale both to one unit, metres or 0 (closed) to 1 (open)",
                    )
                )
        return findings


class GripperPolarity(Check):
    """A command to open that closes: the two fall where they should rise together."""

    name: ClassVar[str] = "gripper-polarity"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for action, observed in _action_pairs(episode):
            commanded = episode.arrays[action].reshape(-1)
            measured = episode.arrays[observed].reshape(-1)
            if not (np.isfinite(commanded).all() and np.isfinite(measured).all()):
                continue
            if min(np.ptp(commanded), np.ptp(measured)) < 1e-3:
                continue
            along, against = _extreme_correlations(commanded, measured)
            if against < -0.6 and along < 0.4:
                self._tally.add(episode, f"{action} against {observed}", against)

    def findings(self) -> list[Finding]:
        return self._tally.findings(
            self.name,
            Severity.ERROR,
            measured=lambda seen: (
                "opens when told to close: correlation down to "
                f"{seen.worst:.2f} ({seen.worst_episode})"
            ),
            number="correlation",
            cost="the policy opens its hand where it should grasp",
            remedy="turn one of the two round: 1 - x, or the full width minus x",
        )


def _extreme_correlations(commanded: FloatArray, measured: FloatArray) -> tuple[float, float]:
    """The greatest and the least, of the hand at once and up to some steps after its command."""
    values = []
    for lag in range(min(_MAX_LAG_STEPS, len(commanded) // 3) + 1):
        a, b = commanded[: len(commanded) - lag], measured[lag:]
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            values.append(float(np.corrcoef(a, b)[0, 1]))
    return (max(values), min(values)) if values else (0.0, 0.0)


def _grippers(episode: ExaminedEpisode, *roles) -> list[str]:
    fields = episode.description.fields
    return [name for name in episode.names(*roles) if fields[name].kind == "gripper"]


def _action_pairs(episode: ExaminedEpisode) -> list[tuple[str, str]]:
    fields = episode.description.fields
    return [
        (action, observed)
        for action in _grippers(episode, "action")
        for observed in _grippers(episode, "observed")
        if fields[action].part == fields[observed].part
        and fields[action].size == fields[observed].size == 1
    ]


def _finite(values: FloatArray) -> FloatArray:
    return values[np.isfinite(values)]


def _likely_unit(extreme: float) -> str:
    if extreme <= 1.01:
        return "this is 0 to 1"
    return "this is percent or millimetres" if extreme <= 110 else "this is no width at all"
