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

CONTROL_PERIOD_S = 0.1
TICKS_PER_STEP = 5
TICK_S = CONTROL_PERIOD_S / TICKS_PER_STEP
MAX_LATENCY_S = 5.0

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


def latency_ticks(latency_s: float) -> int:
    """How many ticks a latency is. Raises ContractError where it is no whole number of them."""
    if not 0.0 <= latency_s <= MAX_LATENCY_S:
        raise ContractError(
            f"latency: expected 0 to {MAX_LATENCY_S:g} s of simulated time, got {latency_s} s"
        )
    ticks = round(latency_s / TICK_S)
    if abs(latency_s - ticks * TICK_S) > 1e-9:
        raise ContractError(
            f"latency: expected a multiple of {TICK_S:g} s, the station's tick, got {latency_s} s; "
            f"the nearest is {ticks * TICK_S:g} s"
        )
    return ticks


class CommandQueue:
    """Hands actions to the arms' controllers, each a fixed number of ticks after it was given."""

    def __init__(self, controllers: Mapping[str, ArmController]) -> None:
        self._controllers = controllers
        self.begin(delay_ticks=0)

    def begin(self, *, delay_ticks: int) -> None:
        """A new episode: nothing is on its way."""
        self._delay_ticks = delay_ticks
        self._tick = 0
        self._pending: deque[tuple[int, StationAction]] = deque()

    def give(self, action: StationAction) -> None:
        self._pending.append((self._tick + self._delay_ticks, action))

    def tick(self) -> tuple[ArmCommand, ...]:
        """Move each command on by a tick, toward what is in effect by now; returns them."""
        while self._pending and self._pending[0][0] <= self._tick:
            self._apply(self._pending.popleft()[1])
        for controller in self._controllers.values():
            controller.tick(TICK_S)
        self._tick += 1
        return tuple(controller.command() for controller in self._controllers.values())

    def _apply(self, action: StationAction) -> None:
        for side, controller in self._controllers.items():
            arm, width_m = ARM_NAMES[side], action.gripper_widths_m[GRIPPER_NAMES[side]]
            if isinstance(action, JointAction):
                controller.set_joint_target(
                    action.joint_positions_rad[arm], width_m, num_ticks=TICKS_PER_STEP
                )
            else:
                controller.set_target(action.poses[arm].matrix(), width_m, num_ticks=TICKS_PER_STEP)
