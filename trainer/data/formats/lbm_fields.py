"""What the names of LBM Eval's low-dimensional fields mean, in its diffusion spartan episodes and
in VLA Foundry's shards: robot__{actual,desired,action}__QUANTITY__PART, a pose in two of them.

robot__actual__poses__right::panda__xyz            measured, of the arm's last link, metres
robot__action__poses__right::panda__rot_6d         commanded: the matrix's first two rows
robot__desired__grippers__left::panda_hand         the width of the opening, metres
robot__actual__joint_position__left::panda         radians
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainer.data.episode import Field, FieldKind, FieldRole

# As LBM Eval calls the frame that poses and cameras are in.
TASK_FRAME = "task"
# Its episodes are keyframes at this rate.
LBM_RATE_HZ = 10.0

_NAME = re.compile(r"robot__(actual|desired|action)__(\w+?)__(.+?)(?:__(xyz|rot_6d))?")
_ROLES: Mapping[str, FieldRole] = {"actual": "observed", "desired": "desired", "action": "action"}
_QUANTITIES: Mapping[str, tuple[FieldKind, str]] = {
    "grippers": ("gripper", "m"),
    "joint_position": ("joint_position", "rad"),
    "joint_velocity": ("joint_velocity", "rad/s"),
    "joint_torque": ("joint_torque", "N*m"),
    "joint_torque_external": ("joint_torque", "N*m"),
    # Three torques and three forces: no one unit.
    "wrench": ("wrench", ""),
    "external_wrench": ("wrench", ""),
}
_POSE_PARTS: Mapping[str | None, tuple[FieldKind, str | None]] = {
    "xyz": ("translation", "m"),
    "rot_6d": ("rotation_6d_rows", None),
}


def lbm_field(name: str, shape: tuple[int, ...], dtype: str) -> Field:
    """Of a field by its name; a vector of nothing in particular where the name is another's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Field(shape=shape, dtype=dtype)
    role, quantity, part, pose_part = match.groups()
    if quantity == "poses" and pose_part is not None:
        kind, unit = _POSE_PARTS[pose_part]
        return Field(
            shape=shape,
            dtype=dtype,
            kind=kind,
            role=_ROLES[role],
            unit=unit,
            frame=TASK_FRAME,
            part=part,
        )
    kind, unit = _QUANTITIES.get(quantity, ("vector", ""))
    return Field(
        shape=shape, dtype=dtype, kind=kind, role=_ROLES[role], unit=unit or None, part=part
    )
