"""How observations become what a policy's network is given: pictures of several steps, past actions
and states.

Axes: P past control step, A arm, G gripper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract
from policy_interface.types import Action, FloatArray, Observation, RobotState
from trainer.data.robot_transform import RobotTransform

Picture = npt.NDArray[np.uint8]


def _as_it_is(rgb: Picture) -> Picture:
    return rgb


class ObservationReader:
    """Of an episode's newest `num_observations` observations, the newest last.

    pictures: by the names that the network has for them, each a camera and a control step from now.
    past_steps: P. prepare: what is done to a camera's picture first.
    """

    def __init__(
        self,
        contract: Contract,
        transform: RobotTransform,
        *,
        pictures: Mapping[str, tuple[str, int]],
        past_steps: int = 0,
        prepare: Callable[[Picture], Picture] = _as_it_is,
    ) -> None:
        self._contract, self._transform = contract, transform
        self._pictures, self._past_steps, self._prepare = dict(pictures), past_steps, prepare
        oldest = min((step for _, step in self._pictures.values()), default=0)
        self.num_observations = 1 + max(past_steps, -oldest)

    def state(self, history: Sequence[Observation]) -> FloatArray:
        """What is known of the body, normalised numbers, as `RobotTransform.encode_history` has
        them."""
        measured = [each.actual for each in history[-self._past_steps - 1 :]]
        # What was commanded at one step is what is desired at the next.
        commanded = [each.desired for each in history[len(history) - self._past_steps :]]
        return self._transform.encode_history(
            *motion_arrays(self._contract, measured), *motion_arrays(self._contract, commanded)
        )

    def pictures(self, history: Sequence[Observation]) -> Mapping[str, Picture]:
        """(H, W, 3) each, by the names that the network has for them."""
        return {
            name: self._prepare(history[step - 1].cameras[camera].rgb)
            for name, (camera, step) in self._pictures.items()
        }


def motion_arrays(
    contract: Contract, states: Sequence[RobotState | Action]
) -> tuple[FloatArray, FloatArray]:
    """(N, A, 4, 4) and (N, G), in the contract's order."""
    poses = [[each.poses[arm].matrix() for arm in contract.arms] for each in states]
    widths_m = [[each.gripper_widths_m[name] for name in contract.grippers] for each in states]
    num_arms, num_grippers = len(contract.arms), len(contract.grippers)
    return (
        np.array(poses).reshape(len(states), num_arms, 4, 4),
        np.array(widths_m).reshape(len(states), num_grippers),
    )
