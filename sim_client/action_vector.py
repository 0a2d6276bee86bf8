"""The 20 numbers of a two-armed action, for logs, for learning and for gymnasium.

[right xyz | right rotation (6) | left xyz | left rotation (6) | right width | left width]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER
from policy_interface.rotations import rotation_from_6d, rotation_to_6d
from policy_interface.types import Action, Pose, RobotState

ARMS = (RIGHT_ARM, LEFT_ARM)
GRIPPERS = (RIGHT_GRIPPER, LEFT_GRIPPER)
ACTION_SIZE = 20

_ARM_SIZE = 9


def action_to_vector(state: Action | RobotState) -> NDArray[np.float64]:
    """The 20 numbers of an action, or of a robot's state.

    Positions in metres in the task frame, rotations as the first two rows of the matrix, widths in
    metres; right before left.
    """
    parts = []
    for arm in ARMS:
        pose = state.poses[arm]
        parts += [pose.translation_m, rotation_to_6d(pose.rotation)]
    parts.append(np.array([state.gripper_widths_m[gripper] for gripper in GRIPPERS]))
    return np.concatenate(parts)


def action_from_vector(vector: NDArray[np.floating]) -> Action:
    """The inverse of `action_to_vector`; rotations are made orthonormal.

    Raises InvalidValueError where a number is not finite or a rotation's rows are degenerate.
    """
    numbers = np.asarray(vector, dtype=np.float64)
    if numbers.shape != (ACTION_SIZE,):
        raise ValueError(f"action: expected {ACTION_SIZE} numbers, got shape {numbers.shape}")
    poses = {}
    for i, arm in enumerate(ARMS):
        part = numbers[i * _ARM_SIZE : (i + 1) * _ARM_SIZE]
        poses[arm] = Pose(translation_m=part[:3], rotation=rotation_from_6d(part[3:]))
    widths = {gripper: float(numbers[18 + i]) for i, gripper in enumerate(GRIPPERS)}
    return Action(poses=poses, gripper_widths_m=widths)
