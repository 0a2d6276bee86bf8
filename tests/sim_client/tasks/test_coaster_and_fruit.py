"""Tasks with coaster, cup, mug, kiwi, banana and saucer: what success is, scenes, experts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydrake.math import RigidTransform
from pydrake.systems.analysis import Simulator

from policy_interface.types import Action
from sim_client.drake_arrays import drake_array
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, Expert, NoiseInjector, perturbed
from sim_client.experts.motion import tool_pose
from sim_client.experts.push import PushExpert
from sim_client.manipulands.kiwi import Kiwi
from sim_client.station.scene import SceneSpec, build_scene
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES, Station
from sim_client.tasks.catalog import get_task
from sim_client.tasks.monitor import TaskMonitor
from sim_client.tasks.preconditions import ClearWay
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState, planar_pose

StationOf = Callable[..., Station]

PUSHES = ("PushCoasterToCenterOfTable", "PushCoasterToMug")
COASTER_AND_MUG = (*PUSHES, "PutMugInCenterOfTable")
FRUIT_AND_SAUCER = ("PutKiwiInCenterOfTable", "PutBananaOnSaucer")
FAMILY = (*COASTER_AND_MUG, *FRUIT_AND_SAUCER, "PlaceCupByCoaster")
ALL = pytest.mark.parametrize("name", FAMILY)

FAR = planar_pose(0.05, -0.28, 0.0, 0.3)
CENTRE = planar_pose(0.01, -0.02, 0.0, 1.0)
TOPPLED = np.array(
    [[0.0, 0.0, 1.0, 0.01], [0.0, 1.0, 0.0, -0.02], [-1.0, 0.0, 0.0, 0.029], [0.0, 0.0, 0.0, 1.0]]
)


def raised(X: np.ndarray, height_m: float) -> np.ndarray:
    return X @ planar_pose(0.0, 0.0, height_m, 0.0)


# A state in which each task is done; objects touch the table, or what `ON` says.
SOLVED = {
    "PushCoasterToCenterOfTable": {"coaster": CENTRE, "mug": FAR},
    # The mug's radius is 2.9 cm, the coaster's 4.5 cm.
    "PushCoasterToMug": {"coaster": planar_pose(0.05, -0.18, 0.0, 2.0), "mug": FAR},
    "PutMugInCenterOfTable": {"mug": CENTRE, "coaster": FAR},
    "PutKiwiInCenterOfTable": {
        "kiwi": raised(CENTRE, 0.024),
        "banana": raised(FAR, 0.0165),
        "saucer": planar_pose(0.05, 0.13, 0.0, 0.0),
    },
    "PutBananaOnSaucer": {
        "kiwi": raised(FAR, 0.024),
        "banana": planar_pose(0.06, 0.12, 0.012 + 0.0165, 0.4),
        "saucer": planar_pose(0.05, 0.13, 0.0, 0.0),
    },
    "PlaceCupByCoaster": {"cup": planar_pose(0.0, -0.09, 0.0, 0.0), "coaster": CENTRE},
}
ON = {("PutBananaOnSaucer", "banana"): "saucer"}


def solved(name: str, **changes: object) -> SceneState:
    poses = SOLVED[name]
    supports = ((item, ON.get((name, item), "table")) for item in poses)
    fields = {
        "poses": dict(poses),
        "velocities": {item: np.zeros(6) for item in poses},
        "contacts": frozenset((min(pair), max(pair)) for pair in supports),
    }
    return SceneState(**(fields | changes))  # pyright: ignore[reportArgumentType]


def moved(name: str, item: str, X: np.ndarray) -> SceneState:
    return solved(name, poses={**SOLVED[name], item: X})


def moving(name: str, item: str, speed_m_s: float) -> SceneState:
    still = {each: np.zeros(6) for each in SOLVED[name]}
    return solved(name, velocities={**still, item: np.array([0, 0, 0, speed_m_s, 0, 0])})


def touched(name: str, item: str) -> SceneState:
    # By a forearm, say: no finger.
    return solved(name, arm_contacts=frozenset({("right", item)}))


@ALL
def test_done_and_held_is_success(name: str) -> None:
    task, state = get_task(name), solved(name)
    assert task.is_solved(state)
    assert not task.is_lost(state)
    monitor = TaskMonitor(task, control_period_s=0.1)
    verdicts = [monitor.begin(state).success, *(monitor.update(state).success for _ in range(5))]
    assert verdicts == [False] * 5 + [True]


PUSH, TO_MUG, MUG, KIWI, BANANA, CUP = (*COASTER_AND_MUG, *FRUIT_AND_SAUCER, "PlaceCupByCoaster")


@pytest.mark.parametrize(
    ("name", "state", "missing"),
    [
        (PUSH, moved(PUSH, "coaster", planar_pose(0.03, -0.03, 0, 0)), "coaster_at_centre"),
        (PUSH, solved(PUSH, contacts=frozenset()), "coaster_on_table"),
        (PUSH, touched(PUSH, "coaster"), "coaster_released"),
        (PUSH, moving(PUSH, "coaster", 0.1), "coaster_at_rest"),
        (PUSH, moved(PUSH, "mug", TOPPLED), "mug_upright"),
        (TO_MUG, moved(TO_MUG, "coaster", planar_pose(0.05, -0.16, 0, 0)), "coaster_by_mug"),
        (TO_MUG, moved(TO_MUG, "coaster", planar_pose(0.05, -0.24, 0, 0)), "coaster_by_mug"),
        (TO_MUG, touched(TO_MUG, "coaster"), "coaster_released"),
        (TO_MUG, touched(TO_MUG, "mug"), "mug_released"),
        (TO_MUG, moving(TO_MUG, "mug", 0.1), "mug_at_rest"),
        (TO_MUG, moved(TO_MUG, "mug", raised(TOPPLED, 0.0)), "mug_upright"),
        (MUG, moved(MUG, "mug", planar_pose(0.05, 0, 0, 0)), "mug_at_centre"),
        (MUG, moved(MUG, "mug", TOPPLED), "mug_upright"),
        (MUG, touched(MUG, "mug"), "mug_released"),
        (MUG, moving(MUG, "mug", 0.04), "mug_at_rest"),
        (KIWI, moved(KIWI, "kiwi", planar_pose(0.05, 0, 0.024, 0)), "kiwi_at_centre"),
        (KIWI, solved(KIWI, contacts=frozenset({("kiwi", "saucer")})), "kiwi_on_table"),
        (KIWI, touched(KIWI, "kiwi"), "kiwi_released"),
        (KIWI, moving(KIWI, "kiwi", 0.1), "kiwi_at_rest"),
        (BANANA, moved(BANANA, "banana", planar_pose(0.1, 0.12, 0.0285, 0)), "banana_on_saucer"),
        (BANANA, solved(BANANA, contacts=frozenset()), "banana_on_saucer"),
        (BANANA, touched(BANANA, "banana"), "banana_released"),
        (BANANA, moving(BANANA, "banana", 0.1), "banana_at_rest"),
        (CUP, moved(CUP, "cup", planar_pose(0.0, -0.14, 0, 0)), "cup_by_coaster"),
        (CUP, moved(CUP, "cup", planar_pose(0.01, -0.02, 0.012, 0)), "cup_by_coaster"),
        (CUP, moved(CUP, "cup", TOPPLED), "cup_upright"),
        (CUP, touched(CUP, "cup"), "cup_released"),
        (CUP, moving(CUP, "cup", 0.04), "cup_at_rest"),
    ],
)
def test_each_condition_counts(name: str, state: SceneState, missing: str) -> None:
    task = get_task(name)
    assert not task.measure(state)[missing].holds
    assert not task.is_solved(state)


@pytest.mark.parametrize(
    ("name", "item"), [(TO_MUG, "mug"), (MUG, "mug"), (KIWI, "kiwi"), (BANANA, "banana")]
)
def test_what_is_dropped_is_lost(name: str, item: str) -> None:
    assert get_task(name).is_lost(solved(name, fastest_fall_m_s={item: 1.1}))
    assert not get_task(name).is_lost(solved(name, fastest_fall_m_s={item: 0.9}))


@pytest.mark.parametrize("names", [COASTER_AND_MUG, FRUIT_AND_SAUCER])
def test_the_instruction_alone_tells_shared_scenes_apart(names: tuple[str, ...]) -> None:
    first, *others = (get_task(name) for name in names)
    for seed in range(100, 130):
        layout = first.sample_layout(seed)
        for other in others:
            for item, X_TO in other.sample_layout(seed).items():
                np.testing.assert_array_equal(X_TO, layout[item])
    phrasings = [text for name in names for text in get_task(name).instructions]
    assert len(set(phrasings)) == len(phrasings)


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("first_seed", [100, 100_000_100])
def test_every_seed_has_a_layout(name: str, first_seed: int) -> None:
    task = get_task(name)
    for seed in range(first_seed, first_seed + 500):
        assert task.is_valid(task.sample_layout(seed))


def test_the_way_to_the_centre_is_clear_of_what_stands_beside_it() -> None:
    task = get_task("PushCoasterToCenterOfTable")
    # The two radii are 4.5 and 2.9 cm: 9.4 cm from the strip's middle leave 2 cm.
    clear = ClearWay("coaster", "mug", gap_m=0.02, behind_m=0.08)
    coaster = planar_pose(0.0, -0.3, 0.0, 0.0)
    for mug, expected in {
        (0.10, -0.15): True,
        (0.09, -0.15): False,
        (0.0, -0.1): False,
        # Behind the coaster, where the hand stands, and still farther back.
        (0.05, -0.42): False,
        (0.0, -0.48): True,
        # Beyond the centre.
        (0.0, 0.10): True,
        (0.0, 0.09): False,
    }.items():
        layout = {"coaster": coaster, "mug": planar_pose(*mug, 0.0, 0.0)}
        assert clear.holds(layout, task.objects_by_name) is expected, mug


def test_a_kiwi_stops_rolling() -> None:
    scene = build_scene(SceneSpec(objects=(Kiwi(),)))
    simulator = Simulator(scene.diagram)
    context = scene.plant.GetMyMutableContextFromRoot(simulator.get_mutable_context())
    kiwi = scene.bodies["kiwi"]
    start = RigidTransform(drake_array([0.0, 0.0, Kiwi().rest_height_m]))
    scene.plant.SetFreeBodyPose(context, kiwi, start)
    rolling = np.array([-0.2 / Kiwi().half_height_m, 0.0, 0.0, 0.0, 0.2, 0.0])
    scene.plant.SetVelocities(context, kiwi.model_instance(), drake_array(rolling))
    simulator.AdvanceTo(3.0)
    velocity = scene.plant.EvalBodySpatialVelocityInWorld(context, kiwi)
    assert np.linalg.norm(velocity.rotational()) < 0.8
    place = scene.plant.EvalBodyPoseInWorld(context, kiwi).translation()
    assert 0.01 < place[1] < 0.15


def attempt(station: Station, expert: Expert, seed: int) -> float:
    """One episode under noise; the lowest that the tool centre point of an arm at work came (m)."""
    station.reset(seed)
    expert.reset()
    injectors = {
        arm: NoiseInjector(CommandNoise(), stream(seed, f"noise.{arm}"))
        for arm in station.contract.arms
    }
    lowest_m = np.inf
    while not (expert.finished and station.status().success):
        if station.time_s >= station.task.time_limit_s or station.status().failed:
            break
        action: Action = expert.act(station.scene_state(), station.actual(), station.desired())
        station.step(perturbed(action, injectors, expert.arms))
        for side, arm in ARM_NAMES.items():
            if arm in expert.arms:
                lowest_m = min(lowest_m, float(tool_pose(side, station.actual())[2, 3]))
    return lowest_m


@pytest.mark.slow
@ALL
def test_experts_succeed_under_noise(station_of: StationOf, name: str) -> None:
    station = station_of(name)
    expert = make_expert(station.task)
    fingertip_m = 0.009
    for seed in (500, 501):
        lowest_m = attempt(station, expert, seed)
        assert station.status().success, f"seed {seed}: {station.status()}"
        assert lowest_m > fingertip_m, "the fingertips, 9 mm lower, touched the table"


@pytest.mark.parametrize("name", PUSHES)
def test_a_pushing_hand_stays_closed_and_one_arm_works(station_of: StationOf, name: str) -> None:
    station = station_of(name)
    expert = make_expert(station.task)
    assert isinstance(expert, PushExpert)
    station.reset(502)
    expert.reset()
    assert expert.arms == ()
    assert not expert.finished
    action = expert.act(station.scene_state(), station.actual(), station.desired())
    side = "right" if station.scene_state().position_m("coaster")[1] < 0 else "left"
    assert expert.arms == (ARM_NAMES[side],)
    idle = next(arm for arm in station.contract.arms if arm not in expert.arms)
    np.testing.assert_array_equal(
        action.poses[idle].matrix(), station.desired().poses[idle].matrix()
    )
    assert action.gripper_widths_m[GRIPPER_NAMES[side]] == 0.0
