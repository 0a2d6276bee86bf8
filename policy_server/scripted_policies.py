"""Policies for bring-up: they need no camera and no checkpoint, and command both arms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policy_interface.contract import Contract
from policy_interface.types import Action, Observation, PolicyMetadata, Pose

WAVE_PERIOD_STEPS = 40

# Slow enough for a first motion of a real robot with somebody standing by.
WAVE_MAX_SPEED_M_S = 0.04


def _commanded(observation: Observation) -> Action:
    # The commanded state, not the measured one: an arm that sags under gravity would
    # otherwise be told to follow its own sag.
    return Action(
        poses=observation.desired.poses,
        gripper_widths_m=observation.desired.gripper_widths_m,
    )


class HoldPolicy:
    """Keeps both arms and grippers where they were last commanded to be."""

    contract = Contract(cameras={})
    metadata = PolicyMetadata(name="hold")
    chunk_length = 1
    open_loop_steps = 1
    num_observations = 1

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        return [[_commanded(history[-1])] for history in histories]


class WavePolicy:
    """Raises both hands and lowers them again, a whole period each chunk.

    The hands go straight up and never below where they started, so that nothing they stand over
    is touched. A shorter period makes a smaller movement, not a faster one.
    """

    contract = Contract(cameras={})
    metadata = PolicyMetadata(name="wave")
    num_observations = 1

    def __init__(self, *, period_steps: int = WAVE_PERIOD_STEPS) -> None:
        # A chunk is one period and is always executed whole: it ends where it began, so that
        # movements never add up from one chunk to the next.
        self.chunk_length = period_steps
        self.open_loop_steps = period_steps
        period_s = period_steps / self.contract.control_rate_hz
        height_m = WAVE_MAX_SPEED_M_S * period_s / math.pi
        self._heights_m = [
            height_m * (1 - math.cos(2 * math.pi * step / period_steps)) / 2
            for step in range(1, period_steps + 1)
        ]

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        return [
            [_raised(_commanded(history[-1]), height_m) for height_m in self._heights_m]
            for history in histories
        ]


def _raised(action: Action, height_m: float) -> Action:
    up = np.array([0.0, 0.0, height_m])
    return Action(
        poses={
            arm: Pose(rotation=pose.rotation, translation_m=pose.translation_m + up)
            for arm, pose in action.poses.items()
        },
        gripper_widths_m=action.gripper_widths_m,
    )
