"""Tasks without physics: names, layouts, predicates."""

from __future__ import annotations

import numpy as np
import pytest

from sim_client.station.arm_controller import POSTURE, sample_start, tool_down
from sim_client.station.inverse_kinematics import solve_pose
from sim_client.station.scene import BASE_POSITIONS_M, TABLE_CENTRE_X_M, TABLE_SIZE_M
from sim_client.tasks.catalog import TASKS, UnknownTaskError, get_task
from sim_client.tasks.pick_and_place_box import PickAndPlaceBox
from sim_client.tasks.put_mug_on_saucer import PutMugOnSaucer
from sim_client.tasks.task import Layout, SceneState, Task, planar_pose, sample_until_valid

NUM_SEEDS = 300


def at_rest(layout: Layout, **changes: object) -> SceneState:
    fields = {
        "poses": dict(layout),
        "velocities": {name: np.zeros(6) for name in layout},
        "finger_contacts": frozenset(),
        "contacts": frozenset({("mug", "saucer")}),
    }
    return SceneState(**(fields | changes))  # pyright: ignore[reportArgumentType]


def layouts(task: Task) -> list[Layout]:
    return [task.sample_layout(np.random.default_rng(seed)) for seed in range(NUM_SEEDS)]


@pytest.mark.parametrize("name", ["PickAndPlaceBox", "pick_and_place_box", "pickandplacebox"])
def test_names_in_either_case(name: str) -> None:
    assert get_task(name) is TASKS["PickAndPlaceBox"]


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownTaskError, match="Did you mean 'PutMugOnSaucer'"):
        get_task("PutMugOnSaucers")
    with pytest.raises(UnknownTaskError, match="expected one of"):
        get_task("xyz")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_no_scene_is_solved_at_the_start(task: Task) -> None:
    for layout in layouts(task):
        status = task.status(at_rest(layout))
        assert not status.success
        assert not status.failed


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_seed_is_a_layout(task: Task) -> None:
    first, again = (task.sample_layout(np.random.default_rng(5)) for _ in range(2))
    other = task.sample_layout(np.random.default_rng(6))
    for name, X_TO in first.items():
        np.testing.assert_array_equal(X_TO, again[name])
        assert not np.array_equal(X_TO, other[name])


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_objects_are_on_the_table_and_within_reach(task: Task) -> None:
    depth, width, _ = TABLE_SIZE_M
    for layout in layouts(task)[:60]:
        manipuland = layout[task.objects[0].name]
        side = "right"
        if isinstance(task, PutMugOnSaucer) and manipuland[1, 3] > 0:
            side = "left"
        for X_TO in layout.values():
            x, y = X_TO[:2, 3]
            assert abs(x - TABLE_CENTRE_X_M) < depth / 2 - 0.1
            assert abs(y) < width / 2 - 0.1
            yaw = float(np.arctan2(X_TO[1, 0], X_TO[0, 0]))
            X_TE = tool_down(np.array([x, y, 0.05]), yaw)
            X_TE[:3, 3] -= BASE_POSITIONS_M[side]
            solve_pose(X_TE, seed=POSTURE)


def test_the_open_hand_fits_between_box_and_bin() -> None:
    task = PickAndPlaceBox()
    half_hand_m = 0.102
    for layout in layouts(task):
        p_bin = np.linalg.inv(layout["bin"]) @ layout["box"][:, 3]
        assert np.abs(p_bin[:2]).max() - task.bin.outer_m / 2 > half_hand_m


def test_mugs_come_on_both_sides() -> None:
    sides = {np.sign(layout["mug"][1, 3]) for layout in layouts(PutMugOnSaucer())}
    assert sides == {-1.0, 1.0}


def test_starts_vary_and_are_reachable() -> None:
    starts = []
    for seed in range(50):
        for side in ("right", "left"):
            X_TE, width_m = sample_start(side, np.random.default_rng(seed))
            assert width_m == pytest.approx(0.08)
            X_BE = X_TE.copy()
            X_BE[:3, 3] -= BASE_POSITIONS_M[side]
            solve_pose(X_BE, seed=POSTURE)
            starts.append(X_TE[:3, 3])
    assert np.std(starts, axis=0).min() > 0.005


