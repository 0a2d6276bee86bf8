"""What an episode leaves behind, besides its line in the ledger.

    demonstration_7/actions.npz      what was done, and a digest of every state: always
    demonstration_7/cameras.mp4      the cameras asked for, side by side, at the control rate
    demonstration_7/recording.html   the scene in three dimensions, for a browser
    demonstration_7/states.npz       every position and velocity, in the simulator's order
    demonstration_7/error.npz        where an attempt broke: its actions, and the state before

Where and under what names VLA Foundry's dashboard looks for them. The video grows as the episode
does; the others appear whole, at its end, the action log last. A new attempt replaces what an
earlier one left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from policy_interface.types import Observation
from sim_client.action_vector import ACTION_SIZE, action_to_vector
from sim_client.evaluation.action_log import ACTION_LOG_FILE_NAME, ActionLog, write_arrays
from sim_client.evaluation.recording_options import RecordingOptions
from sim_client.evaluation.station import Station
from sim_client.evaluation.video import VideoWriter, side_by_side
from step_analysis.atomic_file import write_atomically

if TYPE_CHECKING:
    from sim_client.evaluation.scene_view import SceneView

VIDEO_FILE_NAME = "cameras.mp4"
SCENE_FILE_NAME = "recording.html"
STATES_FILE_NAME = "states.npz"
ERROR_FILE_NAME = "error.npz"
# By each attempt; what an earlier one broke at stays.
_REPLACED = (VIDEO_FILE_NAME, SCENE_FILE_NAME, STATES_FILE_NAME, ACTION_LOG_FILE_NAME)


@dataclass(frozen=True, kw_only=True)
class EpisodeName:
    """Which episode it is, and what it is simulated under."""

    task: str
    scenario_index: int
    seed: int
    protocol_json: str


def adopt_files(source: Path, folder: Path, more: Iterable[str] = ()) -> None:
    """Move an attempt's files, and `more`, to its episode's folder, on the same disk.

    source: what a process wrote that is not trusted with the folder itself; of that, only plain
    files under the names above are taken.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_REPLACED, *more, ERROR_FILE_NAME):
        target = folder / name
        if name != ERROR_FILE_NAME:
            target.unlink(missing_ok=True)
        if os.path.lexists(source / name):
            (source / name).replace(target)
            # Looked at here, where nobody can exchange it any more.
            if target.is_symlink() or not target.is_file():
                _remove(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


class EpisodeFiles:
    """The files of one attempt at an episode; within a `with`, which closes the video.

    Raises OSError where they can't be written. view: draws the scene, if that is asked for.
    """

    def __init__(
        self,
        folder: Path,
        name: EpisodeName,
        options: RecordingOptions,
        view: SceneView | None = None,
    ) -> None:
        self._folder = folder
        self._name = name
        self._options = options
        self._view = view
        self._instruction = ""
        self._video: VideoWriter | None = None
        self._times_s: list[float] = []
        self._actions: list[npt.NDArray[np.float64]] = []
        self._measured: list[npt.NDArray[np.float64]] = []
        self._digests: list[bytes] = []
        self._states: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        self._state_times_s: list[float] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in _REPLACED:
            (self._folder / name).unlink(missing_ok=True)
        # What a process that was killed had not yet renamed.
        for stale in self._folder.glob(".*.part"):
            stale.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._video is None:
            return
        video, self._video = self._video, None
        if error is None:
            video.close()
        else:
            # The error that ended the episode says more than one that follows from it.
            with contextlib.suppress(OSError):
                video.close()

    def begin(self, station: Station) -> None:
        """The episode has been reset."""
        self._instruction = station.instruction
        if self._options.video_cameras:
            self._video = VideoWriter(
                self._folder / VIDEO_FILE_NAME, frame_rate_hz=station.contract.control_rate_hz
            )
        if self._view is not None:
            self._view.begin(station)
        self._note_state(station)

    def add(self, observation: Observation, vector: npt.NDArray[np.float64]) -> None:
        """A control step is about to be taken: what was observed, and what is to be done."""
        self._times_s.append(float("nan") if observation.time_s is None else observation.time_s)
        self._actions.append(vector)
        self._measured.append(action_to_vector(observation.actual))
        if self._video is not None:
            images = [observation.cameras[name].rgb for name in self._options.video_cameras]
            self._video.write(side_by_side(images))

    def note_step(self, station: Station) -> None:
        """The control step has been taken."""
        if self._view is not None:
            self._view.publish(station)
        self._note_state(station)

    def save(self) -> None:
        """The episode is over: write what is written at its end."""
        if self._video is not None:
            self._video.close()
            self._video = None
        if self._view is not None and self._options.save_meshcat:
            write_atomically(self._folder / SCENE_FILE_NAME, self._view.html())
        if self._options.save_states:
            write_arrays(self._folder / STATES_FILE_NAME, self._state_arrays(self._states))
        write_arrays(self._folder / ACTION_LOG_FILE_NAME, self._log().arrays())

    def save_error(self, message: str) -> None:
        """The simulation broke: what led to it, and the last state that was whole."""
        arrays = self._log().arrays()
        arrays["message"] = np.array(message)
        arrays |= self._state_arrays(self._states[-1:])
        write_arrays(self._folder / ERROR_FILE_NAME, arrays)

    def _note_state(self, station: Station) -> None:
        self._digests.append(bytes.fromhex(station.state_digest()))
        if not self._options.save_states:
            # For a simulation that breaks in the next step.
            self._states.clear()
            self._state_times_s.clear()
        self._states.append(station.state())
        self._state_times_s.append(station.time_s)

    def _state_arrays(
        self, states: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
    ) -> dict[str, npt.NDArray[Any]]:
        return {
            "state_times_s": np.array(self._state_times_s[len(self._states) - len(states) :]),
            "positions": np.array([positions for positions, _ in states]),
            "velocities": np.array([velocities for _, velocities in states]),
        }

    def _log(self) -> ActionLog:
        digests = np.frombuffer(b"".join(self._digests), dtype=np.uint8)
        return ActionLog(
            task=self._name.task,
            scenario_index=self._name.scenario_index,
            seed=self._name.seed,
            protocol_json=self._name.protocol_json,
            instruction=self._instruction,
            times_s=np.array(self._times_s, dtype=np.float64),
            actions=np.array(self._actions, dtype=np.float64).reshape(-1, ACTION_SIZE),
            measured=np.array(self._measured, dtype=np.float64).reshape(-1, ACTION_SIZE),
            state_digests=digests.reshape(-1, 32),
        )
