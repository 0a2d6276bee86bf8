"""The tasks that take both arms: what counts as done, why one arm can't, and their experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from policy_interface.types import Action, Pose
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, Expert, NoiseInjector, perturbed
from sim_client.experts.fruit_targets import FruitIntoBin
from sim_client.experts.motion import ArmMotion, tool_pose
from sim_client.experts.relay import RelayExpert
from sim_client.experts.two_hand_targets import PlateOntoStack
from sim_client.experts.two_hands import Phase, TwoHandExpert
from sim_client.manipulands.bell_pepper import BellPepper
from sim_client.station.panda_kinematics import MAX_GRIPPER_WIDTH_M, X_EC
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES, Station
from sim_client.station.workspace import SIDES
from sim_client.tasks.catalog import get_task
from sim_client.tasks.preconditions import OneForEachArm
from sim_client.tasks.predicates import Stacked
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState, planar_pose

StationOf = Callable[..., Station]
Poses = dict[str, np.ndarray]

APPLE = "BimanualPlaceAppleFromBowlIntoBin"
FRUIT = "BimanualPlaceFruitFromBowlIntoBin"
PEPPER = "BimanualPutRedBellPepperInBin"
PLATES = "BimanualStackPlatesOnTableFromDryingRack"
NAMES = (APPLE, FRUIT, PEPPER, PLATES)

BOWL = planar_pose(0.03, -0.43, 0.0, 0.3)
BIN = planar_pose(0.03, 0.45, 0.0, 0.0)
ALL_FRUIT_IN_BIN: Poses = {
    "apple": planar_pose(0.0, 0.45, 0.006, 0.0),
    "pear": planar_pose(0.06, 0.45, 0.006, 0.0),
    "bowl": BOWL,
    "bin": BIN,
}
APPLE_IN_BIN: Poses = {**ALL_FRUIT_IN_BIN, "pear": BOWL @ planar_pose(0.036, 0.0, 0.006, 0.0)}
PEPPER_IN_BIN: Poses = {
    "pepper": planar_pose(0.0, 0.15, 0.006, 0.2),
    "bin": planar_pose(0.0, 0.14, 0.0, 0.0),
}
STACK: Poses = {
    "rack": planar_pose(-0.06, -0.25, 0.0, 0.0),
    "front_plate": planar_pose(-0.05, 0.115, 0.0, 0.0),
    "back_plate": planar_pose(-0.048, 0.113, 0.016, 0.0),
}
SOLVED: dict[str, Poses] = {
    APPLE: APPLE_IN_BIN,
    FRUIT: ALL_FRUIT_IN_BIN,
    PEPPER: PEPPER_IN_BIN,
    PLATES: STACK,
}
CONTACTS = frozenset({("front_plate", "table"), ("back_plate", "front_plate")})


def at_rest(poses: Poses, **changes: object) -> SceneState:
    fields = {
        "poses": poses,
        "velocities": {name: np.zeros(6) for name in poses},
        "contacts": CONTACTS,
    }
    return SceneState(**(fields | changes))  # pyright: ignore[reportArgumentType]


def broken(task: str, state: SceneState) -> list[str]:
    """The conditions of success that don't hold."""
    measures = get_task(task).measure(state)
    return [each.label for each in get_task(task).success if not measures[each.label].holds]


@pytest.mark.parametrize("task", NAMES)
def test_what_is_done_is_done(task: str) -> None:
    assert broken(task, at_rest(SOLVED[task])) == []


