"""How observations become what a policy's network is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract
from policy_interface.types import Action, FloatArray, Observation, RobotState
from trainer.data.robot_transform import RobotTransform


class ObservationReader(Protocol):
    """Of an episode's newest `num_observations` observations, the newest last."""

    @property
    def num_observations(self) -> int: ...

    def state(self, history: Sequence[Observation]) -> FloatArray:
        """What is known of the body, (P,) numbers, normalised."""
        ...

    def pictures(self, history: Sequence[Observation]) -> Mapping[str, npt.NDArray[np.uint8]]:
        """(H, W, 3) each, by the names that the network has for them."""
        ...


class NewestObservation:
    """The newest one alone, its pictures by camera."""

    num_observations = 1

    def __init__(self, contract: Contract, transform: RobotTransform) -> None:
        self._contract, self._transform = contract, transform

    def state(self, history: Sequence[Observation]) -> FloatArray:
        poses, widths_m = motion_arrays(self._contract, [history[-1].actual])
        return self._transform.encode_proprioception(poses[0], widths_m[0])

    def pictures(self, history: Sequence[Observation]) -> Mapping[str, npt.NDArray[np.uint8]]:
        return {name: history[-1].cameras[name].rgb for name in self._contract.cameras}


def motion_arrays(
    contract: Contract, states: Sequence[RobotState | Action]
) -> tuple[FloatArray, FloatArray]:
    """(N, arms, 4, 4) and (N, grippers), in the contract's order."""
    poses = [[each.poses[arm].matrix() for arm in contract.arms] for each in states]
    widths_m = [[each.gripper_widths_m[name] for name in contract.grippers] for each in states]
    return np.array(poses), np.array(widths_m).reshape(len(states), len(contract.grippers))
