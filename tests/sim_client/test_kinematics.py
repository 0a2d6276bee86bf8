"""The arm's kinematics against Drake's, and the laws of its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydrake.math import RigidTransform
from pydrake.multibody.plant import MultibodyPlant

from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import POSTURE, tool_down
from sim_client.station.inverse_kinematics import (
    DifferentialInverseKinematics,
    InverseKinematicsLimits,
    rotation_from_vector,
    rotation_vector,
    solve_pose,
)
from sim_client.station.scene import SceneSpec, build_scene

Array = NDArray[np.float64]
TICK_S = 0.02

joint_angles = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7).map(
    lambda shares: panda.LOWER_RAD + np.array(shares) * (panda.UPPER_RAD - panda.LOWER_RAD)
)
vectors = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)


@pytest.fixture(scope="module")
def plant() -> MultibodyPlant:
    return build_scene(SceneSpec(objects=())).plant


def test_forward_kinematics_is_drakes(plant: MultibodyPlant) -> None:
    context = plant.CreateDefaultContext()
    arm = plant.GetModelInstanceByName("right_panda")
    base = plant.GetFrameByName("panda_link0", arm)
    flange = plant.GetFrameByName("panda_link8", arm)
    rng = np.random.default_rng(0)
    for q in rng.uniform(panda.LOWER_RAD, panda.UPPER_RAD, size=(20, 7)):
        plant.SetPositions(context, arm, q)
        X_BE: RigidTransform = flange.CalcPose(context, base)
        np.testing.assert_allclose(panda.forward_kinematics(q), X_BE.GetAsMatrix4(), atol=1e-12)


def test_forward_kinematics_at_zero_is_the_data_sheets() -> None:
    """Stretched up, the flange is at 0.333 + 0.316 + 0.384 - 0.107 m, 0.088 m ahead."""
    X_BE = panda.forward_kinematics(np.zeros(7))
    np.testing.assert_allclose(X_BE[:3, 3], [0.088, 0.0, 0.926], atol=1e-12)


@given(joint_angles)
@settings(max_examples=30, deadline=None)
def test_jacobian_is_the_derivative(q: Array) -> None:
    X, J = panda.forward_kinematics(q), np.array(panda.chain(q.tolist()).columns).T
    for i in range(panda.NUM_JOINTS):
        step = np.zeros(7)
        step[i] = 1e-6
        moved = panda.forward_kinematics(q + step)
        np.testing.assert_allclose((moved[:3, 3] - X[:3, 3]) / 1e-6, J[:3, i], atol=1e-5)
        turned = rotation_vector(moved[:3, :3] @ X[:3, :3].T)
        np.testing.assert_allclose(turned / 1e-6, J[3:, i], atol=1e-5)


@given(vectors)
@settings(max_examples=200, deadline=None)
def test_rotation_vectors_make_the_round_trip(direction: Array) -> None:
    vector = direction * (np.pi / max(1.0, float(np.linalg.norm(direction)) + 1e-9)) * 0.999
    R = rotation_from_vector(vector)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_vector(R), vector, atol=1e-6)


def test_half_a_turn_has_an_axis() -> None:
    for axis in (np.eye(3)[0], np.eye(3)[1], np.eye(3)[2], np.ones(3) / np.sqrt(3)):
        vector = rotation_vector(rotation_from_vector(np.pi * axis))
        assert np.linalg.norm(vector) == pytest.approx(np.pi, abs=1e-6)
        assert abs(vector @ axis) == pytest.approx(np.pi, abs=1e-6)


@given(
    st.floats(0.35, 0.6),
    st.floats(-0.3, 0.3),
    st.floats(0.12, 0.4),
    st.floats(-0.7, 0.7),
    vectors,
)
@settings(max_examples=60, deadline=None)
# Near a singularity, where the pull toward the posture once kept it 0.2 mm away.
@example(0.375, 0.0, 0.125, 0.0, np.array([0.0, -1.0, 1.0]))
def test_reaches_poses_over_the_table_tilted_ones_too(
    x: float, y: float, z: float, yaw: float, tilt: Array
) -> None:
    """The inverse law: forward(inverse(pose)) is the pose, with tools tilted by up to 0.5 rad."""
    X_BE = tool_down(np.array([x, y, z]), yaw)
    X_BE[:3, :3] = rotation_from_vector(0.29 * tilt) @ X_BE[:3, :3]
    q = solve_pose(X_BE, seed=POSTURE)
    np.testing.assert_allclose(panda.forward_kinematics(q), X_BE, atol=2e-4)
    assert (q >= panda.LOWER_RAD).all()
    assert (q <= panda.UPPER_RAD).all()


def test_says_what_is_out_of_reach() -> None:
    with pytest.raises(ValueError, match=r"no joint angles reach .* \[2\.0, 0\.0, 0\.2\]"):
        solve_pose(tool_down(np.array([2.0, 0.0, 0.0966]), 0.0), seed=POSTURE)


@given(joint_angles, vectors, vectors)
@settings(max_examples=40, deadline=None)
def test_wild_targets_break_no_joint_limit(start: Array, position: Array, turn: Array) -> None:
    follower = DifferentialInverseKinematics(posture=POSTURE)
    follower.reset(start)
    target = np.eye(4)
    target[:3, :3] = rotation_from_vector(3.0 * turn)
    target[:3, 3] = 3.0 * position
    greatest = panda.VELOCITY_RAD_S * InverseKinematicsLimits().joint_speed_scale * TICK_S
    for _ in range(50):
        before = follower.q.copy()
        after = follower.step(target, TICK_S)
        assert (np.abs(after - before) <= greatest + 1e-9).all()
        assert (after >= panda.LOWER_RAD).all()
        assert (after <= panda.UPPER_RAD).all()


def test_the_spare_joint_returns_to_the_posture() -> None:
    """The same pose, held long enough, ends in the same elbow position from either side."""
    X_BE = panda.forward_kinematics(POSTURE)
    ends = []
    for offset in (-0.4, 0.4):
        follower = DifferentialInverseKinematics(posture=POSTURE)
        start = POSTURE.copy()
        start[2] += offset
        follower.reset(start)
        for _ in range(500):
            follower.step(X_BE, TICK_S)
        ends.append(follower.q.copy())
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-3)
    np.testing.assert_allclose(ends[0], POSTURE, atol=1e-3)


def test_an_arm_that_waits_stays_where_it_is() -> None:
    kinematics = DifferentialInverseKinematics(posture=POSTURE)
    X_BE = panda.forward_kinematics(POSTURE + 0.2)
    for _ in range(2000):
        kinematics.step(X_BE, 0.02)
    waiting = kinematics.q
    np.testing.assert_allclose(panda.forward_kinematics(waiting), X_BE, atol=2e-5)
    for _ in range(10):
        np.testing.assert_array_equal(kinematics.step(X_BE, 0.02), waiting)
    np.testing.assert_array_equal(kinematics.qdot, np.zeros(7))
    moved = X_BE.copy()
    moved[2, 3] += 0.01
    assert np.abs(kinematics.step(moved, 0.02) - waiting).max() > 1e-4
