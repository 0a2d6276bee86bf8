"""Observations as a policy of VLA Foundry reads them: pictures of several steps, past actions and
states.

Axes: P past control step, A arm, G gripper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract
from policy_interface.types import FloatArray, Observation
from trainer.data.robot_transform import RobotTransform
from trainer.foundry.configuration import FoundryShape
from trainer.foundry.pictures import prepared
from trainer.observation_reading import motion_arrays


class FoundryObservations:
    def __init__(self, shape: FoundryShape, contract: Contract, transform: RobotTransform) -> None:
        self._shape, self._contract, self._transform = shape, contract, transform
        self.num_observations = shape.num_observations

    def state(self, history: Sequence[Observation]) -> FloatArray:
        """Past actions, relative to where the arms are now, then states, the oldest first."""
        past_steps = self._shape.past_steps
        recent = [each.actual for each in history[-past_steps - 1 :]]
        poses, widths_m = motion_arrays(self._contract, recent)
        states = self._transform.encode_states(poses, widths_m)
        if not past_steps:
            return states.ravel()
        # What was commanded at one step is what is desired at the next.
        commanded = [each.desired for each in history[-past_steps:]]
        past = self._transform.encode_past_actions(
            poses[-1], *motion_arrays(self._contract, commanded)
        )
        return np.concatenate([past.ravel(), states.ravel()])

    def pictures(self, history: Sequence[Observation]) -> Mapping[str, npt.NDArray[np.uint8]]:
        return {
            name: prepared(history[step - 1].cameras[camera].rgb, self._shape.picture)
            for name, (camera, step) in zip(self._shape.pictures, self._shape.places, strict=True)
        }
