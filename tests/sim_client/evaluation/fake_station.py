"""A station without physics, imported by worker processes; what goes wrong is written beforehand.

FAKE_STATION_SCRIPT maps scenario indices to what happens there, as JSON: "success" (the default),
"failure", "timeout", "solved" at t = 0, or a mishap in the second control step: "die", "raise",
"hang". A mishap befalls only the first attempt of an index, whichever process makes it;
"always raise" befalls each.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policy_interface.contract import Contract, ImageSize
from policy_interface.types import Action, CameraView, Observation, Pose, RobotState

FIRST_EVALUATION_SEED = 100_000_100
NUM_STEPS_TO_SUCCESS = 4
CONTROL_PERIOD_S = 0.1


@dataclass(frozen=True, kw_only=True)
class FakeStatus:
    success: bool
    failed: bool
    predicates: Mapping[str, bool | float] = field(default_factory=dict)


class FakeStation:
    def __init__(self, task_name: str, cameras: Mapping[str, ImageSize]) -> None:
        self.contract = Contract(cameras=cameras, uses_language=True)
        self._task_name = task_name
        self._script: dict[str, str] = json.loads(os.environ["FAKE_STATION_SCRIPT"])
        self._fate = ""
        self._index = 0
        self._num_steps = 0

    @property
    def time_s(self) -> float:
        return self._num_steps * CONTROL_PERIOD_S

    def reset(self, seed: int) -> None:
        self._index = seed - FIRST_EVALUATION_SEED
        self._fate = self._script.get(str(self._index), "success")
        self._num_steps = 0

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
            language_instruction=self._task_name,
            time_s=self.time_s,
        )

    def step(self, action: Action) -> FakeStatus:
        self._num_steps += 1
        if self._num_steps == 2:
            self._suffer()
        return self.status()

    def status(self) -> FakeStatus:
        done = self._num_steps >= NUM_STEPS_TO_SUCCESS
        return FakeStatus(
            success=self._fate == "solved" or (done and self._fate not in ("failure", "timeout")),
            failed=done and self._fate == "failure",
            predicates={"progress": np.float64(self._num_steps), "gap_m": float("nan")},
        )

    def _suffer(self) -> None:
        if self._fate == "always raise" or (self._fate == "raise" and self._is_first_time()):
            raise RuntimeError(f"the physics of scenario {self._index} diverged")
        if self._fate == "die" and self._is_first_time():
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fate == "hang" and self._is_first_time():
            threading.Event().wait()

    def _is_first_time(self) -> bool:
        try:
            (Path(os.environ["FAKE_STATION_MARKS"]) / str(self._index)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def build(task_name: str, cameras: Mapping[str, ImageSize]) -> FakeStation:
    return FakeStation(task_name, cameras)
