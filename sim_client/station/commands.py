"""What the station can be told to do, and when what it was told takes effect."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    Contract,
    ContractError,
    action_violations,
)
from policy_interface.types import Action, InvalidValueError
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import ArmCommand, ArmController
from sim_client.station.panda_kinematics import Array
from sim_client.station.workspace import TIME_STEP_S

CONTROL_PERIOD_S = 0.1
TIME_STEPS_PER_CONTROL_STEP = round(CONTROL_PERIOD_S / TIME_STEP_S)
MAX_LATENCY_S = 5.0

# The servos' commands are renewed at 50 Hz: after so many of the physics' time steps. Where actions
# take effect between two of these ticks, all are moved by half of one.
_TICKS = (2, 2, 2, 2, 2)
_TICKS_BETWEEN = (1, 2, 2, 2, 2, 1)

ARM_NAMES = {"right": RIGHT_ARM, "left": LEFT_ARM}
GRIPPER_NAMES = {"right": RIGHT_GRIPPER, "left": LEFT_GRIPPER}


@dataclass(frozen=True, kw_only=True, eq=False)
class JointAction:
    """Joint angles (7,) in rad by arm and gripper widths in metres, for one control step."""

    joint_positions_rad: Mapping[str, Array]
    gripper_widths_m: Mapping[str, float]

    def __post_init__(self) -> None:
        positions = {}
        for arm, values in self.joint_positions_rad.items():
            q = np.array(values, dtype=np.float64)
            if q.shape != (panda.NUM_JOINTS,) or not np.isfinite(q).all():
                raise InvalidValueError(
                    f"joint_positions_rad[{arm!r}]: expected {panda.NUM_JOINTS} finite numbers, "
                    f"got {values!r:.120}"
                )
            positions[arm] = q
        widths = {name: float(width) for name, width in self.gripper_widths_m.items()}
        for name, width in widths.items():
            if not np.isfinite(width):
                raise InvalidValueError(
                    f"gripper_widths_m[{name!r}]: expected a finite number, got {width}"
                )
        object.__setattr__(self, "joint_positions_rad", positions)
        object.__setattr__(self, "gripper_widths_m", widths)


StationAction = Action | JointAction


def require_all_commands(contract: Contract, action: StationAction) -> None:
    """Raises ContractError where an arm or a gripper is left without a command."""
    if isinstance(action, Action):
        missing = action_violations(contract, action)
    else:
        missing = [
            f"{kind} {name!r} missing in the joint action: it has {sorted(given)}"
            for kind, expected, given in (
                ("arm", contract.arms, action.joint_positions_rad),
                ("gripper", contract.grippers, action.gripper_widths_m),
            )
            for name in expected
            if name not in given
        ]
    if missing:
        raise ContractError("; ".join(missing))


def latency_time_steps(latency_s: float) -> int:
    """How many of the physics' time steps a latency is.

    Raises ContractError where it is no whole number of them.
    """
    if not 0.0 <= latency_s <= MAX_LATENCY_S:
        raise ContractError(
            f"latency: expected 0 to {MAX_LATENCY_S:g} s of simulated time, got {latency_s} s"
        )
    num = round(latency_s / TIME_STEP_S)
    if abs(latency_s - num * TIME_STEP_S) > 1e-9:
        raise ContractError(
            f"latency: expected a multiple of {TIME_STEP_S:g} s, the physics' time step, "
            f"got {latency_s} s; the nearest is {num * TIME_STEP_S:g} s"
        )
    return num


@dataclass(frozen=True, kw_only=True, eq=False)
class Tick:
    """What the servos of both arms are given, for so many time steps."""

    commands: tuple[ArmCommand, ...]
    num_time_steps: int


class CommandQueue:
    """Hands actions to the arms' controllers, each a fixed time after it was given."""

    def __init__(self, controllers: Mapping[str, ArmController]) -> None:
        self._controllers = controllers
        self.begin(delay_time_steps=0)

    def begin(self, *, delay_time_steps: int) -> None:
        """A new episode: nothing is on its way."""
        self._delay = delay_time_steps
        self._ticks = _TICKS if delay_time_steps % 2 == 0 else _TICKS_BETWEEN
        self._now = 0
        self._pending: deque[tuple[int, StationAction]] = deque()

    def control_step(self, action: StationAction) -> list[Tick]:
        """The ticks of the next control step, at whose beginning this action is given."""
        self._pending.append((self._now + self._delay, action))
        return [self._tick(num) for num in self._ticks]

    def _tick(self, num_time_steps: int) -> Tick:
        """Move each command on, toward what is in effect by now."""
        while self._pending and self._pending[0][0] <= self._now:
            self._apply(self._pending.popleft()[1])
        for controller in self._controllers.values():
            controller.advance(num_time_steps)
        self._now += num_time_steps
        return Tick(
            commands=tuple(controller.command() for controller in self._controllers.values()),
            num_time_steps=num_time_steps,
        )

    def _apply(self, action: StationAction) -> None:
        num = TIME_STEPS_PER_CONTROL_STEP
        for side, controller in self._controllers.items():
            arm, width_m = ARM_NAMES[side], action.gripper_widths_m[GRIPPER_NAMES[side]]
            if isinstance(action, JointAction):
                controller.set_joint_target(
                    action.joint_positions_rad[arm], width_m, num_time_steps=num
                )
            else:
                controller.set_target(action.poses[arm].matrix(), width_m, num_time_steps=num)
