"""All tasks without physics: names, layouts, what success is made of."""

from __future__ import annotations

import numpy as np
import pytest

from sim_client.manipulands.manipuland import scaled
from sim_client.station.arm_controller import POSTURE, sample_start
from sim_client.station.inverse_kinematics import solve_pose
from sim_client.station.workspace import BASE_POSITIONS_M, TABLE_CENTRE_X_M, TABLE_SIZE_M
from sim_client.tasks.catalog import SPLITS, TASKS, UnknownTaskError, get_task, get_tasks
from sim_client.tasks.monitor import TaskMonitor
from sim_client.tasks.placement import Placement
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState, planar_pose
from sim_client.tasks.task import NoLayoutError, Task

ALL_TASKS = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
SEEDS = range(100, 200)


def at_rest(poses: dict[str, np.ndarray], **changes: object) -> SceneState:
    fields = {
        "poses": dict(poses),
        "velocities": {name: np.zeros(6) for name in poses},
        "contacts": frozenset({("mug", "saucer")}),
    }
    return SceneState(**(fields | changes))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["PickAndPlaceBox", "pick_and_place_box", "pickandplacebox"])
def test_names_in_either_case(name: str) -> None:
    assert get_task(name) is TASKS["PickAndPlaceBox"]


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownTaskError, match="Did you mean 'PutMugOnSaucer'"):
        get_task("PutMugOnSaucers")
    with pytest.raises(UnknownTaskError, match="expected one of"):
        get_task("xyz")


def test_sets_of_tasks_have_names() -> None:
    assert [task.name for task in get_tasks(["all"])] == list(TASKS)
    assert not any(task.bimanual for task in get_tasks(["one-arm"]))
    assert all(task.bimanual for task in get_tasks(["two-arms"]))
    assert {*SPLITS["seen"], *SPLITS["unseen"]} == set(TASKS)
    assert not set(SPLITS["seen"]) & set(SPLITS["unseen"])
    mixed = get_tasks(["unseen", "pick_and_place_box"])
    assert [task.name for task in mixed] == [*SPLITS["unseen"], "PickAndPlaceBox"]


def test_every_part_of_an_unseen_task_is_in_a_seen_one() -> None:
    seen = {item for task in get_tasks(["seen"]) for item in task.objects_by_name}
    for task in get_tasks(["unseen"]):
        assert set(task.objects_by_name) <= seen


@ALL_TASKS
def test_a_seed_is_a_layout(task: Task) -> None:
    differing = 0
    few = SEEDS[::4]
    for seed in few:
        layout, again = task.sample_layout(seed), task.sample_layout(seed)
        other = task.sample_layout(seed, attempt=1)
        assert list(layout) == list(task.placements)
        for name, X_TO in layout.items():
            np.testing.assert_array_equal(X_TO, again[name])
            np.testing.assert_allclose(X_TO[:3, :3] @ X_TO[:3, :3].T, np.eye(3), atol=1e-12)
        differing += any(not np.array_equal(layout[name], other[name]) for name in layout)
    assert differing == len(few)


@ALL_TASKS
def test_objects_are_on_the_table(task: Task) -> None:
    depth, width, _ = TABLE_SIZE_M
    for seed in SEEDS:
        for name, X_TO in task.sample_layout(seed).items():
            x, y = X_TO[:2, 3]
            item = task.objects_by_name[name]
            # What is fixed cannot fall, and need not be round: its corners may be at the edge.
            radius_m = 0.0 if item.fixed else item.radius_m
            assert abs(x - TABLE_CENTRE_X_M) + radius_m < depth / 2, name
            assert abs(y) + radius_m < width / 2, name


@ALL_TASKS
def test_what_a_policy_is_told(task: Task) -> None:
    everything = (*task.instructions, *task.held_out_instructions)
    assert len(task.instructions) >= 3, "language in several phrasings"
    assert task.held_out_instructions
    assert len(set(everything)) == len(everything)
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in everything)


def test_no_two_tasks_are_told_in_the_same_words() -> None:
    said = [
        sentence
        for task in TASKS.values()
        for sentence in (*task.instructions, *task.held_out_instructions)
    ]
    assert len(set(said)) == len(said)


