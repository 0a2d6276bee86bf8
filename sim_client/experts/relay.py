"""Two arms that hand on: what one arm cannot finish it brings to where the other can.

Each stage is a pick-and-place with one arm. Which stage is next follows from the state alone, so
that what was dropped is picked up by whoever reaches it. The arm without a stage waits at home, and
the next arm starts when the other has left the place where it works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from policy_interface.types import Action, RobotState
from sim_client.experts.motion import OPEN_WIDTH_M, ArmMotion, tool_pose
from sim_client.experts.one_arm import Phase
from sim_client.experts.pick_and_place import PickAndPlaceExpert, PickAndPlaceTarget
from sim_client.station import panda_kinematics as panda
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES
from sim_client.station.workspace import SIDES
from sim_client.tasks.scene_state import SceneState

_HOME_TOLERANCE_M = 0.03
_HANDS_APART_M = 0.24
"""Between a hand that waits for room and the other: hands are 20 cm wide, and noise moves them."""


class RelayStage(PickAndPlaceTarget, Protocol):
    """One arm's part; `side` is asked at its beginning."""

    def wanted(self, state: SceneState) -> bool:
        """Whether this is what the state asks for: of several stages the first that is."""
        ...


class RelayExpert:
    """Runs the stages that the state asks for, one at a time, until none is wanted."""

    def __init__(self, stages: Sequence[RelayStage]) -> None:
        self._stages = tuple(stages)
        self._going_home = {side: ArmMotion() for side in SIDES}
        self.reset()

    def reset(self) -> None:
        for motion in self._going_home.values():
            motion.reset()
        self._stage: RelayStage | None = None
        self._worker: PickAndPlaceExpert | None = None
        self._side: str | None = None
        self._home: RobotState | None = None
        self._arms: tuple[str, ...] = ()
        self._finished = False

    @property
    def arms(self) -> tuple[str, ...]:
        return self._arms

    @property
    def finished(self) -> bool:
        return self._finished

    def act(self, state: SceneState, actual: RobotState, desired: RobotState) -> Action:
        if self._home is None:
            self._home = desired
        self._choose_stage(state)
        poses = dict(self._home.poses)
        widths = dict(self._home.gripper_widths_m)
        arms: list[str] = []
        at_work = self._side if self._has_room(state, actual) else None
        for side in SIDES:
            if side != at_work and not self._is_home(side, actual):
                X_TC_home = self._home.poses[ARM_NAMES[side]].matrix() @ panda.X_EC
                poses[ARM_NAMES[side]] = self._going_home[side].toward(
                    tool_pose(side, actual), X_TC_home
                )
                widths[GRIPPER_NAMES[side]] = OPEN_WIDTH_M
                arms.append(ARM_NAMES[side])
        if self._worker is not None and at_work is not None:
            arm, gripper = ARM_NAMES[at_work], GRIPPER_NAMES[at_work]
            action = self._worker.act(state, actual, desired)
            poses[arm] = action.poses[arm]
            widths[gripper] = action.gripper_widths_m[gripper]
            arms.append(arm)
        self._arms = tuple(arms)
        self._finished = self._worker is None
        return Action(poses=poses, gripper_widths_m=widths)

    def _choose_stage(self, state: SceneState) -> None:
        stage, worker = self._stage, self._worker
        if stage is not None and worker is not None:
            # Before it holds anything it may still be called off; afterwards it sees it through.
            called_off = worker.phase is Phase.APPROACH and not stage.wanted(state)
            if not worker.finished and not called_off:
                return
        self._stage = next((each for each in self._stages if each.wanted(state)), None)
        self._worker = self._side = None
        if self._stage is not None:
            self._worker = PickAndPlaceExpert(self._stage)
            self._side = self._stage.side(state)
            self._going_home[self._side].reset()

    def _is_home(self, side: str, actual: RobotState) -> bool:
        assert self._home is not None
        arm = ARM_NAMES[side]
        offset = actual.poses[arm].translation_m - self._home.poses[arm].translation_m
        return float(np.linalg.norm(offset)) < _HOME_TOLERANCE_M

    def _has_room(self, state: SceneState, actual: RobotState) -> bool:
        """Whether the other hand is out of the way, here and where the work is."""
        if self._side is None or self._stage is None or self._worker is None:
            return False
        if self._worker.phase is not Phase.APPROACH:
            return True
        other = "left" if self._side == "right" else "right"
        p_other = tool_pose(other, actual)[:2, 3]
        places = (
            tool_pose(self._side, actual)[:2, 3],
            state.position_m(self._stage.object_name)[:2],
        )
        return all(float(np.linalg.norm(p_other - place)) > _HANDS_APART_M for place in places)
