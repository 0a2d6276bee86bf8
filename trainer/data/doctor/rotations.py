"""Rotations that are none, that jump, or that are stored in another layout than they say."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.field_geometry import (
    ROTATION_6D_KINDS,
    angles_between_rad,
    rotations_from_six,
    rotations_of,
    sudden_step,
)

# float32 and a few products of it stay far below; a mean of two rotations does not.
_TOLERANCE = 2e-3
# Half a turn within two control steps is no robot's.
_JUMP_RAD = 1.2
_FAR_RAD = 1.0
_NEAR_RAD = 0.5


class Orthonormality(Check):
    """Axes that are not of length one and at right angles, or that are left-handed."""

    name: ClassVar[str] = "rotation-orthonormal"

    def __init__(self) -> None:
        self._tally = Tally()
        self._layouts: dict[str, str] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        for name in episode.names():
            field, values = episode.description.fields[name], episode.arrays[name]
            rotations = _finite_rotations(episode, name)
            if rotations is None:
                continue
            residuals = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
            bad = residuals > _TOLERANCE
            mirrored = ~bad & (np.linalg.det(rotations) < 0)
            if mirrored.any():
                self._tally.add(episode, name, float(mirrored.sum()), fault="mirrored")
            if not bad.any():
                continue
            (steps,) = np.nonzero(bad)
            other = _fitting_layout(field.kind, values) if bad.mean() > 0.5 else None
            if other is not None:
                self._layouts[name] = other
            self._tally.add(
                episode,
                name,
                float(residuals.max()),
                fault="other layout" if other else "off",
                steps=(int(steps[0]), int(steps[-1]) + 1),
            )

    def findings(self) -> list[Finding]:
        findings = self._tally.findings(
            self.name,
            Severity.ERROR,
            fault="off",
            measured=lambda seen: (
                f"R Rᵀ differs from the identity by up to {seen.worst:.3g} ({seen.worst_episode})"
            ),
            number="residual",
            cost="relative poses made with it are no poses; the target is bent",
            remedy="make them from the source anew; a mean of rotations is no rotation",
        )
        findings += self._tally.findings(
            self.name,
            Severity.ERROR,
            fault="mirrored",
            measured=lambda seen: f"left-handed axes in {seen.total:.0f} steps",
            number="num_steps",
            cost="no robot can reach a mirrored pose",
            remedy="find the axis whose sign was lost",
        )
        for subject, layout in self._layouts.items():
            findings += [
                Finding(
                    check=self.name,
                    severity=Severity.ERROR,
                    episodes=tuple(seen.episodes),
                    subject=subject,
                    measured=f"no rotation as declared (off by {seen.worst:.3g}), "
                    f"but one as {layout}",
                    numbers={"residual": seen.worst},
                    cost="every rotation is read wrongly, and no error is raised",
                    remedy=f"declare it as {layout}",
                )
                for name, seen in self._tally.items("other layout")
                if name == subject
            ]
        return findings


class RotationJumps(Check):
    """The hand turns further between two steps than a hand can."""

    name: ClassVar[str] = "rotation-jump"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for name in episode.names("observed", "desired", "action"):
            rotations = _finite_rotations(episode, name)
            if rotations is None or len(rotations) < 2:
                continue
            angles = angles_between_rad(rotations[:-1], rotations[1:])
            jump = sudden_step(angles, _JUMP_RAD)
            if jump is not None:
                self._tally.add(episode, name, float(angles[jump]), steps=(jump, jump + 2))

    def findings(self) -> list[Finding]:
        return self._tally.findings(
            self.name,
            Severity.WARNING,
            measured=lambda seen: (
                f"turns by up to {np.rad2deg(seen.worst):.0f}° in one step ({seen.worst_episode})"
            ),
            number="angle_rad",
            cost="windows over the jump teach a motion that nobody made",
            remedy="cut the episode there, or mend the source (a sign or an angle that wrapped)",
        )


class RotationLayout(Check):
    """Rows where columns are meant, told by the other rotation of the same part.

    Both layouts of six numbers are orthonormal; only beside another rotation does one show itself.
    """

    name: ClassVar[str] = "rotation-layout"

    def __init__(self) -> None:
        self._angles: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        fields = episode.description.fields
        observed = [(name, _finite_rotations(episode, name)) for name in episode.names("observed")]
        actions = [(name, _finite_rotations(episode, name)) for name in episode.names("action")]
        for action, commanded in actions:
            for name, measured in observed:
                if commanded is None or measured is None or len(commanded) != len(measured):
                    continue
                if fields[action].part != fields[name].part:
                    continue
                straight = angles_between_rad(commanded, measured)
                turned = angles_between_rad(commanded.transpose(0, 2, 1), measured)
                self._angles.setdefault((action, name), []).append(
                    (float(np.median(straight)), float(np.median(turned)))
                )

    def findings(self) -> list[Finding]:
        findings = []
        for (action, observed), angles in self._angles.items():
            straight, turned = (float(np.median(column)) for column in zip(*angles, strict=True))
            if straight > _FAR_RAD and turned < _NEAR_RAD:
                findings.append(
                    Finding(
                        check=self.name,
                        severity=Severity.ERROR,
                        subject=f"{action} against {observed}",
                        measured=f"commanded and observed differ by {np.rad2deg(straight):.0f}°, "
                        f"and by {np.rad2deg(turned):.0f}° if one of them is transposed",
                        numbers={"angle_rad": straight, "angle_transposed_rad": turned},
                        cost="one is stored by rows and read by columns: the hand turns wrongly",
                        remedy="declare the layout (rows, columns, interleaved) that each has",
                    )
                )
        return findings


def _finite_rotations(episode: ExaminedEpisode, name: str) -> FloatArray | None:
    rotations = rotations_of(episode.description.fields[name], episode.arrays[name])
    if rotations is None or not np.isfinite(rotations).all():
        return None
    return rotations


def _fitting_layout(kind: str, values: FloatArray) -> str | None:
    for other in ROTATION_6D_KINDS:
        if other != kind and kind in ROTATION_6D_KINDS:
            rotations = rotations_from_six(other, values)
            residuals = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3))
            if residuals.max() <= _TOLERANCE:
                return other
    return None