def test_a_field_added_or_widened_moves_no_other() -> None:
    """One stream a field: an edit of one object's range leaves all other draws as they were."""
    task = TASKS["PickAndPlaceBox"]
    box = task.placements["box"]
    wider = Placement(x_m=(-0.2, 0.1), y_m=box.y_m, yaw_rad=box.yaw_rad)
    item = task.objects_by_name["box"]
    for seed in SEEDS:
        before = box.sample(item, seed, attempt=0, mirrored=False)
        after = wider.sample(item, seed, attempt=0, mirrored=False)
        assert before[0, 3] != after[0, 3]
        np.testing.assert_array_equal(before[1:, 3], after[1:, 3])
        np.testing.assert_array_equal(before[:3, :3], after[:3, :3])


def test_a_mirrored_task_comes_on_both_sides_with_the_same_numbers() -> None:
    task = TASKS["PutMugOnSaucer"]
    item, placement = task.objects_by_name["mug"], task.placements["mug"]
    plain = placement.sample(item, 7, attempt=0, mirrored=False)
    mirrored = placement.sample(item, 7, attempt=0, mirrored=True)
    np.testing.assert_array_equal(mirrored[:3, 3], plain[:3, 3] * [1.0, -1.0, 1.0])
    np.testing.assert_allclose(mirrored[:3, :3], plain[:3, :3].T)
    sides = {np.sign(task.sample_layout(seed)["mug"][1, 3]) for seed in SEEDS}
    assert sides == {-1.0, 1.0}


def test_what_stands_on_something_moves_with_it() -> None:
    task = TASKS["PutMugOnSaucer"]
    X_TS = planar_pose(0.1, 0.05, 0.0, 0.3)
    on_saucer = Placement(x_m=(0.01, 0.01), y_m=(0.02, 0.02), on="saucer")
    changed = Task(
        name="Stacked",
        instructions=("Look.",),
        objects=task.objects,
        placements={
            "saucer": Placement(x_m=(0.1, 0.1), y_m=(0.05, 0.05), yaw_rad=(0.3, 0.3)),
            "mug": on_saucer,
        },
        success=task.success,
        time_limit_s=1.0,
    )
    top_m = task.objects_by_name["saucer"].top_m
    expected = X_TS @ planar_pose(0.01, 0.02, top_m, 0.0)
    np.testing.assert_allclose(changed.sample_layout(3)["mug"], expected, atol=1e-12)


def test_the_open_hand_fits_between_box_and_bin() -> None:
    task = TASKS["PickAndPlaceBox"]
    half_hand_m = 0.102
    for seed in SEEDS:
        layout = task.sample_layout(seed)
        p_bin = np.linalg.inv(layout["bin"]) @ layout["box"][:, 3]
        assert np.abs(p_bin[:2]).max() - task.objects_by_name["bin"].outer_m / 2 > half_hand_m


def test_starts_vary_and_are_reachable() -> None:
    starts = []
    for seed in range(50):
        for side in ("right", "left"):
            X_TE, width_m = sample_start(side, stream(seed, f"start.{side}"))
            assert width_m == pytest.approx(0.08)
            X_BE = X_TE.copy()
            X_BE[:3, 3] -= BASE_POSITIONS_M[side]
            solve_pose(X_BE, seed=POSTURE)
            starts.append(X_TE[:3, 3])
    assert np.std(starts, axis=0).min() > 0.005


def test_bounds_without_room_are_an_error_not_a_loop() -> None:
    task = TASKS["PutMugOnSaucer"]
    squeezed = Task(
        name="Squeezed",
        instructions=("Do it.",),
        objects=task.objects,
        placements={"mug": Placement(x_m=(0, 0), y_m=(0, 0)), "saucer": task.placements["saucer"]},
        preconditions=task.preconditions,
        success=task.success,
        time_limit_s=1.0,
    )
    with pytest.raises(NoLayoutError, match="Squeezed: no valid layout in 500 draws of seed 1"):
        squeezed.sample_layout(1)