def test_bounds_without_room_are_an_error_not_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no valid layout in 500 draws"):
        sample_until_valid(dict, lambda layout: False, task="Impossible")


BOX_IN_BIN: Layout = {
    "bin": planar_pose(0.0, 0.1, 0.0, 0.1),
    "box": planar_pose(0.02, 0.12, 0.031, 0.4),
}
MUG_ON_SAUCER: Layout = {
    "saucer": planar_pose(0.0, 0.1, 0.0, 0.0),
    "mug": planar_pose(0.01, 0.11, 0.012, 0.4),
}


def moving(solved: Layout, name: str, velocity: list[float]) -> SceneState:
    velocities = {other: np.zeros(6) for other in solved} | {name: np.array(velocity)}
    return at_rest(solved, velocities=velocities)


def placed_at(solved: Layout, name: str, X_TO: np.ndarray) -> SceneState:
    return at_rest({**solved, name: X_TO})


def test_a_box_at_rest_in_the_bin_is_success() -> None:
    assert PickAndPlaceBox().status(at_rest(BOX_IN_BIN)).success


@pytest.mark.parametrize(
    ("state", "predicate"),
    [
        (at_rest(BOX_IN_BIN, finger_contacts=frozenset({"box"})), "box_released"),
        (moving(BOX_IN_BIN, "box", [0, 0, 0, 0.2, 0, 0]), "box_at_rest"),
        (moving(BOX_IN_BIN, "box", [2.0, 0, 0, 0, 0, 0]), "box_at_rest"),
        (placed_at(BOX_IN_BIN, "box", planar_pose(0.2, 0.12, 0.03, 0.4)), "box_in_bin"),
        (placed_at(BOX_IN_BIN, "box", planar_pose(0.02, 0.12, 0.2, 0.4)), "box_in_bin"),
    ],
)
def test_each_condition_of_the_box_counts(state: SceneState, predicate: str) -> None:
    status = PickAndPlaceBox().status(state)
    assert not status.success
    assert status.predicates[predicate] is False


def test_a_mug_at_rest_on_the_saucer_is_success() -> None:
    assert PutMugOnSaucer().status(at_rest(MUG_ON_SAUCER)).success


def test_a_lying_mug_is_not_upright() -> None:
    lying = planar_pose(0.01, 0.11, 0.04, 0.0)
    lying[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    status = PutMugOnSaucer().status(placed_at(MUG_ON_SAUCER, "mug", lying))
    assert not status.success
    assert status.predicates["mug_upright"] is False


@pytest.mark.parametrize(
    ("state", "predicate"),
    [
        (at_rest(MUG_ON_SAUCER, finger_contacts=frozenset({"mug"})), "mug_released"),
        (at_rest(MUG_ON_SAUCER, contacts=frozenset()), "mug_on_saucer"),
        (placed_at(MUG_ON_SAUCER, "mug", planar_pose(0.06, 0.1, 0.012, 0)), "mug_over_saucer"),
        (moving(MUG_ON_SAUCER, "mug", [0.1] * 6), "mug_at_rest"),
    ],
)
def test_each_condition_of_the_mug_counts(state: SceneState, predicate: str) -> None:
    status = PutMugOnSaucer().status(state)
    assert not status.success
    assert status.predicates[predicate] is False


@pytest.mark.parametrize(
    ("task", "solved", "name"),
    [
        (PickAndPlaceBox(), BOX_IN_BIN, "box"),
        (PutMugOnSaucer(), MUG_ON_SAUCER, "mug"),
        (PutMugOnSaucer(), MUG_ON_SAUCER, "saucer"),
    ],
)
def test_off_the_table_is_unrecoverable(task: Task, solved: Layout, name: str) -> None:
    status = task.status(placed_at(solved, name, planar_pose(0.9, 0.0, -0.7, 0.0)))
    assert status.failed
    assert not status.success
