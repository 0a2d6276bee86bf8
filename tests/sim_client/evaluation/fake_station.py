"""A station without physics, imported by worker processes; what goes wrong is written beforehand.

FAKE_STATION_SCRIPT maps scenario indices to what happens there, as JSON: "success" (the default),
"failure", "timeout", "solved" at t = 0, or a mishap in the second control step: "die", "raise",
"hang", "fill the disk". A mishap befalls only the first attempt of an index, whichever process
makes it; "always raise" and "eat memory" befall each. "drift" makes the state depend on the
process, as a simulator does that is not deterministic; after "a day back" and "a year on" the time
of day is another for this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np

from policy_interface.contract import Contract
from policy_interface.types import Action, CameraView, Observation, Pose, RobotState
from sim_client.action_vector import action_to_vector
from sim_client.evaluation import episode
from sim_client.evaluation.station import StationOptions

FIRST_EVALUATION_SEED = 100_000_100
NUM_STEPS_TO_SUCCESS = 4
CONTROL_PERIOD_S = 0.1

_JUMPS = {"a day back": timedelta(days=-1), "a year on": timedelta(days=365)}


@dataclass(frozen=True, kw_only=True)
class FakeStatus:
    success: bool
    failed: bool
    progress: float = 0.0
    predicates: Mapping[str, bool | float] = field(default_factory=dict)


class FakeStation:
    def __init__(self, options: StationOptions) -> None:
        self.contract = Contract(cameras=options.cameras, uses_language=True)
        self.instruction = ""
        self.gl_renderer = os.environ.get("FAKE_STATION_GL", "a brush")
        self._options = options
        self._script: dict[str, str] = json.loads(os.environ["FAKE_STATION_SCRIPT"])
        self._fate = ""
        self._index = 0
        self._num_steps = 0
        self._sum = np.zeros(20)

    @property
    def time_s(self) -> float:
        return self._num_steps * CONTROL_PERIOD_S

    def reset(self, seed: int) -> None:
        self._index = seed - FIRST_EVALUATION_SEED
        self._fate = self._script.get(str(self._index), "success")
        self._num_steps = 0
        self._sum = np.zeros(20)
        self.instruction = f"{self._options.task_name}, phrasing {seed % 3}"

    def observe(self) -> Observation:
        state = RobotState(
            poses={arm: Pose.identity() for arm in self.contract.arms},
            gripper_widths_m=dict.fromkeys(self.contract.grippers, 0.08),
        )
        return Observation(
            actual=state,
            desired=state,
            cameras={
                name: CameraView(
                    rgb=np.full(
                        (size.height, size.width, 3), min(255, 40 * self._num_steps), np.uint8
                    ),
                    intrinsics=np.eye(3),
                    X_TC=Pose.identity(),
                )
                for name, size in self.contract.cameras.items()
            },
            language_instruction=self.instruction,
            time_s=self.time_s,
        )

    def step(self, action: Action) -> FakeStatus:
        self._num_steps += 1
        self._sum += action_to_vector(action)
        if self._num_steps == 2:
            self._suffer()
        return self.status()

    def status(self) -> FakeStatus:
        done = self._num_steps >= NUM_STEPS_TO_SUCCESS
        return FakeStatus(
            success=self._fate == "solved" or (done and self._fate not in ("failure", "timeout")),
            failed=done and self._fate == "failure",
            progress=min(1.0, self._num_steps / NUM_STEPS_TO_SUCCESS),
            predicates={"num_steps": np.float64(self._num_steps), "gap_m": float("nan")},
        )

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        drift = os.getpid() if self._fate == "drift" and self._num_steps > 1 else 0
        return np.append(self._sum, self._index), np.array([self._num_steps, drift], dtype=float)

    def state_digest(self) -> str:
        return hashlib.sha256(np.concatenate(self.state()).tobytes()).hexdigest()

    def _suffer(self) -> None:
        if self._fate == "always raise" or (self._fate == "raise" and self._is_first_time()):
            raise RuntimeError(f"the physics of scenario {self._index} diverged")
        if self._fate == "eat memory":
            eaten = []
            while True:
                eaten.append(bytearray(2**24))
        if self._fate == "die" and self._is_first_time():
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fate == "abort" and self._is_first_time():
            # As the C library does where it finds its memory corrupted.
            os.abort()
        if self._fate == "fill the disk" and self._is_first_time():
            # What is written now fails as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        if self._fate in _JUMPS:
            _set_the_clock(_JUMPS[self._fate])
        if self._fate == "hang" and self._is_first_time():
            threading.Event().wait()

    def _is_first_time(self) -> bool:
        try:
            (Path(os.environ["FAKE_STATION_MARKS"]) / str(self._index)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _set_the_clock(jump: timedelta) -> None:
    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + jump

    episode.datetime = Jumped  # type: ignore[misc]


def build(options: StationOptions) -> FakeStation:
    return FakeStation(options)
