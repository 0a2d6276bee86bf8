"""Positions and joints that jump, leave their limits or are in another unit than they say."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.field_geometry import positions_of, sudden_step

# Metres a second: three times what fast arms allow.
_FASTEST_M_S = 6.0
# Radians a second: a Panda's joints reach 2.6, fast arms 7.
_FASTEST_RAD_S = 15.0
_FARTHEST_M = 10.0
_MARGIN_RAD = 0.02
# Of the Franka Emika Panda, by its data sheet.
_PANDA_LIMITS_RAD = np.array(
    [
        (-2.8973, 2.8973),
        (-1.7628, 1.7628),
        (-2.8973, 2.8973),
        (-3.0718, -0.0698),
        (-2.8973, 2.8973),
        (-0.0175, 3.7525),
        (-2.8973, 2.8973),
    ]
)


class PositionJumps(Check):
    """A hand that is elsewhere one step later, and millimetres that say metres."""

    name: ClassVar[str] = "position-jump"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for name in episode.names("observed", "desired", "action"):
            field = episode.description.fields[name]
            positions = positions_of(field, episode.arrays[name])
            if positions is None or field.unit not in ("m", None) or len(positions) < 2:
                continue
            if not np.isfinite(positions).all():
                continue
            farthest = float(np.abs(positions).max())
            if farthest > _FARTHEST_M:
                if field.unit == "m":
                    self._tally.add(episode, name, farthest, fault="far")
                continue
            distances = np.linalg.norm(np.diff(positions, axis=0), axis=1)
            jump = sudden_step(distances, _FASTEST_M_S * max(episode.step_s, 1e-9))
            if jump is not None:
                self._tally.add(
                    episode, name, float(distances[jump]), fault="jump", steps=(jump, jump + 2)
                )

    def findings(self) -> list[Finding]:
        return [
            *self._tally.findings(
                self.name,
                Severity.ERROR,
                fault="far",
                measured=lambda seen: f"said to be in metres, but reaches {seen.worst:.4g}",
                number="farthest",
                cost="a robot that takes metres is sent out of its reach",
                remedy="scale it to metres (it may be millimetres), or declare its unit",
            ),
            *self._tally.findings(
                self.name,
                Severity.WARNING,
                fault="jump",
                measured=lambda seen: (
                    f"jumps by up to {seen.worst:.3g} m in one step ({seen.worst_episode})"
                ),
                number="jump_m",
                cost="windows over the jump teach a motion that nobody made",
                remedy="cut the episode there, or mend the source",
            ),
        ]


class JointJumps(Check):
    """Angles that wrap or jump, that exceed a known arm's limits, or that are degrees."""

    name: ClassVar[str] = "joint-limits"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for name in episode.names("observed", "desired", "action"):
            field = episode.description.fields[name]
            if field.kind != "joint_position" or field.unit not in ("rad", None):
                continue
            joints = episode.arrays[name].reshape(episode.description.num_steps, -1)
            if not np.isfinite(joints).all():
                continue
            largest = float(np.abs(joints).max())
            if largest > 4 * np.pi:
                self._tally.add(episode, name, largest, fault="degrees")
                continue
            if "panda" in (field.part or "") and joints.shape[1] == 7:
                low, high = _PANDA_LIMITS_RAD.T
                beyond = np.maximum(low - joints, joints - high).max(axis=1)
                if beyond.max() > _MARGIN_RAD:
                    step = int(np.argmax(beyond))
                    self._tally.add(
                        episode, name, float(beyond.max()), fault="limit", steps=(step, step + 1)
                    )
            changes = np.abs(np.diff(joints, axis=0)).max(axis=1, initial=0.0)
            if not len(changes):
                continue
            jump = sudden_step(changes, _FASTEST_RAD_S * max(episode.step_s, 1e-9))
            if jump is not None:
                self._tally.add(
                    episode, name, float(changes[jump]), fault="jump", steps=(jump, jump + 2)
                )

    def findings(self) -> list[Finding]:
        return [
            *self._tally.findings(
                self.name,
                Severity.ERROR,
                fault="degrees",
                measured=lambda seen: f"reaches {seen.worst:.4g}, which no joint does in radians",
                number="largest",
                cost="a robot that takes radians is sent to its limits",
                remedy="convert degrees to radians, or declare the unit",
            ),
            *self._tally.findings(
                self.name,
                Severity.WARNING,
                fault="limit",
                measured=lambda seen: (
                    f"up to {seen.worst:.3g} rad beyond the Panda's limits ({seen.worst_episode})"
                ),
                number="beyond_rad",
                cost="the joints are in another order or of another sign, or the arm is another",
                remedy="check the order and the signs of the joints",
            ),
            *self._tally.findings(
                self.name,
                Severity.WARNING,
                fault="jump",
                measured=lambda seen: (
                    f"a joint jumps by up to {seen.worst:.3g} rad in one step "
                    f"({seen.worst_episode})"
                    + (": it wraps around" if abs(seen.worst - 2 * np.pi) < 0.3 else "")
                ),
                number="jump_rad",
                cost="windows over the jump teach a motion that nobody made",
                remedy="unwrap the angles, cut the episode there, or mend the source",
            ),
        ]
