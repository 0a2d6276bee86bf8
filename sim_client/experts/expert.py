"""What a scripted expert is, and the noise that demonstrations are executed under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from policy_interface.types import Action, Pose, RobotState
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.scene_state import SceneState


class Expert(Protocol):
    """A teacher that sees the true state. One object acts for one episode after each `reset`."""

    def reset(self) -> None: ...

    def act(self, state: SceneState, actual: RobotState, desired: RobotState) -> Action:
        """What it wants done in the next control step."""
        ...

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms at work, to which noise is added. Known from the first `act` on."""
        ...

    @property
    def finished(self) -> bool:
        """Whether it has nothing left to do: the object is placed and the hand is away."""
        ...


@dataclass(frozen=True, kw_only=True)
class CommandNoise:
    """Bursts of a constant offset on the executed command, never on the recorded one.

    The expert sees where the noise took it and corrects, so demonstrations show the way back from
    mistakes (DART: Laskey et al., CoRL 2017).

    Attributes:
        burst_probability: Of a burst's beginning, at each control step outside one.
        min_burst_steps: Shortest burst, in control steps.
        max_burst_steps: Longest burst, in control steps.
        position_m: The offset's greatest length, in metres.
        rotation_rad: The offset's greatest turn, in radians.
    """

    burst_probability: float = 0.08
    min_burst_steps: int = 2
    max_burst_steps: int = 5
    position_m: float = 0.02
    rotation_rad: float = 0.08

    def __post_init__(self) -> None:
        if not 0.0 <= self.burst_probability <= 1.0:
            raise ValueError(f"burst probability: expected 0 to 1, got {self.burst_probability}")
        if not 1 <= self.min_burst_steps <= self.max_burst_steps:
            raise ValueError(
                "burst steps: expected 1 <= min <= max, "
                f"got {self.min_burst_steps} and {self.max_burst_steps}"
            )
        if not (0.0 <= self.position_m <= 0.1 and 0.0 <= self.rotation_rad <= 0.5):
            raise ValueError(
                "noise: expected at most 0.1 m and 0.5 rad, "
                f"got {self.position_m} and {self.rotation_rad}"
            )


def perturbed(
    action: Action, injectors: Mapping[str, NoiseInjector], arms: Sequence[str]
) -> Action:
    """The action to execute instead of the intended one: the arms at work each with noise."""
    for arm in arms:
        action = injectors[arm].perturb(action, arm=arm)
    return action


class NoiseInjector:
    """Perturbs one arm's commands through an episode."""

    def __init__(self, noise: CommandNoise, rng: np.random.Generator) -> None:
        self._noise = noise
        self._rng = rng
        self._steps_left = 0
        self._translation_m = np.zeros(3)
        self._rotation: Array = np.eye(3)

    def perturb(self, action: Action, *, arm: str) -> Action:
        """The action to execute instead; upward near the table, so that nothing is rammed."""
        noise, rng = self._noise, self._rng
        if self._steps_left == 0 and rng.random() < noise.burst_probability:
            self._steps_left = int(rng.integers(noise.min_burst_steps, noise.max_burst_steps + 1))
            self._translation_m = _in_ball(rng, noise.position_m)
            self._translation_m[2] = abs(self._translation_m[2])
            self._rotation = rotation_from_vector(_in_ball(rng, noise.rotation_rad))
        if self._steps_left == 0:
            return action
        self._steps_left -= 1
        intended = action.poses[arm]
        executed = Pose(
            rotation=self._rotation @ intended.rotation,
            translation_m=intended.translation_m + self._translation_m,
        )
        return Action(
            poses={**action.poses, arm: executed}, gripper_widths_m=action.gripper_widths_m
        )


def _in_ball(rng: np.random.Generator, radius: float) -> Array:
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction) * radius * rng.random() ** (1.0 / 3.0)
