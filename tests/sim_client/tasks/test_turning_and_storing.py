"""Tasks that turn or store a thing: what success is, how scenes begin, and their experts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_interface.types import Action
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, Expert, NoiseInjector, perturbed
from sim_client.experts.one_arm import Phase
from sim_client.experts.reorient import ReorientExpert
from sim_client.experts.reorient_targets import leaning_hand, shortest_turn
from sim_client.station.station import GRIPPER_NAMES, Station
from sim_client.tasks.catalog import get_task
from sim_client.tasks.placement import Placement
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState, planar_pose
from sim_client.tasks.turn_mug_rightside_up import MUG

StationOf = Callable[..., Station]
Poses = dict[str, np.ndarray]

MUG_UP = "TurnMugRightsideUp"
CUP_DOWN = "TurnCupUpsideDown"
SPATULA = "PutSpatulaInUtensilCrock"
CEREAL = "BimanualStoreCerealBoxUnderShelf"
FAMILY = (MUG_UP, CUP_DOWN, SPATULA, CEREAL)
ALL = pytest.mark.parametrize("name", FAMILY)


def turned(X: np.ndarray, columns: list[list[float]]) -> np.ndarray:
    """X with the object's axes given by their columns."""
    result = X.copy()
    result[:3, :3] = np.column_stack(columns)
    return result


