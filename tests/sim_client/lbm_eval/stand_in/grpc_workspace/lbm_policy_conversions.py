"""Between the stand-in's observations and actions and messages on the wire.

grpc_workspace.proto is compiled by the tests from this project's .proto sources, under the file
names that LBM Eval's own stubs register, so that they can't share a process with ours.
"""

from __future__ import annotations

import numpy as np
from grpc_workspace.proto import PolicyStep_pb2
from pydrake.math import RigidTransform, RotationMatrix
from robot_gym.multiarm_spaces import MultiarmObservation, PosesAndGrippers


def policy_observation_to_grpc_msg(observation: MultiarmObservation):
    robot = PolicyStep_pb2.PosesAndGrippersActualAndDesired(
        actual=_robot_msg(observation.robot.actual), desired=_robot_msg(observation.robot.desired)
    )
    return PolicyStep_pb2.MultiarmObservation(
        robot=robot,
        use_language_instruction=observation.language_instruction is not None,
        language_instruction=observation.language_instruction or "",
    )


def grpc_msg_to_poses_and_grippers(message) -> PosesAndGrippers:
    poses = {}
    for status in message.pose_status:
        rotation = np.array(status.pose.rotation)
        if rotation.shape != (9,):
            raise AssertionError(f"a rotation has 9 elements, not {rotation.shape}")
        poses[status.robot_name] = RigidTransform(
            RotationMatrix(rotation.reshape(3, 3)), np.array(status.pose.translation)
        )
    grippers = {each.gripper_name: each.gripper_position for each in message.gripper_status}
    return PosesAndGrippers(poses=poses, grippers=grippers)


def _robot_msg(state: PosesAndGrippers):
    message = PolicyStep_pb2.PosesAndGrippers()
    for name, X_TE in state.poses.items():
        status = message.pose_status.add(robot_name=name)
        status.pose.translation.extend(X_TE.translation())
        status.pose.rotation.extend(X_TE.rotation().matrix().ravel())
    for name, width_m in state.grippers.items():
        message.gripper_status.add(gripper_name=name, gripper_position=width_m)
    return message
