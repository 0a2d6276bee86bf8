"""Policies for bring-up: they need no camera and no checkpoint, and command both arms."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from policy_interface.contract import Contract
from policy_interface.demonstration import Demonstration, load_demonstration
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
    is_instant = True

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
    is_instant = True

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


class NullPolicy:
    """Answers at once with chunks that repeat the last command: what a server itself costs."""

    contract = Contract(cameras={})
    num_observations = 1
    is_instant = True

    def __init__(self, *, chunk_length: int = 1, name: str = "null") -> None:
        self.metadata = PolicyMetadata(name=name)
        self.chunk_length = chunk_length
        self.open_loop_steps = chunk_length

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        return [[_commanded(history[-1])] * self.chunk_length for history in histories]


class SleepPolicy(NullPolicy):
    """Sleeps, equally long whatever its batch, and answers as NullPolicy: inference's stand-in."""

    def __init__(self, *, sleep_ms: float, chunk_length: int = 1) -> None:
        super().__init__(chunk_length=chunk_length, name="sleep")
        self.sleep_ms = sleep_ms

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        time.sleep(self.sleep_ms / 1e3)
        return super().plan(histories, noise)


class ReplayPolicy:
    """Commands what a teacher commanded in one recorded episode, whatever is observed.

    An observation's time says how far the episode is, and without one it has just begun. Once
    the recording is over, its last command stays.
    """

    num_observations = 1
    is_instant = True

    def __init__(self, demonstration: Demonstration, *, source: str = "") -> None:
        """source: where the recording is from, for the metadata."""
        # Images were recorded, but are not looked at.
        self.contract = replace(demonstration.contract, cameras={}, uses_language=False)
        self.metadata = PolicyMetadata(
            name="replay",
            skill_type=demonstration.task,
            checkpoint_path=source,
        )
        self.chunk_length = demonstration.num_steps
        self.open_loop_steps = demonstration.num_steps
        motion = demonstration.action
        self._actions = [
            Action(
                poses={arm: Pose.from_matrix(poses[step]) for arm, poses in motion.poses.items()},
                gripper_widths_m={
                    name: float(widths[step]) for name, widths in motion.gripper_widths_m.items()
                },
            )
            for step in range(demonstration.num_steps)
        ]

    @staticmethod
    def of(path: Path) -> ReplayPolicy:
        """Raises DemonstrationError, and InvalidValueError for poses that are none."""
        return ReplayPolicy(load_demonstration(path), source=str(path))

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        return [self._from(self._step(history[-1])) for history in histories]

    def _step(self, observation: Observation) -> int:
        time_s = observation.time_s or 0.0
        step = round(time_s * self.contract.control_rate_hz)
        return min(max(step, 0), len(self._actions) - 1)

    def _from(self, step: int) -> list[Action]:
        return self._actions[step:] + [self._actions[-1]] * step