# On its rim, 13 cm tall; on its side, z level; on its handle's end, x up.
ON_RIM = turned(planar_pose(0.0, -0.2, 0.130, 0.0), [[1, 0, 0], [0, -1, 0], [0, 0, -1]])
ON_SIDE = turned(planar_pose(0.0, -0.2, 0.029, 0.0), [[0, 0, -1], [1, 0, 0], [0, -1, 0]])
IN_CROCK = turned(planar_pose(0.02, 0.03, 0.086, 0.0), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
CROCK = planar_pose(0.02, 0.02, 0.0, 0.0)
SHELF = planar_pose(0.28, 0.0, 0.0, 0.0)
SOLVED: dict[str, Poses] = {
    MUG_UP: {"mug": planar_pose(0.0, -0.2, 0.0, 0.3)},
    CUP_DOWN: {"cup": ON_RIM},
    SPATULA: {"spatula": IN_CROCK, "crock": CROCK},
    CEREAL: {"cereal_box": planar_pose(0.26, 0.01, 0.0, 0.05), "shelf": SHELF},
}
ITEM = {MUG_UP: "mug", CUP_DOWN: "cup", SPATULA: "spatula", CEREAL: "cereal_box"}


def solved(name: str, **changes: object) -> SceneState:
    fields = {
        "poses": SOLVED[name],
        "velocities": {item: np.zeros(6) for item in SOLVED[name]},
        "contacts": frozenset({(ITEM[name], "table")}),
    }
    return SceneState(**(fields | changes))  # pyright: ignore[reportArgumentType]


def broken(name: str, state: SceneState) -> list[str]:
    """The conditions of success that don't hold."""
    measures = get_task(name).measure(state)
    return [each.label for each in get_task(name).success if not measures[each.label].holds]


@ALL
def test_what_is_done_is_done(name: str) -> None:
    assert broken(name, solved(name)) == []


@pytest.mark.parametrize(
    ("name", "pose", "conditions"),
    [
        (MUG_UP, ON_SIDE, ["mug_upright"]),
        (MUG_UP, ON_RIM, ["mug_upright"]),
        (CUP_DOWN, planar_pose(0.0, -0.2, 0.0, 0.0), ["cup_upside_down"]),
        (CUP_DOWN, ON_SIDE, ["cup_upside_down"]),
        # Flat on the table, flat across the crock's rim, and beside the crock.
        (SPATULA, planar_pose(0.0, -0.3, 0.0, 1.5), ["spatula_in_crock"]),
        (SPATULA, planar_pose(0.02, 0.02, 0.111, 1.5), ["spatula_in_crock"]),
        (SPATULA, IN_CROCK @ planar_pose(0.0, 0.08, 0.0, 0.0), ["spatula_in_crock"]),
        # Half under the shelf, and on the shelf.
        (CEREAL, planar_pose(0.17, 0.0, 0.0, 0.0), ["cereal_box_in_shelf"]),
        (CEREAL, planar_pose(0.28, 0.0, 0.105, 0.0), ["cereal_box_in_shelf"]),
    ],
)
def test_where_and_how_it_lies_counts(name: str, pose: np.ndarray, conditions: list[str]) -> None:
    assert broken(name, solved(name, poses={**SOLVED[name], ITEM[name]: pose})) == conditions


@ALL
def test_touched_or_moving_is_not_done(name: str) -> None:
    item = ITEM[name]
    held = solved(name, arm_contacts=frozenset({("left", item)}))
    assert broken(name, held) == [f"{item}_released"]
    fast = {**dict.fromkeys(SOLVED[name], np.zeros(6)), item: np.array([0, 0, 0, 0.2, 0, 0])}
    assert broken(name, solved(name, velocities=fast)) == [f"{item}_at_rest"]


@pytest.mark.parametrize(("name", "item"), [(MUG_UP, "mug"), (CUP_DOWN, "cup")])
def test_in_the_air_is_not_on_the_table(name: str, item: str) -> None:
    assert broken(name, solved(name, contacts=frozenset())) == [f"{item}_on_table"]


def test_a_dropped_mug_is_lost() -> None:
    task = get_task(MUG_UP)
    assert not task.is_lost(solved(MUG_UP, fastest_fall_m_s={"mug": 0.5}))
    assert task.is_lost(solved(MUG_UP, fastest_fall_m_s={"mug": 1.2}))


@ALL
def test_every_seed_has_a_scene(name: str) -> None:
    task = get_task(name)
    for seed in (*range(1000), *range(100_000_100, 100_000_300)):
        layout = task.sample_layout(seed)
        assert not task.is_solved(solved(name, poses=dict(layout)))


def test_spin_turns_a_lying_thing_about_its_own_axis() -> None:
    """Half the mugs are mirrored: their handles then rest on the other side."""
    placement = Placement(
        x_m=(0.0, 0.0), y_m=(-0.2, -0.2), spin_rad=(1.0, 1.0), orientation="lying"
    )
    plain = placement.sample(MUG, 0, attempt=0, mirrored=False)
    mirrored = placement.sample(MUG, 0, attempt=0, mirrored=True)
    np.testing.assert_allclose(plain[:3, 2], [1.0, 0.0, 0.0], atol=1e-12)
    # The handle, along x, from straight down toward +y by a radian.
    np.testing.assert_allclose(plain[:3, 0], [0.0, np.sin(1.0), -np.cos(1.0)], atol=1e-12)
    np.testing.assert_allclose(mirrored[:3, 0], plain[:3, 0] * [1.0, -1.0, 1.0], atol=1e-12)


def test_a_leaning_hand_closes_across_the_axis_and_leans_along_it() -> None:
    axis = np.array([0.5, -0.8, 0.0])
    axis /= np.linalg.norm(axis)
    X = leaning_hand(np.array([0.1, 0.2, 0.3]), axis, lean_rad=0.7)
    np.testing.assert_allclose(X[:3, :3] @ X[:3, :3].T, np.eye(3), atol=1e-12)
    assert abs(X[:3, 1] @ axis) < 1e-12
    palm = -X[:3, 2]
    np.testing.assert_allclose(palm, np.cos(0.7) * np.array([0, 0, 1]) + np.sin(0.7) * axis)


def test_the_shortest_turn_takes_one_axis_to_the_other() -> None:
    rng = np.random.default_rng(0)
    for start, end in rng.normal(size=(20, 2, 3)):
        start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
        turn = shortest_turn(start, end)
        np.testing.assert_allclose(turn @ start, end, atol=1e-9)
        assert np.trace(turn) == pytest.approx(1.0 + 2.0 * start @ end)


def intended(station: Station, expert: Expert) -> Action:
    return expert.act(station.scene_state(), station.actual(), station.desired())


def attempt(station: Station, expert: Expert, seed: int) -> None:
    """One episode under noise."""
    station.reset(seed)
    expert.reset()
    injectors = {
        arm: NoiseInjector(CommandNoise(), stream(seed, f"noise.{arm}"))
        for arm in station.contract.arms
    }
    while not (expert.finished and station.status().success):
        if station.time_s >= station.task.time_limit_s or station.status().failed:
            break
        station.step(perturbed(intended(station, expert), injectors, expert.arms))


@pytest.mark.slow
@ALL
def test_the_expert_succeeds_under_noise(station_of: StationOf, name: str) -> None:
    station = station_of(name)
    expert = make_expert(station.task)
    # One scene of either side of the mirror.
    for seed in (100, 102):
        attempt(station, expert, seed)
        assert station.status().success, f"seed {seed}: {station.status()}"


def test_both_arms_push_the_cereal_box(station_of: StationOf) -> None:
    station = station_of(CEREAL)
    expert = make_expert(station.task)
    assert set(expert.arms) == set(station.contract.arms)
    station.reset(100)
    expert.reset()
    sides: set[str] = set()
    while not station.status().success:
        assert station.time_s < 15.0
        station.step(intended(station, expert))
        sides |= {side for side, _ in station.scene_state().finger_contacts}
    assert sides == {"right", "left"}


def test_a_mug_that_was_let_go_is_grasped_again(station_of: StationOf) -> None:
    station = station_of(MUG_UP)
    expert = make_expert(station.task)
    assert isinstance(expert, ReorientExpert)
    station.reset(100)
    expert.reset()
    while expert.phase is not Phase.CARRY:
        assert station.time_s < 8.0
        station.step(intended(station, expert))
    # At once, so that the mug only falls back a few millimetres.
    for _ in range(4):
        action = intended(station, expert)
        opened = dict.fromkeys(GRIPPER_NAMES.values(), 0.08)
        here = station.actual().poses
        station.step(Action(poses={**action.poses, **here}, gripper_widths_m=opened))
    intended(station, expert)
    assert expert.phase is Phase.APPROACH
    while not (expert.finished and station.status().success):
        assert station.time_s < station.task.time_limit_s
        station.step(intended(station, expert))
