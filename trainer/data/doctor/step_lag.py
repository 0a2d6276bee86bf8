"""Action and proprioception out of step with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.doctor.lag import Correlation, correlate
from trainer.data.field_geometry import positions_of

_MAX_LAG_STEPS = 8
# Below this, the two do not move alike and a lag between them means nothing. Changes are asked
# for more: a velocity resembles any smooth target of the same motion, some steps apart.
_LEAST_COEFFICIENT = {"target": 0.6, "change": 0.9}
# A motion cannot come before its command; a third of a step is what sampling within one can do.
_EARLIEST_STEPS = -0.35
# No controller that can be taught with is slower.
_LATEST_S = 0.5
# Between an episode and the others.
_LARGEST_DIFFERENCE_STEPS = 1.5


@dataclass
class _Pair:
    """An action and what is observed of it. `episodes`: each one's correlation."""

    step_s: list[float] = field(default_factory=list)
    episodes: dict[str, Correlation] = field(default_factory=dict)
    copies: int = 0
    seen: int = 0

    @property
    def together(self) -> Correlation:
        total, *others = self.episodes.values()
        for other in others:
            total = total + other
        return total


class StepLag(Check):
    """Pairs an action with the observation of the same part, or of the same shape and names.

    An action may be a target or a change; the reading under which the two go together best counts.
    """

    name: ClassVar[str] = "step-lag"

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], dict[str, _Pair]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        for action, observed in _pairs(episode):
            commanded, measured = _track(episode, action), _track(episode, observed)
            if not (np.isfinite(commanded).all() and np.isfinite(measured).all()):
                continue
            if np.ptp(measured, axis=0).max() < 1e-3:
                continue
            readings = self._pairs.setdefault(
                (action, observed), {"target": _Pair(), "change": _Pair()}
            )
            for reading, pair in readings.items():
                _add(pair, reading, episode, commanded, measured)

    def findings(self) -> list[Finding]:
        findings = []
        for (action, observed), readings in self._pairs.items():
            subject = f"{action} against {observed}"
            known = {name: pair for name, pair in readings.items() if pair.episodes}
            target = readings["target"]
            if target.seen and target.copies == target.seen:
                findings.append(_copy_finding(self.name, subject, target.seen))
            elif known:
                best = max(known, key=lambda name: known[name].together.peak[1])
                lag, coefficient = known[best].together.peak
                # At the last lag that was tried it still rises: that is no peak.
                if coefficient >= _LEAST_COEFFICIENT[best] and abs(lag) < _MAX_LAG_STEPS:
                    findings += _lag_findings(self.name, subject, known[best])
        return findings


def _pairs(episode: ExaminedEpisode) -> list[tuple[str, str]]:
    fields = episode.description.fields
    pairs = []
    for action in episode.names("action"):
        for observed in episode.names("observed"):
            a, o = fields[action], fields[observed]
            if a.part != o.part or a.kind != o.kind or a.shape != o.shape or a.frame != o.frame:
                continue
            if a.kind in ("pose", "translation", "joint_position") or (
                a.kind == "vector" and (a.names == o.names or not (a.names and o.names))
            ):
                pairs.append((action, observed))
    return pairs


def _track(episode: ExaminedEpisode, name: str) -> FloatArray:
    """(T, D): the position of a pose, and all numbers of anything else."""
    values = episode.arrays[name]
    positions = positions_of(episode.description.fields[name], values)
    return values.reshape(len(values), -1) if positions is None else positions


def _add(
    pair: _Pair,
    reading: str,
    episode: ExaminedEpisode,
    commanded: FloatArray,
    measured: FloatArray,
) -> None:
    leader = np.diff(commanded, axis=0) if reading == "target" else commanded[:-1]
    follower = np.diff(measured, axis=0)
    pair.seen += 1
    pair.copies += bool(np.abs(commanded - measured).max() < 1e-9)
    moving = (np.ptp(leader, axis=0) > 1e-6) & (np.ptp(follower, axis=0) > 1e-6)
    if not moving.any():
        return
    # Each column against its own size: a vector may mix metres with radians.
    leader, follower = (
        (series[:, moving] - series[:, moving].mean(axis=0)) / series[:, moving].std(axis=0)
        for series in (leader, follower)
    )
    correlation = correlate(leader, follower, _MAX_LAG_STEPS)
    if correlation is not None:
        pair.step_s.append(episode.step_s)
        pair.episodes[episode.description.episode_id] = correlation


def _copy_finding(check: str, subject: str, number: int) -> Finding:
    return Finding(
        check=check,
        severity=Severity.ERROR,
        subject=subject,
        measured=f"in all {number} episodes the action is the observation of the same step",
        numbers={"num_episodes": number},
        cost="the policy learns to stay where it is",
        remedy="record what was commanded, or take the next step's observation as the action",
    )


def _lag_findings(check: str, subject: str, pair: _Pair) -> list[Finding]:
    lag, coefficient = pair.together.peak
    step_s = float(np.median(pair.step_s))
    numbers = {"lag_steps": lag, "lag_ms": 1e3 * lag * step_s, "coefficient": coefficient}
    what = f"{abs(lag):.1f} steps ({1e3 * abs(lag) * step_s:.0f} ms), correlation {coefficient:.2f}"
    findings = []
    if lag < _EARLIEST_STEPS:
        # To where a motion follows its command by half a step at least.
        shift = math.ceil(0.5 - lag)
        findings.append(
            Finding(
                check=check,
                severity=Severity.ERROR,
                subject=subject,
                measured=f"the motion comes before its command by {what}",
                numbers=numbers,
                cost="the policy learns to repeat what has happened, and lags behind when it acts",
                remedy=f"shift the actions {shift} steps earlier, or find where they were "
                "stamped late",
            )
        )
    elif lag * step_s > _LATEST_S:
        findings.append(
            Finding(
                check=check,
                severity=Severity.WARNING,
                subject=subject,
                measured=f"the motion follows its command by {what}",
                numbers=numbers,
                cost="the observation is stale, or the action is stamped too early",
                remedy="check the clocks of the robot and of the recorder",
            )
        )
    findings += _differing(check, subject, pair, lag, step_s)
    return findings


def _differing(check: str, subject: str, pair: _Pair, lag: float, step_s: float) -> list[Finding]:
    """Episodes whose own lag is clear and is not that of all."""
    peaks = {episode: one.peak for episode, one in pair.episodes.items()}
    other = {
        episode: peak
        for episode, (peak, coefficient) in peaks.items()
        if coefficient > 0.8 and abs(peak - lag) > _LARGEST_DIFFERENCE_STEPS
    }
    if not other:
        return []
    worst = max(other, key=lambda episode: abs(other[episode] - lag))
    return [
        Finding(
            check=check,
            severity=Severity.WARNING,
            episodes=tuple(other),
            subject=subject,
            measured=f"the motion follows by {other[worst]:+.1f} steps "
            f"({1e3 * other[worst] * step_s:+.0f} ms) in {worst}, by {lag:+.1f} over all",
            numbers={"lag_steps": other[worst], "usual_lag_steps": lag},
            cost="the same command means another motion in these episodes",
            remedy="shift their actions, or leave them out",
        )
    ]
