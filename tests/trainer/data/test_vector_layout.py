"""Vectors put together from fields, and taken apart again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.poses import PoseFields, make_poses
from trainer.data.rotation_layouts import (
    ROTATION_NAMES,
    rotation_from_numbers,
    rotation_to_numbers,
)
from trainer.data.vector_components import (
    FieldNumbers,
    GripperNumbers,
    JointNumbers,
    PoseNumbers,
)
from trainer.data.vector_layout import VectorLayout

LAYOUTS = st.sampled_from(["rows", "columns", "interleaved"])
WINDOW = 5

FIELDS = {
    "action/pose/right": Field(shape=(4, 4), kind="pose", role="action"),
    "actual/pose/right": Field(shape=(4, 4), kind="pose", role="observed"),
    "left/xyz": Field(shape=(3,), kind="translation", role="action"),
    "left/rot": Field(shape=(6,), kind="rotation_6d_columns", role="action"),
    "left/measured/xyz": Field(shape=(3,), kind="translation", role="observed"),
    "left/measured/matrix": Field(shape=(3, 3), kind="rotation_matrix", role="observed"),
    "gripper": Field(shape=(), kind="gripper", role="action", unit="m"),
    "joints": Field(shape=(7,), kind="joint_position", role="action"),
    "joints/measured": Field(shape=(7,), kind="joint_position", role="observed"),
    "state": Field(shape=(3,), names=("a", "b", "c")),
}


def random_rotations(rng: np.random.Generator, *shape: int) -> np.ndarray:
    count = int(np.prod(shape))
    return Rotation.random(count, rng=rng).as_matrix().reshape(*shape, 3, 3)


def random_values(rng: np.random.Generator, *leading: int) -> dict[str, np.ndarray]:
    values = {}
    for name, field in FIELDS.items():
        if field.kind == "pose":
            values[name] = make_poses(
                random_rotations(rng, *leading), rng.uniform(-1, 1, (*leading, 3))
            )
        elif field.kind == "rotation_matrix":
            values[name] = random_rotations(rng, *leading)
        elif field.kind == "rotation_6d_columns":
            values[name] = rotation_to_numbers(random_rotations(rng, *leading), "columns")
        else:
            values[name] = rng.uniform(-3, 3, (*leading, *field.shape))
    return values


@given(seed=st.integers(0, 2**32 - 1), layout=LAYOUTS)
def test_every_rotation_layout_comes_back(seed: int, layout) -> None:
    rotation = random_rotations(np.random.default_rng(seed), 4)
    numbers = rotation_to_numbers(rotation, layout)
    np.testing.assert_allclose(rotation_from_numbers(numbers, layout), rotation, atol=1e-12)
    for name, number in zip(ROTATION_NAMES[layout], numbers[0], strict=True):
        assert number == rotation[0, int(name[1]), int(name[2])]


def everything() -> VectorLayout:
    return VectorLayout(
        components=(
            PoseNumbers(
                name="right",
                pose=PoseFields(pose="action/pose/right"),
                relative_to=PoseFields(pose="actual/pose/right"),
            ),
            PoseNumbers(
                name="left",
                pose=PoseFields(translation="left/xyz", rotation="left/rot"),
                relative_to=PoseFields(
                    translation="left/measured/xyz", rotation="left/measured/matrix"
                ),
                rotation="interleaved",
            ),
            GripperNumbers(name="hand", field="gripper", closed=0.08, open=0.0),
            JointNumbers(
                name="arm", field="joints", mode="delta_to_previous", reference="joints/measured"
            ),
            FieldNumbers(name="state", field="state"),
        ),
        padded_to=40,
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_decoding_inverts_encoding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = everything().resolve(FIELDS)
    values, anchor = random_values(rng, 3, WINDOW), random_values(rng, 3)
    numbers = layout.encode(values, anchor)
    assert numbers.shape == (3, WINDOW, layout.size) == (3, WINDOW, 40)
    assert layout.mask.sum() == 9 + 9 + 1 + 7 + 3
    assert (numbers[..., ~layout.mask] == 0).all()
    decoded = layout.decode(numbers, anchor)
    assert set(decoded) == set(everything().source_fields)
    for name, array in decoded.items():
        np.testing.assert_allclose(array, values[name], atol=1e-9, err_msg=name)


@given(seed=st.integers(0, 2**32 - 1))
def test_relative_poses_do_not_depend_on_where_the_world_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = VectorLayout(components=everything().components[:1]).resolve(FIELDS)
    values, anchor = random_values(rng, 2, WINDOW), random_values(rng, 2)
    world = make_poses(random_rotations(rng), rng.uniform(-1, 1, 3))
    moved = layout.encode(
        {name: world @ values[name] for name in ["action/pose/right"]},
        {name: world @ anchor[name] for name in ["actual/pose/right"]},
    )
    np.testing.assert_allclose(moved, layout.encode(values, anchor), atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), mode=st.sampled_from(["delta_to_anchor", "absolute"]))
def test_joints_that_turn_without_end_come_back_up_to_whole_turns(seed: int, mode) -> None:
    rng = np.random.default_rng(seed)
    reference = None if mode == "absolute" else "joints/measured"
    component = JointNumbers(name="arm", field="joints", mode=mode, reference=reference, wraps=True)
    layout = VectorLayout(components=(component,)).resolve(FIELDS)
    values, anchor = random_values(rng, WINDOW), random_values(rng)
    numbers = layout.encode(values, anchor)
    assert (np.abs(numbers) <= np.pi).all()
    turns = (layout.decode(numbers, anchor)["joints"] - values["joints"]) / (2 * np.pi)
    np.testing.assert_allclose(turns, turns.round(), atol=1e-9)


def test_deltas_to_the_step_before_begin_at_the_measured_position() -> None:
    component = JointNumbers(
        name="arm", field="joints", mode="delta_to_previous", reference="joints/measured"
    )
    layout = VectorLayout(components=(component,)).resolve(FIELDS)
    positions = np.array([1.0, 1.5, 1.25])[:, None] * np.ones(7)
    numbers = layout.encode({"joints": positions}, {"joints/measured": np.full(7, 0.5)})
    np.testing.assert_array_equal(numbers[:, 0], [0.5, 0.5, -0.25])


def test_a_gripper_says_which_way_it_opens() -> None:
    component = GripperNumbers(
        name="hand", field="gripper", closed=0.0, open=0.08, encoded_closed=1.0, encoded_open=-1.0
    )
    layout = VectorLayout(components=(component,)).resolve(FIELDS)
    numbers = layout.encode({"gripper": np.array([0.0, 0.04, 0.08, 0.16])}, {})
    # Beyond the range is beyond the range: nothing is clipped.
    np.testing.assert_allclose(numbers[:, 0], [1, 0, -1, -3])
    with pytest.raises(DataError, match="both closed and open"):
        GripperNumbers(name="hand", field="gripper", closed=0.0)


def test_chosen_columns_are_named_and_the_others_are_unknown_afterwards() -> None:
    layout = VectorLayout(
        components=(FieldNumbers(name="s", field="state", columns=(2, 0)),)
    ).resolve(FIELDS)
    assert layout.names == ("s/c", "s/a")
    numbers = layout.encode({"state": np.array([[1.0, 2.0, 3.0]])}, {})
    assert numbers.tolist() == [[3.0, 1.0]]
    np.testing.assert_array_equal(layout.decode(numbers, {})["state"], [[1.0, np.nan, 3.0]])


def test_a_declaration_survives_json() -> None:
    text = json.dumps(everything().to_fields())
    assert VectorLayout.from_fields(json.loads(text)) == everything()
    with pytest.raises(DataError, match="unknown kind of numbers 'poze'"):
        VectorLayout.from_fields({"components": [{"kind": "poze"}], "padded_to": None})


def test_a_declaration_that_does_not_fit_says_why() -> None:
    def resolve(*components, padded_to=None):
        return VectorLayout(components=components, padded_to=padded_to).resolve(FIELDS)

    with pytest.raises(DataError, match="did you mean 'action/pose/right'"):
        resolve(PoseNumbers(name="r", pose=PoseFields(pose="action/poses/right")))
    with pytest.raises(DataError, match="'joints'.*kind pose, got 'joint_position'"):
        resolve(PoseNumbers(name="r", pose=PoseFields(pose="joints")))
    with pytest.raises(DataError, match="expected one number a step, got 7"):
        resolve(GripperNumbers(name="g", field="joints"))
    with pytest.raises(DataError, match="columns from 0 to 2, got 3"):
        resolve(FieldNumbers(name="s", field="state", columns=(3,)))
    with pytest.raises(DataError, match="at most 2 numbers"):
        resolve(FieldNumbers(name="s", field="state"), padded_to=2)
    with pytest.raises(DataError, match="occur twice"):
        resolve(
            FieldNumbers(name="s", field="state"),
            FieldNumbers(name="s", field="state", columns=(0,)),
        )
    with pytest.raises(DataError, match="one field of poses, or one of translations"):
        PoseFields(translation="left/xyz")
