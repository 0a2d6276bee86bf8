"""A scene without physics; what befalls it is written beforehand.

LBM_STAND_IN_SCRIPT maps scenario indices to fates, as JSON. A mishap, of those in `_suffer`, takes
place in the second control step, and only at the first attempt of its index, whichever process
makes it: LBM_STAND_IN_MARKS is where they leave word of that.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydrake.math import RigidTransform
from robot_gym.multiarm_spaces import (
    MultiarmObservation,
    PosesAndGrippers,
    PosesAndGrippersActualAndDesired,
)

ARMS = ("right::panda", "left::panda")
GRIPPERS = ("right::panda_hand", "left::panda_hand")
CONTROL_PERIOD_S = 0.1
OWN_TIME_LIMIT_S = 1.5
STEPS_TO_SUCCESS = {"success": 9, "quick": 3, "solved": 0}


class SimFailure(Exception):  # noqa: N818 (its name in LBM Eval)
    pass


@dataclass
class TimeStep:
    info: dict[str, float | bool]


class Scene:
    def __init__(self, *, seed: int, t_max: float | None) -> None:
        self.time_s = 0.0
        self._index = seed - 100_000_100
        self._fate = json.loads(os.environ["LBM_STAND_IN_SCRIPT"]).get(str(self._index), "success")
        self._t_max = OWN_TIME_LIMIT_S if t_max is None else t_max
        self._num_steps = 0
        if self._fate == "no placement" and self._is_first_time():
            raise RuntimeError("Rejection sampling found no valid scenario after trying 100 seeds.")
        poses = {arm: RigidTransform([0.0, 0.1 * side, 0.3]) for side, arm in enumerate(ARMS)}
        self._state = PosesAndGrippers(poses=poses, grippers=dict.fromkeys(GRIPPERS, 0.1))

    @property
    def is_success(self) -> bool:
        # A mishap befalls the first attempt alone, and the second succeeds.
        if self._fate in ("timeout", "quick", "solved"):
            return self._num_steps >= STEPS_TO_SUCCESS.get(self._fate, 10**6)
        return self._num_steps >= STEPS_TO_SUCCESS["success"]

    @property
    def is_over(self) -> bool:
        return self.is_success or self.time_s >= self._t_max

    def observe(self) -> MultiarmObservation:
        robot = PosesAndGrippersActualAndDesired(actual=self._state, desired=self._state)
        return MultiarmObservation(robot=robot, language_instruction="do the task")

    def step(self, action: PosesAndGrippers) -> TimeStep:
        self.set_env_input(action)
        self._num_steps += 1
        self.time_s = self._num_steps * CONTROL_PERIOD_S
        if not all(np.isfinite(X_TE.GetAsMatrix4()).all() for X_TE in self._state.poses.values()):
            raise SimFailure("The initial guess for line search is NaN. Check the inputs.")
        if self._num_steps == 2:
            self._suffer()
        return TimeStep(info={"time": self.time_s, "is_success": self.is_success})

    def set_env_input(self, action: PosesAndGrippers) -> None:
        poses = {arm: action.poses[arm] for arm in ARMS}
        widths_m = {gripper: max(0.0, action.grippers[gripper]) for gripper in GRIPPERS}
        self._state = PosesAndGrippers(poses=poses, grippers=widths_m)

    def _suffer(self) -> None:
        mishaps = {
            "solver": SimFailure("MultibodyPlant's discrete update solver failed to converge"),
            "scene graph": RuntimeError("SceneGraph encountered a non-finite value in a pose"),
            "disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "h5": KeyError("Unable to synchronously open object (object 'q' doesn't exist)"),
            "bug": ZeroDivisionError("division by zero"),
        }
        if self._fate in mishaps and self._is_first_time():
            raise mishaps[self._fate]
        if self._fate == "die" and self._is_first_time():
            print("about to leave", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fate == "hang" and self._is_first_time():
            threading.Event().wait()

    def _is_first_time(self) -> bool:
        try:
            (Path(os.environ["LBM_STAND_IN_MARKS"]) / str(self._index)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