@pytest.mark.parametrize(
    ("task", "changed", "conditions"),
    [
        (APPLE, {"apple": planar_pose(-0.06, 0.0, 0.0, 0.0)}, ["apple_in_bin"]),
        (APPLE, {"pear": planar_pose(0.06, 0.45, 0.006, 0.0)}, ["pear_in_bowl"]),
        (FRUIT, {"pear": APPLE_IN_BIN["pear"]}, ["pear_in_bin"]),
        (FRUIT, {"apple": planar_pose(0.03, 0.45, 0.09, 0.0)}, ["apple_in_bin"]),
        (PEPPER, {"pepper": planar_pose(0.0, -0.15, 0.0, 0.0)}, ["pepper_in_bin"]),
        (
            PLATES,
            {"back_plate": planar_pose(-0.05, 0.14, 0.016, 0.0)},
            ["front_plate_and_back_plate_stacked"],
        ),
        (
            PLATES,
            {
                "front_plate": planar_pose(-0.05, 0.3, 0.0, 0.0),
                "back_plate": planar_pose(-0.05, 0.3, 0.016, 0.0),
            },
            ["front_plate_at_centre", "back_plate_at_centre"],
        ),
    ],
)
def test_where_things_are_counts(task: str, changed: Poses, conditions: list[str]) -> None:
    assert broken(task, at_rest(SOLVED[task] | changed)) == conditions


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (APPLE, "apple"),
        (FRUIT, "apple"),
        (FRUIT, "pear"),
        (PEPPER, "pepper"),
        (PLATES, "front_plate"),
        (PLATES, "back_plate"),
    ],
)
def test_what_is_held_or_moves_is_not_done(task: str, name: str) -> None:
    poses = SOLVED[task]
    held = at_rest(poses, arm_contacts=frozenset({("left", name)}))
    assert broken(task, held) == [f"{name}_released"]
    velocities = {each: np.zeros(6) for each in poses}
    rolling = velocities | {name: np.array([0.0, 2.0, 0.0, 0.1, 0.0, 0.0])}
    assert broken(task, at_rest(poses, velocities=rolling)) == [f"{name}_at_rest"]


def test_a_stack_is_one_in_either_order_and_on_the_table() -> None:
    objects = get_task(PLATES).objects_by_name
    stacked = Stacked(("front_plate", "back_plate"), within_m=0.015)
    assert stacked.measure(at_rest(STACK), objects).holds
    swapped = STACK | {"front_plate": STACK["back_plate"], "back_plate": STACK["front_plate"]}
    contacts = frozenset({("back_plate", "table"), ("back_plate", "front_plate")})
    assert stacked.measure(at_rest(swapped, contacts=contacts), objects).holds
    on_rack = frozenset({("front_plate", "rack"), ("back_plate", "front_plate")})
    assert not stacked.measure(at_rest(STACK, contacts=on_rack), objects).holds
    apart = frozenset({("front_plate", "table"), ("back_plate", "table")})
    assert not stacked.measure(at_rest(STACK, contacts=apart), objects).holds


def test_a_tilted_plate_is_no_stack() -> None:
    tilted = STACK["back_plate"].copy()
    tilted[:3, :3] = [[0.98, 0.0, 0.199], [0.0, 1.0, 0.0], [-0.199, 0.0, 0.98]]
    state = at_rest(STACK | {"back_plate": tilted})
    assert broken(PLATES, state) == ["back_plate_upright"]
    target = PlateOntoStack(get_task(PLATES), "back_plate", below="front_plate")
    assert target.placed(at_rest(STACK))
    assert not target.placed(state), "the expert would leave it as it is"


@pytest.mark.parametrize(
    ("apple_m", "bin_m", "holds"),
    [
        ((0.03, -0.43), (0.03, 0.45), True),
        ((0.03, 0.43), (0.03, -0.45), True),
        # Both on one side, the fruit within both arms' reach, the bin within both.
        ((0.03, -0.43), (0.03, -0.45), False),
        ((-0.05, -0.20), (0.03, 0.45), False),
        ((0.03, -0.43), (-0.05, 0.20), False),
        # Beyond any arm.
        ((0.50, -0.70), (0.03, 0.45), False),
    ],
)
def test_one_for_each_arm(
    apple_m: tuple[float, float], bin_m: tuple[float, float], holds: bool
) -> None:
    layout = {"apple": planar_pose(*apple_m, 0.0, 0.0), "bin": planar_pose(*bin_m, 0.0, 0.0)}
    condition = OneForEachArm("apple", "bin", first_margin_m=0.03, second_margin_m=0.10)
    assert condition.holds(layout, get_task(APPLE).objects_by_name) is holds


