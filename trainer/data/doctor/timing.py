"""Time stamps: gaps, uneven and unequal rates."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

# A step longer than this many usual ones lost at least one observation.
_GAP = 1.7
# Of the usual step: more jitter than this moves an action to a neighbouring step now and then.
_JITTER = 0.25
# Between an episode's rate and the one it declares, or the usual one.
_RATE_TOLERANCE = 0.05


class Timing(Check):
    """Windows are cut by steps, so a gap or another rate is a robot that moves at another speed."""

    name: ClassVar[str] = "timing"

    def __init__(self) -> None:
        self._tally = Tally()
        self._rates: dict[str, float] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        gaps_s = np.diff(episode.times_s)
        if not len(gaps_s):
            return
        if not (np.isfinite(gaps_s).all() and (gaps_s > 0).all()):
            step = int(np.argmin(np.where(np.isfinite(gaps_s), gaps_s, -np.inf)))
            self._tally.add(
                episode, "", float(gaps_s[step]), fault="backwards", steps=(step, step + 2)
            )
            return
        usual_s = episode.step_s
        deviation = float(np.quantile(np.abs(gaps_s / usual_s - 1), 0.9))
        if deviation > _JITTER:
            # There is no usual step, and so no rate to compare.
            self._tally.add(episode, "", deviation, fault="uneven")
            return
        worst = int(np.argmax(gaps_s))
        if gaps_s[worst] > _GAP * usual_s:
            self._tally.add(
                episode, "", float(gaps_s[worst]), fault="gap", steps=(worst, worst + 2)
            )
        self._rates[episode.description.episode_id] = 1 / usual_s
        declared = episode.description.rate_hz
        if declared is not None and abs(declared * usual_s - 1) > _RATE_TOLERANCE:
            self._tally.add(episode, "", 1 / usual_s, fault="declared")

    def findings(self) -> list[Finding]:
        def told(fault: str, severity: Severity, text: str, cost: str, remedy: str, number: str):
            return self._tally.findings(
                self.name,
                severity,
                fault=fault,
                measured=lambda seen: text.format(worst=seen.worst, episode=seen.worst_episode),
                number=number,
                cost=cost,
                remedy=remedy,
            )

        return [
            *told(
                "backwards",
                Severity.ERROR,
                "time stands still, goes back or is NaN ({worst:+.4g} s in {episode})",
                "the order of observations and actions is not known",
                "sort the steps by time and drop the repeated ones, or leave the episodes out",
                "worst_step_s",
            ),
            *told(
                "gap",
                Severity.WARNING,
                "a gap of up to {worst:.3g} s ({episode})",
                "windows over the gap teach a jump that the robot made in several steps",
                "cut the episodes at the gap",
                "worst_gap_s",
            ),
            *told(
                "uneven",
                Severity.WARNING,
                "steps deviate from the usual one by up to {worst:.0%} (90th percentile)",
                "actions are learnt for times that are not those of control",
                "resample to an even rate before training",
                "deviation",
            ),
            *told(
                "declared",
                Severity.ERROR,
                "the times say {worst:.3g} Hz, the description another rate",
                "the policy moves the robot faster or slower than the demonstrations did",
                "correct the declared rate or the time stamps",
                "rate_hz",
            ),
            *self._unequal_rates(),
        ]

    def _unequal_rates(self) -> list[Finding]:
        if len(self._rates) < 2:
            return []
        usual = float(np.median(list(self._rates.values())))
        other = {k: v for k, v in self._rates.items() if abs(v / usual - 1) > _RATE_TOLERANCE}
        if not other:
            return []
        worst = max(other.values(), key=lambda rate: abs(np.log(rate / usual)))
        return [
            Finding(
                check=self.name,
                severity=Severity.ERROR,
                episodes=tuple(other),
                measured=f"recorded at {worst:.3g} Hz where most are at {usual:.3g} Hz",
                numbers={"rate_hz": worst, "usual_rate_hz": usual},
                cost="the same window is another span of time: speeds are learnt mixed",
                remedy="resample them to one rate",
            )
        ]
