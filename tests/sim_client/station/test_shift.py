"""Distribution shift: its text, what it changes, and what it leaves bit for bit as it was."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.contract import ContractError, ImageSize
from policy_interface.types import Action
from sim_client.station.cameras import CAMERA_MOUNTS
from sim_client.station.distractors import place_distractors
from sim_client.station.shift import LEVELS, SPLITS, Shift, ShiftError
from sim_client.station.shift_draws import draw_episode
from sim_client.station.station import Station
from sim_client.station.wider_placement import num_arms_reaching
from sim_client.station.workspace import TABLE_CENTRE_X_M, TABLE_SIZE_M
from sim_client.tasks.catalog import TASKS, get_task
from sim_client.tasks.task import Task

NAMES = [each.name for each in fields(Shift)]
SIZE = ImageSize(height=48, width=64)
CAMERAS = {"scene_right_0": SIZE, "wrist_right_minus": SIZE}

shifts = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(LEVELS)).map(
    lambda levels: Shift(**levels)
)


@given(shifts)
def test_text_and_levels_are_read_back(shift: Shift) -> None:
    assert Shift.parse(str(shift)) == shift
    assert Shift.from_levels(shift.levels()) == shift


def test_the_canonical_text_has_one_order_and_what_is_enabled_alone() -> None:
    assert str(Shift.parse(" camera = medium , lighting=high,mass=disabled")) == (
        "lighting=high,camera=medium"
    )
    assert str(Shift.parse("")) == ""


def test_a_split_is_a_combination_by_name() -> None:
    shift = Shift.parse("unseen-looks,action_delay=low")
    assert shift.lighting == SPLITS["unseen-looks"].lighting == "high"
    assert shift.action_delay == "low"
    assert all(Shift.parse(str(split)) == split for split in SPLITS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lihgting=high", "did you mean 'lighting'"),
        ("unseen-look", "did you mean 'unseen-looks'"),
        ("lighting=hihg", "did you mean 'high'"),
        ("lighting", "expected NAME=LEVEL"),
        ("lighting=high,lighting=low", "lighting is given twice"),
        ("unseen-looks,camera=low", "camera is given twice"),
    ],
)
def test_what_is_no_shift_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(ShiftError, match=message):
        Shift.parse(text)


@pytest.fixture(scope="module")
def nominal() -> Station:
    return Station(get_task("PutMugOnSaucer"), cameras=CAMERAS)


def shifted(text: str) -> Station:
    return Station(get_task("PutMugOnSaucer"), cameras=CAMERAS, shift=Shift.parse(text))


def test_disabled_is_the_nominal_station_bit_for_bit(nominal: Station) -> None:
    station = shifted("")
    for seed in (100, 101):
        for each in (nominal, station):
            each.reset(seed)
        assert station.state_digest() == nominal.state_digest()
        one, other = station.observe(), nominal.observe()
        for name in CAMERAS:
            np.testing.assert_array_equal(one.cameras[name].rgb, other.cameras[name].rgb)
        assert station.instruction == nominal.instruction
        assert station.episode_task is station.task


@pytest.mark.parametrize("name", ["lighting", "textures", "camera", "observation_noise"])
def test_looks_change_the_images_and_not_the_world(nominal: Station, name: str) -> None:
    station = shifted(f"{name}=high")
    for each in (nominal, station):
        each.reset(100)
        for _ in range(3):
            each.step(holding(each))
    assert station.state_digest() == nominal.state_digest()
    once, again = station.observe(), station.observe()
    for camera in CAMERAS:
        image = once.cameras[camera].rgb
        np.testing.assert_array_equal(image, again.cameras[camera].rgb)
        nominal_image = nominal.observe().cameras[camera].rgb
        assert np.abs(image.astype(float) - nominal_image).mean() > 1.0


def holding(station: Station) -> Action:
    desired = station.desired()
    return Action(poses=desired.poses, gripper_widths_m=desired.gripper_widths_m)


def test_a_moved_camera_says_where_it_is(nominal: Station) -> None:
    station = shifted("camera=high")
    for each in (nominal, station):
        each.reset(100)
    for name in CAMERAS:
        X_TC = nominal.observe().cameras[name].X_TC
        X_TD = station.observe().cameras[name].X_TC
        offset_m = np.linalg.norm(X_TD.translation_m - X_TC.translation_m)
        assert 1e-4 < offset_m < 0.11


def test_objects_of_another_size_and_mass_are_judged_by_their_own_measures() -> None:
    station = Station(
        get_task("PutMugOnSaucer"), cameras={}, shift=Shift(object_size="high", mass="high")
    )
    nominal = station.task.objects_by_name
    sizes = set()
    for seed in range(100, 104):
        station.reset(seed)
        drawn = station.episode_task.objects_by_name
        size = drawn["mug"].radius_m / nominal["mug"].radius_m
        assert 0.82 <= size <= 1.10
        # One factor for all, so that what fitted still fits.
        assert drawn["saucer"].top_m == pytest.approx(size * nominal["saucer"].top_m)
        sizes.add(size)
        mass_kg = station.world.scene.bodies["mug"].get_mass(station.world.plant_context)
        assert mass_kg == pytest.approx(drawn["mug"].mass_kg)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(sizes) == 4


def test_the_table_is_raised_under_the_objects_and_not_under_the_arms(nominal: Station) -> None:
    station = shifted("table_height=high")
    for seed in (100, 101):
        for each in (nominal, station):
            each.reset(seed)
        raised_m = station.world.spec.table_height_m
        assert 0.0 < abs(raised_m) <= 0.05
        for arm, pose in station.actual().poses.items():
            lower = nominal.actual().poses[arm].translation_m - [0.0, 0.0, raised_m]
            np.testing.assert_allclose(pose.translation_m, lower, atol=1e-4)
        mug = station.scene_state().poses["mug"]
        np.testing.assert_allclose(mug, nominal.scene_state().poses["mug"], atol=1e-6)
        scene = station.observe().cameras["scene_right_0"].X_TC.translation_m
        expected = CAMERA_MOUNTS["scene_right_0"].X_PC[:3, 3] - [0.0, 0.0, raised_m]
        np.testing.assert_allclose(scene, expected, atol=1e-9)


def test_distractors_stand_apart_and_stay_where_they_are() -> None:
    station = Station(get_task("PutMugOnSaucer"), cameras={}, shift=Shift(distractors="high"))
    for seed in range(100, 103):
        station.reset(seed)
        state = station.scene_state()
        assert set(state.poses) == {"mug", "saucer"}
        distractors = {f"distractor_{i}" for i in range(4)}
        touched = {pair for pair in state.contacts if distractors & set(pair)}
        assert touched == {(name, "table") for name in distractors}


@pytest.mark.parametrize("task", list(TASKS.values()), ids=list(TASKS))
def test_every_task_has_room_for_every_shift(task: Task) -> None:
    """Layouts alone: with wider ranges, other sizes and all distractors, for many seeds."""
    shift = Shift(placement="high", object_size="high", distractors="high")
    centre = np.array([TABLE_CENTRE_X_M, 0.0])
    half = np.array(TABLE_SIZE_M[:2]) / 2
    for seed in range(100_000_100, 100_000_140):
        episode = draw_episode(task, shift, seed, cameras=())
        layout = episode.task.sample_layout(seed)
        others = place_distractors(episode.distractors, episode.task, layout, seed=seed, attempt=0)
        for name, X_TO in {**layout, **others}.items():
            assert (np.abs(X_TO[:2, 3] - centre) < half).all(), name
            if name in task.placements and task.placements[name].on is None:
                nominal = task.sample_layout(seed)[name]
                assert num_arms_reaching(X_TO[:2, 3]) >= min(
                    1, num_arms_reaching(nominal[:2, 3])
                ), name


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_begins_under_every_shift_of_its_scene(name: str) -> None:
    shift = Shift(
        placement="high", object_size="high", mass="high", distractors="high", table_height="high"
    )
    station = Station(get_task(name), cameras={}, shift=shift)
    station.reset(100_000_100)
    assert not station.status().success
    assert not station.status().failed


def test_wider_ranges_hold_the_nominal_ones() -> None:
    task = get_task("PickAndPlaceBox")
    wide = draw_episode(task, Shift(placement="medium"), 0, cameras=()).task
    for name, place in task.placements.items():
        for field in ("x_m", "y_m", "yaw_rad"):
            lower, upper = getattr(place, field)
            wide_lower, wide_upper = getattr(wide.placements[name], field)
            assert wide_lower <= lower <= upper <= wide_upper
    assert wide.placements["box"].y_m == pytest.approx((-0.385, -0.115))


def test_phrasings_are_the_held_out_ones_in_so_many_episodes() -> None:
    task = get_task("PutMugOnSaucer")
    for level, least, most in (("low", 20, 47), ("medium", 53, 80), ("high", 100, 100)):
        shift = Shift.parse(f"phrasing={level}")
        drawn = [draw_episode(task, shift, seed, cameras=()).instruction for seed in range(100)]
        num_held_out = sum(text in task.held_out_instructions for text in drawn)
        assert least <= num_held_out <= most
        assert set(drawn) <= {*task.instructions, *task.held_out_instructions}


def test_a_task_without_held_out_phrasings_is_refused() -> None:
    task = replace(get_task("PutMugOnSaucer"), held_out_instructions=())
    with pytest.raises(ContractError, match="no held-out instructions"):
        Station(task, cameras={}, shift=Shift(phrasing="low"))


def test_one_shift_does_not_move_anothers_draw() -> None:
    task = get_task("PutMugOnSaucer")
    both = draw_episode(task, Shift(lighting="high", textures="high"), 7, cameras=("scene_left_0",))
    one = draw_episode(task, Shift(lighting="high"), 7, cameras=())
    assert both.scene.looks.lighting == one.scene.looks.lighting
    assert both.scene.looks.table != one.scene.looks.table
    assert draw_episode(task, Shift(lighting="high"), 8, cameras=()).scene.looks != one.scene.looks
