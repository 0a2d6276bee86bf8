"""The transform around the network: its inverse is exact, and it refuses what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.types import InvalidValueError
from trainer.data.configuration import NormalizationConfig
from trainer.data.normalization import NormalizationError
from trainer.data.robot_transform import RobotTransform

ARMS, GRIPPERS = ("right", "left"), ("right_hand", "left_hand")
LENGTH = 5


def random_poses(rng: np.random.Generator, *shape: int, reach_m: float = 0.5) -> np.ndarray:
    quaternion = rng.standard_normal((*shape, 4))
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    poses = np.zeros((*shape, 4, 4))
    poses[..., 0, :3] = np.stack(
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1
    )
    poses[..., 1, :3] = np.stack(
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1
    )
    poses[..., 2, :3] = np.stack(
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1
    )
    poses[..., :3, 3] = rng.uniform(-reach_m, reach_m, (*shape, 3))
    poses[..., 3, 3] = 1
    return poses


def fitted(seed: int = 0, config: NormalizationConfig | None = None) -> RobotTransform:
    rng = np.random.default_rng(seed)
    return RobotTransform.fit(
        arms=ARMS,
        grippers=GRIPPERS,
        anchor_poses=random_poses(rng, 40, 2),
        anchor_widths_m=rng.uniform(0, 0.08, (40, 2)),
        action_poses=random_poses(rng, 40, LENGTH, 2),
        action_widths_m=rng.uniform(0, 0.08, (40, LENGTH, 2)),
        valid=np.ones((40, LENGTH), bool),
        config=config or NormalizationConfig(),
    )


@given(seed=st.integers(0, 2**32 - 1), scope=st.sampled_from(["global", "per_timestep"]))
def test_decoding_inverts_encoding(seed: int, scope) -> None:
    rng = np.random.default_rng(seed)
    transform = fitted(seed, NormalizationConfig(scope=scope))
    anchors = random_poses(rng, 3, 2)
    # Far outside what the statistics saw: nothing may be clamped on the way.
    poses = random_poses(rng, 3, LENGTH, 2, reach_m=20.0)
    widths_m = rng.uniform(-1, 1, (3, LENGTH, 2))
    decoded, decoded_m = transform.decode_actions(
        anchors, transform.encode_actions(anchors, poses, widths_m)
    )
    np.testing.assert_allclose(decoded, poses, atol=1e-9)
    np.testing.assert_allclose(decoded_m, widths_m, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_encoded_actions_do_not_depend_on_where_the_world_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transform = fitted()
    world = random_poses(rng)
    anchors, poses = random_poses(rng, 3, 2), random_poses(rng, 3, LENGTH, 2)
    widths_m = rng.uniform(0, 0.08, (3, LENGTH, 2))
    np.testing.assert_allclose(
        transform.encode_actions(world @ anchors, world @ poses, widths_m),
        transform.encode_actions(anchors, poses, widths_m),
        atol=1e-9,
    )


def test_a_pose_is_relative_to_the_measured_anchor_in_the_end_effectors_frame() -> None:
    transform = fitted()
    # The hand is turned by a quarter about z and goes 10 cm along the table's y: its own x.
    anchors = np.tile(np.eye(4), (2, 1, 1))
    anchors[0, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    poses = np.tile(anchors, (LENGTH, 1, 1, 1))
    poses[:, 0, 1, 3] += 0.10
    raw = transform.action.denormalize(
        transform.encode_actions(anchors, poses, np.full((LENGTH, 2), 0.03))
    )
    # xyz, then rows 0 and 1 of the relative rotation, for each arm; then the widths.
    expected = [0.1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0.03, 0.03]
    np.testing.assert_allclose(raw, np.tile(expected, (LENGTH, 1)), atol=1e-12)


def test_an_idle_arm_is_not_scaled_up_into_noise() -> None:
    rng = np.random.default_rng(0)
    anchors = np.tile(np.eye(4), (50, 2, 1, 1))
    poses = np.tile(np.eye(4), (50, LENGTH, 2, 1, 1))
    poses[..., :3, 3] += 1e-5 * rng.standard_normal((50, LENGTH, 2, 3))
    widths_m = np.full((50, LENGTH, 2), 0.08)
    for scope in ("global", "per_timestep"):
        transform = RobotTransform.fit(
            arms=ARMS,
            grippers=GRIPPERS,
            anchor_poses=anchors,
            anchor_widths_m=widths_m[:, 0],
            action_poses=poses,
            action_widths_m=widths_m,
            valid=np.ones((50, LENGTH), bool),
            config=NormalizationConfig(scope=scope),
        )
        assert np.abs(transform.encode_actions(anchors, poses, widths_m)).max() < 0.01


def test_quantiles_map_to_one_and_the_rest_is_not_clipped() -> None:
    rng = np.random.default_rng(0)
    anchors = np.tile(np.eye(4), (4000, 2, 1, 1))
    poses = np.tile(np.eye(4), (4000, LENGTH, 2, 1, 1))
    poses[..., 0, 3] = rng.uniform(-0.3, 0.5, (4000, LENGTH, 2))
    widths_m = np.full((4000, LENGTH, 2), 0.08)
    transform = RobotTransform.fit(
        arms=ARMS,
        grippers=GRIPPERS,
        anchor_poses=anchors,
        anchor_widths_m=widths_m[:, 0],
        action_poses=poses,
        action_widths_m=widths_m,
        valid=np.ones((4000, LENGTH), bool),
        config=NormalizationConfig(),
    )
    x = transform.encode_actions(anchors, poses, widths_m)[..., 0]
    assert np.mean(np.abs(x) <= 1) == pytest.approx(0.98, abs=0.005)
    assert np.abs(x).max() > 1.01


def test_steps_beyond_an_episode_do_not_count_in_the_statistics() -> None:
    rng = np.random.default_rng(0)
    anchors, poses = random_poses(rng, 60, 2), random_poses(rng, 60, LENGTH, 2)
    valid = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, 60)[:, None]
    widths_m = rng.uniform(0, 0.08, (60, LENGTH, 2))

    def fit(scope, widths) -> RobotTransform:
        return RobotTransform.fit(
            arms=ARMS,
            grippers=GRIPPERS,
            anchor_poses=anchors,
            anchor_widths_m=widths_m[:, 0],
            action_poses=poses,
            action_widths_m=widths,
            valid=valid,
            config=NormalizationConfig(scope=scope),
        )

    elsewhere = np.where(valid[..., None], widths_m, 1e3)
    for scope in ("global", "per_timestep"):
        assert fit(scope, widths_m).to_json() == fit(scope, elsewhere).to_json()


def test_statistics_survive_json_exactly() -> None:
    transform = fitted(config=NormalizationConfig(scope="per_timestep"))
    again = RobotTransform.from_json(transform.to_json())
    assert again.to_json() == transform.to_json()
    np.testing.assert_array_equal(again.action.scale, transform.action.scale)


@pytest.mark.parametrize("scope", ["global", "per_timestep"])
def test_not_a_number_is_refused(scope) -> None:
    transform = fitted(config=NormalizationConfig(scope=scope))
    chunk = np.zeros((LENGTH, transform.num_numbers))
    chunk[2, 3] = np.nan
    with pytest.raises(NormalizationError, match="finite"):
        transform.decode_actions(np.tile(np.eye(4), (2, 1, 1)), chunk)


def test_a_chunk_of_another_length_is_refused() -> None:
    transform = fitted(config=NormalizationConfig(scope="per_timestep"))
    with pytest.raises(NormalizationError, match=rf"{LENGTH}, 20.*got \({LENGTH + 1}, 20\)"):
        transform.decode_actions(
            np.tile(np.eye(4), (2, 1, 1)), np.zeros((LENGTH + 1, transform.num_numbers))
        )


def test_six_numbers_that_make_no_rotation_are_refused() -> None:
    transform = fitted()
    raw = np.zeros((LENGTH, transform.num_numbers))
    with pytest.raises(InvalidValueError, match="independent"):
        transform.decode_actions(np.tile(np.eye(4), (2, 1, 1)), transform.action.normalize(raw))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "assay.normalization/1"}', '{"format": "other"}']
)
def test_what_is_no_statistics_is_refused(text: str) -> None:
    with pytest.raises(NormalizationError):
        RobotTransform.from_json(text)