@pytest.mark.parametrize("task", NAMES)
def test_a_thousand_layouts_on_both_sides(task: str) -> None:
    sides = set()
    for seed in range(100, 1100):
        layout = get_task(task).sample_layout(seed)
        sides.add(np.sign(layout["rack" if task == PLATES else "bin"][1, 3]))
    assert sides == {-1.0, 1.0}


def test_no_gripper_opens_wide_enough_for_the_pepper() -> None:
    pepper = BellPepper()
    assert min(pepper.width_m, pepper.height_m) > MAX_GRIPPER_WIDTH_M


@pytest.mark.parametrize("side", SIDES)
def test_one_hand_alone_tilts_a_plate(station_of: StationOf, side: str) -> None:
    station = station_of(PLATES)
    station.reset(101)
    target = PlateOntoStack(station.task, "front_plate")
    motion = ArmMotion()
    others = station.desired()

    def step(X_TC: np.ndarray, width_m: float) -> None:
        pose = motion.toward(tool_pose(side, station.actual()), X_TC)
        station.step(
            Action(
                poses={**others.poses, ARM_NAMES[side]: pose},
                gripper_widths_m={**others.gripper_widths_m, GRIPPER_NAMES[side]: width_m},
            )
        )

    X_TC = target.ready(station.scene_state().poses["front_plate"])[side]
    above = X_TC.copy()
    above[2, 3] += 0.10
    for goal, width_m, num_steps in ((above, 0.036, 30), (X_TC, 0.036, 12), (X_TC, 0.0, 4)):
        for _ in range(num_steps):
            step(goal, width_m)
    assert station.scene_state().fingers_touch("front_plate", side=side)
    for _ in range(15):
        step(above, 0.0)
    tilt_deg = np.rad2deg(np.arccos(station.scene_state().poses["front_plate"][2, 2]))
    assert tilt_deg > 20.0


def attempt(station: Station, expert: Expert, seed: int) -> set[str]:
    """Run one episode under noise; the arms that were at work in it."""
    station.reset(seed)
    expert.reset()
    injectors = {
        arm: NoiseInjector(CommandNoise(), stream(seed, f"noise.{arm}"))
        for arm in station.contract.arms
    }
    arms: set[str] = set()
    while not (expert.finished and station.status().success):
        if station.time_s >= station.task.time_limit_s or station.status().failed:
            break
        action = expert.act(station.scene_state(), station.actual(), station.desired())
        arms |= set(expert.arms)
        station.step(perturbed(action, injectors, expert.arms))
    return arms


@pytest.mark.slow
@pytest.mark.parametrize("task", NAMES)
def test_experts_succeed_under_noise_with_both_arms(station_of: StationOf, task: str) -> None:
    station = station_of(task)
    arms = attempt(station, make_expert(station.task), 501)
    assert station.status().success, station.status()
    assert arms == set(ARM_NAMES.values())


def act_until(station: Station, expert: Expert, done: Callable[[], bool]) -> None:
    while not done():
        assert station.time_s < station.task.time_limit_s
        action = expert.act(station.scene_state(), station.actual(), station.desired())
        station.step(action)


def test_a_fruit_dropped_on_the_way_is_picked_up(station_of: StationOf) -> None:
    station = station_of(APPLE)
    expert = make_expert(station.task)
    assert isinstance(expert, RelayExpert)
    station.reset(101)
    expert.reset()
    start_m = station.scene_state().position_m("apple").copy()

    def travelled_m() -> float:
        return abs(float(station.scene_state().position_m("apple")[1] - start_m[1]))

    act_until(station, expert, lambda: travelled_m() > 0.15)
    for _ in range(5):
        held = station.desired()
        opened = dict.fromkeys(GRIPPER_NAMES.values(), MAX_GRIPPER_WIDTH_M)
        station.step(Action(poses=held.poses, gripper_widths_m=opened))
    assert station.scene_state().position_m("apple")[2] < 0.04
    act_until(station, expert, lambda: expert.finished and station.status().success)


