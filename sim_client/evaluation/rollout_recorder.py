"""A rollout to look at: a video of what the policy saw, and its trajectory.

    demonstration_7/cameras.mp4      all cameras side by side, at the control rate
    demonstration_7/trajectory.npz   time_s and {actual,desired,action}/... as in a demonstration

Written into a folder aside that is renamed when whole, so a reader never sees half of one.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.demonstration import MotionTrack
from policy_interface.types import Action, Observation, RobotState

VIDEO_FILE_NAME = "cameras.mp4"
TRAJECTORY_FILE_NAME = "trajectory.npz"

_FRAME_RATE_HZ = 10.0
# VP9 plays in browsers, which MPEG-4 part 2 does not; OpenCV's wheels lack an H.264 encoder.
_CODECS = ("vp09", "mp4v")


class RolloutRecorder:
    """Records one episode into `folder`; with None it does nothing, at no cost.

    Without a `save` nothing is left behind.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._partial: Path | None = None
        self._video: Any = None
        self._times_s: list[float] = []
        self._actual: list[RobotState] = []
        self._desired: list[RobotState] = []
        self._actions: list[Action] = []

    def __enter__(self) -> RolloutRecorder:
        if self._folder is not None:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            # What an attempt that was killed left behind.
            for stale in self._folder.parent.glob(f".{self._folder.name}.*.partial"):
                shutil.rmtree(stale, ignore_errors=True)
            self._partial = Path(
                tempfile.mkdtemp(
                    dir=self._folder.parent, prefix=f".{self._folder.name}.", suffix=".partial"
                )
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._video is not None:
            self._video.release()
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, observation: Observation, action: Action) -> None:
        """Note one control step: what was observed and what the policy then asked for."""
        if self._partial is None:
            return
        self._times_s.append(float("nan") if observation.time_s is None else observation.time_s)
        self._actual.append(observation.actual)
        self._desired.append(observation.desired)
        self._actions.append(action)
        if observation.cameras:
            frame = _side_by_side([view.rgb for _, view in sorted(observation.cameras.items())])
            if self._video is None:
                self._video = _open_video(self._partial / VIDEO_FILE_NAME, frame)
            self._video.write(frame)

    def save(self) -> None:
        """Make the recording appear whole, in place of an earlier attempt's."""
        if self._folder is None or self._partial is None:
            return
        if self._video is not None:
            self._video.release()
            self._video = None
        arrays: dict[str, npt.NDArray[Any]] = {"time_s": np.array(self._times_s)}
        tracks = {"actual": self._actual, "desired": self._desired, "action": self._actions}
        for name, states in tracks.items():
            track = MotionTrack.stack(states)
            arrays |= {f"{name}/pose/{arm}": poses for arm, poses in track.poses.items()}
            arrays |= {
                f"{name}/width_m/{g}": widths for g, widths in track.gripper_widths_m.items()
            }
        np.savez_compressed(self._partial / TRAJECTORY_FILE_NAME, allow_pickle=False, **arrays)
        self._partial.chmod(0o755)
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._partial.replace(self._folder)
        self._partial = None


def _open_video(path: Path, frame: npt.NDArray[np.uint8]) -> Any:
    import cv2

    height, width = frame.shape[:2]
    for codec in _CODECS:
        fourcc = cv2.VideoWriter.fourcc(*codec)
        video = cv2.VideoWriter(str(path), fourcc, _FRAME_RATE_HZ, (width, height))
        if video.isOpened():
            return video
    raise OSError(f"{path}: OpenCV can write none of {_CODECS}; run without --save-recordings")


def _side_by_side(images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """RGB images of any sizes to one BGR frame of their greatest height, with even sides."""
    import cv2

    height = max(image.shape[0] for image in images)
    height += height % 2
    scaled = [
        cv2.resize(image, (max(1, round(image.shape[1] * height / image.shape[0])), height))
        for image in images
    ]
    frame = np.concatenate(scaled, axis=1)[:, :, ::-1]
    if frame.shape[1] % 2:
        frame = np.pad(frame, ((0, 0), (0, 1), (0, 0)))
    return np.ascontiguousarray(frame, dtype=np.uint8)
