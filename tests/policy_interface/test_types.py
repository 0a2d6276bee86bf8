"""Values that cannot be are refused at construction, and nothing changes after it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.rotations import rotation_from_6d, rotation_to_6d
from policy_interface.types import Action, CameraView, InvalidValueError, Pose, RobotState

finite = st.floats(-10, 10, allow_nan=False)
quaternions = st.lists(finite, min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3)


def rotation_of(quaternion: list[float]) -> np.ndarray:
    """Euler-Rodrigues."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


poses = st.builds(
    lambda q, p: Pose(rotation=rotation_of(q), translation_m=np.array(p)),
    quaternions,
    st.lists(finite, min_size=3, max_size=3),
)


@given(poses, poses)
def test_poses_compose_and_invert_as_matrices_do(X_AB: Pose, X_BC: Pose) -> None:
    assert np.allclose((X_AB @ X_BC).matrix(), X_AB.matrix() @ X_BC.matrix())
    assert np.allclose((X_AB.inverse() @ X_AB).matrix(), np.eye(4), atol=1e-9)


@given(quaternions)
def test_six_numbers_give_the_rotation_back(quaternion: list[float]) -> None:
    rotation = rotation_of(quaternion)
    assert np.allclose(rotation_from_6d(rotation_to_6d(rotation)), rotation, atol=1e-9)


@given(st.lists(st.floats(), min_size=6, max_size=6))
def test_any_six_numbers_give_a_rotation_or_an_error(numbers: list[float]) -> None:
    with np.errstate(all="ignore"):
        try:
            rotation = rotation_from_6d(numbers)
        except InvalidValueError:
            return
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) > 0


def test_six_numbers_are_the_first_two_rows() -> None:
    # As LBM Eval and VLA Foundry have it; Zhou et al. take columns.
    rotation = rotation_of([1, 2, 3, 4])
    assert np.array_equal(rotation_to_6d(rotation), np.concatenate([rotation[0], rotation[1]]))


@pytest.mark.parametrize(
    ("rotation", "complaint"),
    [
        (np.eye(4), "shape"),
        (np.full((3, 3), np.nan), "finite"),
        (np.diag([1.0, 1.0, -1.0]), "right-handed"),
        (np.eye(3) * 1.01, "orthonormal"),
        ([["a"] * 3] * 3, "numbers"),
    ],
)
def test_a_pose_needs_a_rotation(rotation: np.ndarray, complaint: str) -> None:
    with pytest.raises(InvalidValueError, match=complaint):
        Pose(rotation=rotation, translation_m=np.zeros(3))


def test_an_action_with_a_width_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="right::panda_hand"):
        Action(poses={}, gripper_widths_m={"right::panda_hand": float("nan")})


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_a_camera_view_needs_colour_pixels(rgb: np.ndarray) -> None:
    with pytest.raises(InvalidValueError, match="rgb"):
        CameraView(rgb=rgb, intrinsics=np.eye(3), X_TC=Pose.identity())


def test_values_do_not_change_after_construction() -> None:
    translation_m = np.zeros(3)
    pose = Pose(rotation=np.eye(3), translation_m=translation_m)
    translation_m[0] = 1.0
    assert pose.translation_m[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        pose.translation_m[0] = 1.0
    action = Action(poses={"right::panda": pose}, gripper_widths_m={})
    with pytest.raises(TypeError):
        action.poses["left::panda"] = pose  # type: ignore[index]


@given(
    position=st.integers(0, 11),
    value=st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 2.0, -1.0]),
)
def test_a_pose_from_numbers_is_refused_where_one_from_arrays_is(position, value) -> None:
    numbers = [*np.eye(3).ravel().tolist(), 0.1, 0.2, 0.3]
    numbers[position] = value
    rotation, translation_m = numbers[:9], numbers[9:]
    try:
        expected = Pose(rotation=np.reshape(rotation, (3, 3)), translation_m=translation_m)
    except InvalidValueError as error:
        with pytest.raises(InvalidValueError) as raised:
            Pose.from_numbers(rotation, translation_m)
        assert str(raised.value) == str(error)
    else:
        made = Pose.from_numbers(rotation, translation_m)
        assert np.array_equal(made.matrix(), expected.matrix())
        assert not made.rotation.flags.writeable
        assert not made.translation_m.flags.writeable


def test_arrays_made_late_are_those_made_at_once() -> None:
    rotation, translation_m = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0.1, 0.2, 0.3]
    pose = Pose.from_numbers(rotation, translation_m)
    vectors = {"joint_positions_rad": {"right": [float(i) for i in range(7)]}}
    state = RobotState.from_numbers({"right": pose}, {"hand": 0.02}, vectors)
    rotation[0] = translation_m[0] = 9.0
    vectors["joint_positions_rad"]["right"][0] = 9.0
    assert pose.rotation.tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert pose.translation_m.tolist() == [0.1, 0.2, 0.3]
    assert pose.to_numbers() == ((0, -1, 0, 1, 0, 0, 0, 0, 1), (0.1, 0.2, 0.3))
    assert state.joint_positions_rad["right"].tolist() == list(range(7))
    assert dict(state.wrenches) == {}
    for array in (pose.rotation, pose.translation_m, state.joint_positions_rad["right"]):
        assert not array.flags.writeable
    assert pose.rotation is pose.rotation
    assert not hasattr(pose, "rotations")


@pytest.mark.parametrize(
    ("field", "vector"),
    [
        ("joint_positions_rad", [0.0] * 6),
        ("joint_torques_nm", [0.0] * 6 + [np.nan]),
        ("wrenches", [np.inf, -np.inf, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_state_from_numbers_is_refused_as_any(field, vector) -> None:
    with pytest.raises(InvalidValueError, match=field) as at_once:
        RobotState(poses={}, gripper_widths_m={}, **{field: {"left": vector}})
    with pytest.raises(InvalidValueError, match=field) as from_numbers:
        RobotState.from_numbers({}, {}, {field: {"left": vector}})
    assert str(from_numbers.value) == str(at_once.value)


def test_numbers_that_add_up_to_more_than_a_float_holds_are_finite() -> None:
    vector = [1e308] * 6
    state = RobotState.from_numbers({}, {}, {"wrenches": {"left": vector}})
    assert state.wrenches["left"].tolist() == vector