def test_a_declaration_that_forgets_a_placement_is_refused() -> None:
    task = TASKS["PutMugOnSaucer"]
    with pytest.raises(ValueError, match=r"one placement for each of \['mug', 'saucer'\]"):
        Task(
            name="Forgetful",
            instructions=("Do it.",),
            objects=task.objects,
            placements={"mug": task.placements["mug"]},
            success=task.success,
            time_limit_s=1.0,
        )


MUG_ON_SAUCER = {
    "saucer": planar_pose(0.0, 0.1, 0.0, 0.0),
    "mug": planar_pose(0.01, 0.11, 0.012, 0.4),
}
MUG_ASIDE = MUG_ON_SAUCER | {"mug": planar_pose(0.2, -0.2, 0.0, 0.0)}
BOX_IN_BIN = {"bin": planar_pose(0.0, 0.1, 0.0, 0.1), "box": planar_pose(0.02, 0.12, 0.006, 0.4)}


def lying() -> np.ndarray:
    X = planar_pose(0.01, 0.11, 0.04, 0.0)
    X[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    return X


def moving(poses: dict[str, np.ndarray], name: str, velocity: list[float]) -> SceneState:
    velocities = {other: np.zeros(6) for other in poses} | {name: np.array(velocity)}
    return at_rest(poses, velocities=velocities)


def test_solved_scenes_are_solved() -> None:
    assert TASKS["PickAndPlaceBox"].is_solved(at_rest(BOX_IN_BIN))
    assert TASKS["PutMugOnSaucer"].is_solved(at_rest(MUG_ON_SAUCER))


@pytest.mark.parametrize(
    ("task", "state", "predicate"),
    [
        (
            "PickAndPlaceBox",
            at_rest(BOX_IN_BIN, arm_contacts=frozenset({("left", "box")})),
            "box_released",
        ),
        (
            "PickAndPlaceBox",
            at_rest(BOX_IN_BIN, finger_contacts=frozenset({("right", "box")})),
            "box_released",
        ),
        ("PickAndPlaceBox", moving(BOX_IN_BIN, "box", [0, 0, 0, 0.2, 0, 0]), "box_at_rest"),
        ("PickAndPlaceBox", moving(BOX_IN_BIN, "box", [2.0, 0, 0, 0, 0, 0]), "box_at_rest"),
        (
            "PickAndPlaceBox",
            at_rest(BOX_IN_BIN | {"box": planar_pose(0.2, 0.12, 0.01, 0.4)}),
            "box_in_bin",
        ),
        (
            "PickAndPlaceBox",
            at_rest(BOX_IN_BIN | {"box": planar_pose(0.02, 0.12, 0.2, 0.4)}),
            "box_in_bin",
        ),
        ("PutMugOnSaucer", at_rest(MUG_ON_SAUCER, contacts=frozenset()), "mug_on_saucer"),
        ("PutMugOnSaucer", at_rest(MUG_ON_SAUCER | {"mug": lying()}), "mug_upright"),
        (
            "PutMugOnSaucer",
            at_rest(MUG_ON_SAUCER | {"mug": planar_pose(0.06, 0.1, 0.012, 0)}),
            "mug_on_saucer",
        ),
        ("PutMugOnSaucer", moving(MUG_ON_SAUCER, "mug", [0.1] * 6), "mug_at_rest"),
    ],
)
def test_each_condition_counts(task: str, state: SceneState, predicate: str) -> None:
    assert not TASKS[task].is_solved(state)
    assert not TASKS[task].measure(state)[predicate].holds


@ALL_TASKS
def test_off_the_table_is_lost(task: Task) -> None:
    layout = task.sample_layout(100)
    for item in task.objects:
        gone = dict(layout) | {item.name: planar_pose(0.9, 0.0, -0.7, 0.0)}
        assert task.is_lost(at_rest(gone))


def test_a_dropped_mug_is_lost() -> None:
    task = TASKS["PutMugOnSaucer"]
    assert not task.is_lost(at_rest(MUG_ON_SAUCER, fastest_fall_m_s={"mug": 0.5}))
    assert task.is_lost(at_rest(MUG_ON_SAUCER, fastest_fall_m_s={"mug": 1.5}))


def test_success_is_held_without_a_break() -> None:
    """Half a second at ten instants a second: six in a row, and a break begins anew."""
    monitor = TaskMonitor(TASKS["PutMugOnSaucer"], control_period_s=0.1)
    solved = at_rest(MUG_ON_SAUCER)
    assert not monitor.begin(at_rest(MUG_ASIDE)).success
    held = [monitor.update(solved).success for _ in range(5)]
    assert not any(held)
    assert not monitor.update(moving(MUG_ON_SAUCER, "mug", [0, 0, 0, 0.2, 0, 0])).success
    held = [monitor.update(solved).success for _ in range(6)]
    assert held == [False] * 5 + [True]


def test_progress_counts_what_was_reached_and_never_falls() -> None:
    monitor = TaskMonitor(TASKS["PutMugOnSaucer"], control_period_s=0.1)
    status = monitor.begin(at_rest(MUG_ASIDE))
    assert status.progress == 0.0
    # Open at first: touched, lifted, on the saucer; success itself is the fourth.
    held = at_rest(MUG_ASIDE, finger_contacts=frozenset({("right", "mug")}))
    assert monitor.update(held).progress == pytest.approx(1 / 4)
    assert monitor.update(at_rest(MUG_ASIDE)).progress == pytest.approx(1 / 4)
    raised = MUG_ASIDE | {"mug": planar_pose(0.1, 0.0, 0.1, 0.0)}
    assert monitor.update(at_rest(raised)).progress == pytest.approx(2 / 4)
    status = monitor.update(at_rest(MUG_ON_SAUCER))
    assert status.progress == pytest.approx(3 / 4)
    assert status.predicates["mug_to_saucer_m"] == pytest.approx(np.hypot(0.01, 0.01))
    for _ in range(5):
        status = monitor.update(at_rest(MUG_ON_SAUCER))
    assert status.success
    assert status.progress == 1.0


def test_what_was_moved_is_told_and_when_first() -> None:
    """Two centimetres in any direction, at whichever instant; a return changes nothing."""
    monitor = TaskMonitor(TASKS["PutMugOnSaucer"], control_period_s=0.1)
    told = [monitor.begin(at_rest(MUG_ASIDE)).predicates]
    for height_m in (0.019, 0.021, 0.0):
        raised = MUG_ASIDE | {"mug": MUG_ASIDE["mug"] @ planar_pose(0.0, 0.0, height_m, 0.0)}
        told.append(monitor.update(at_rest(raised)).predicates)
    assert [each["mug_moved"] for each in told] == [False, False, True, True]
    assert [each.get("mug_moved_s") for each in told] == [None, None, 0.2, 0.2]
    assert told[-1]["saucer_moved"] is False


def test_of_what_is_fixed_no_move_is_told() -> None:
    task = TASKS["BimanualPlaceAppleFromBowlIntoBin"]
    state = at_rest(dict(task.sample_layout(100)))
    told = TaskMonitor(task, control_period_s=0.1).begin(state).predicates
    moved = {name for name in told if name.endswith("_moved")}
    assert moved == {"apple_moved", "pear_moved"}


def test_what_is_lost_stays_lost() -> None:
    monitor = TaskMonitor(TASKS["PutMugOnSaucer"], control_period_s=0.1)
    monitor.begin(at_rest(MUG_ASIDE))
    assert monitor.update(at_rest(MUG_ASIDE, fastest_fall_m_s={"mug": 1.5})).failed
    status = [monitor.update(at_rest(MUG_ON_SAUCER)) for _ in range(10)][-1]
    assert status.failed
    assert not status.success


@ALL_TASKS
def test_objects_can_be_scaled(task: Task) -> None:
    """Lengths and masses follow, whatever an object is made of; nothing else changes."""
    for item in task.objects:
        larger = scaled(item, size=1.5, mass=2.0)
        assert larger.radius_m == pytest.approx(1.5 * item.radius_m)
        assert larger.top_m == pytest.approx(1.5 * item.top_m)
        assert larger.rest_height_m == pytest.approx(1.5 * item.rest_height_m)
        assert (larger.name, larger.fixed) == (item.name, item.fixed)
        if hasattr(item, "mass_kg"):
            assert larger.mass_kg == pytest.approx(2.0 * item.mass_kg)