def test_a_fruit_beside_the_waiting_hand_is_that_hands_to_move(station_of: StationOf) -> None:
    """Within the other arm's reach it would wait for a hand that is home and leaves no more."""
    station = station_of(APPLE)
    expert = make_expert(station.task)
    station.reset(147)
    expert.reset()
    state = station.scene_state()
    assert state.position_m("bowl")[1] < 0.0
    dropped = replace(state, poses={**state.poses, "apple": planar_pose(-0.046, -0.188, 0.0, 0.0)})
    expert.act(dropped, station.actual(), station.desired())
    assert expert.arms == (ARM_NAMES["right"],)


@pytest.mark.parametrize(("tilt_deg", "rest_m"), [(0.0, 0.0), (90.0, 0.031), (180.0, 0.056)])
def test_a_fruit_is_let_go_on_the_floor_however_it_lies(tilt_deg: float, rest_m: float) -> None:
    """rest_m: where an apple of 31 mm radius and 56 mm height has its origin then."""
    task = get_task(APPLE)
    c, s = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    apple = planar_pose(0.0, 0.0, 0.0, 0.0)
    apple[:3, :3] = [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]
    placement = FruitIntoBin(task, "apple").placement(at_rest(APPLE_IN_BIN | {"apple": apple}))
    assert placement.position_m[2] - (0.006 + rest_m) == pytest.approx(0.006, abs=1e-9)
    middle_m = placement.position_m + 0.028 * apple[:3, 2]
    np.testing.assert_allclose(middle_m[:2], [0.03 - 0.036, 0.45], atol=1e-9)
    assert placement.carry_height_m - placement.position_m[2] > 0.065


def test_hands_don_t_rise_with_a_plate_wedged_between_them(station_of: StationOf) -> None:
    """Open fingers would lift it, and drop it from there."""
    station = station_of(PLATES)
    expert = make_expert(station.task)
    station.reset(101)
    state = station.scene_state()
    beside = planar_pose(0.02, 0.0, 0.0, 0.0)
    ready = PlateOntoStack(station.task, "front_plate").ready(state.poses["front_plate"])
    poses = {
        ARM_NAMES[side]: Pose.from_matrix(beside @ X_TC @ np.linalg.inv(X_EC))
        for side, X_TC in ready.items()
    }
    actual = replace(station.actual(), poses=poses)

    def rise_m(state: SceneState) -> float:
        expert.reset()
        action = expert.act(state, actual, station.desired())
        return max(
            action.poses[arm].translation_m[2] - pose.translation_m[2]
            for arm, pose in poses.items()
        )

    wedged = replace(
        state, finger_contacts=frozenset({("right", "front_plate"), ("left", "front_plate")})
    )
    assert rise_m(state) > 0.005
    assert rise_m(wedged) < 0.001


def test_a_pepper_let_slip_is_taken_again(station_of: StationOf) -> None:
    station = station_of(PEPPER)
    expert = make_expert(station.task)
    assert isinstance(expert, TwoHandExpert)
    station.reset(100)
    expert.reset()
    act_until(station, expert, lambda: station.scene_state().position_m("pepper")[2] > 0.04)
    assert expert.phase is Phase.CARRY
    # One hand is pulled away.
    for _ in range(6):
        held = station.desired()
        outward = np.array([0.0, 0.02, 0.0])
        pose = held.poses[ARM_NAMES["left"]]
        pulled = type(pose)(rotation=pose.rotation, translation_m=pose.translation_m + outward)
        station.step(
            Action(
                poses={**held.poses, ARM_NAMES["left"]: pulled},
                gripper_widths_m=held.gripper_widths_m,
            )
        )
    assert not station.scene_state().fingers_touch("pepper", side="left")
    act_until(station, expert, lambda: expert.finished and station.status().success)
