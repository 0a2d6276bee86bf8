"""Cameras that stand still or repeat frames while there is motion to be seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import BoolArray, ExaminedEpisode, SampledFrames, motion_of
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.field_geometry import angles_between_rad, positions_of
from trainer.data.projection import project, visible_fields

# Of a field's range over the episode, between two steps.
_MOVED = 0.02
_CAMERA_MOVED_M = 0.002
_CAMERA_TURNED_RAD = 0.01
# Of the picture's width. A hand that goes so far in it changes it.
_HAND_MOVED = 0.015
# Of the pairs that should differ. A camera of half the control rate repeats half of them.
_OFTEN = 0.25
# Of 255. Compression makes one frame differ from its repetition by less; what moves, by more.
_COMPRESSION = 32


class RepeatedFrames(Check):
    """Counts only the pairs in which the picture cannot stay the same.

    Where the camera's pose is known: it moved, or a hand moved within its view. Otherwise: the
    robot moved.
    """

    name: ClassVar[str] = "repeated-frames"

    def __init__(self) -> None:
        self._tally = Tally()
        self._changes: dict[str, bool] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        motion = motion_of(episode.description, episode.arrays)
        for camera, sampled in episode.frames.items():
            is_video = episode.description.cameras[camera].encoding == "video"
            frames = sampled.frames
            changed = not all(_same(frames[0], frame, is_video) for frame in frames)
            self._changes[camera] = self._changes.get(camera, False) or changed
            pairs = sampled.pairs()
            if not pairs:
                continue
            must_change = _must_change(episode, camera, sampled, pairs)
            if must_change is None:
                must_change = np.array([motion[sampled.steps[a]] > _MOVED for a, _ in pairs])
            same = np.array([_same(frames[a], frames[b], is_video) for a, b in pairs])
            number, repeated = int(must_change.sum()), int((must_change & same).sum())
            if number < 2 or repeated < 2 or repeated / number < _OFTEN:
                continue
            first = int(sampled.steps[pairs[int(np.argmax(must_change & same))][0]])
            fault = "repeats" if changed else "still"
            self._tally.add(
                episode, camera, repeated / number, fault=fault, steps=(first, first + 2)
            )

    def findings(self) -> list[Finding]:
        findings = [
            *self._tally.findings(
                self.name,
                Severity.ERROR,
                fault="still",
                measured=lambda seen: "the same frame throughout, while there is motion to be seen",
                number="fraction",
                cost="the policy learns to act without looking",
                remedy="find why the camera stood still; leave these episodes or the camera out",
            ),
            *self._tally.findings(
                self.name,
                Severity.WARNING,
                fault="repeats",
                measured=lambda seen: (
                    f"up to {seen.worst:.0%} of the frames repeat the one before, while there is "
                    f"motion to be seen ({seen.worst_episode})"
                ),
                number="fraction",
                cost="pictures lag behind the robot by a varying time",
                remedy="raise the camera's rate to that of control, or lower that of the data",
            ),
        ]
        told = {finding.subject for finding in findings}
        still = [
            camera
            for camera, changes in self._changes.items()
            if not changes and camera not in told
        ]
        if still:
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.NOTE,
                    subject=", ".join(still),
                    measured="shows the same in all sampled frames, and nothing that moves",
                    numbers={"num_cameras": len(still)},
                    cost="it carries nothing, and costs time and memory",
                    remedy="leave the camera out",
                )
            )
        return findings


def _same(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], is_video: bool) -> bool:
    if not is_video:
        return bool((a == b).all())
    return int(np.abs(a.astype(np.int16) - b).max()) < _COMPRESSION


def _must_change(
    episode: ExaminedEpisode, camera: str, sampled: SampledFrames, pairs: list[tuple[int, int]]
) -> BoolArray | None:
    """Whether each pair's frames have to differ; None where the camera's pose is unknown."""
    X_FC, intrinsics = sampled.X_FC, sampled.intrinsics
    if X_FC is None or intrinsics is None:
        return None
    before, after = np.array(pairs).T
    moved = np.linalg.norm(X_FC[after, :3, 3] - X_FC[before, :3, 3], axis=1) > _CAMERA_MOVED_M
    turned = angles_between_rad(X_FC[before, :3, :3], X_FC[after, :3, :3]) > _CAMERA_TURNED_RAD
    must = moved | turned
    view = episode.description.cameras[camera]
    for name in visible_fields(episode.description, camera):
        field = episode.description.fields[name]
        if field.role != "observed":
            continue
        positions = positions_of(field, episode.arrays[name])
        if positions is None:
            continue
        pixels = project(positions[sampled.steps], intrinsics, X_FC)
        inside = np.all((pixels >= 0) & (pixels < (view.width, view.height)), axis=1)
        far = np.linalg.norm(pixels[after] - pixels[before], axis=1) > _HAND_MOVED * view.width
        must = must | (inside[before] & inside[after] & far)
    return must
