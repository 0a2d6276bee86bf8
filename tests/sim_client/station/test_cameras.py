"""What the cameras give: six views, depth, labels, and a clear word where they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from policy_interface.codec import decode_observation, encode_observation
from policy_interface.contract import ContractError, ImageSize
from policy_interface.types import CameraView, Observation
from sim_client.station.camera_rig import TOO_FAR_MM
from sim_client.station.cameras import CAMERA_MOUNTS, DEFAULT_CAMERAS
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task

SIZE = ImageSize(height=60, width=80)
# As LBM Eval's cabot station calls its cameras.
CABOT = {
    "scene_right_0",
    "scene_left_0",
    "wrist_left_minus",
    "wrist_left_plus",
    "wrist_right_minus",
    "wrist_right_plus",
}


@pytest.fixture(scope="module")
def station() -> Station:
    built = Station(
        get_task("PickAndPlaceBox"),
        cameras=dict.fromkeys(sorted(CABOT), SIZE),
        depth=True,
        labels=True,
    )
    built.reset(100)
    return built


@pytest.fixture(scope="module")
def observation(station: Station) -> Observation:
    return station.observe()


def test_six_cameras_have_lbm_evals_names(observation: Observation) -> None:
    assert set(observation.cameras) == CABOT == set(CAMERA_MOUNTS)
    assert len(DEFAULT_CAMERAS) == 4
    images = [view.rgb for view in observation.cameras.values()]
    assert all(image.shape == (60, 80, 3) for image in images)
    for i, image in enumerate(images):
        assert image.std() > 5.0, "there is something to see"
        assert not any(np.array_equal(image, other) for other in images[:i])


def test_a_hands_two_cameras_look_from_both_sides(observation: Observation) -> None:
    for side, names in (
        ("right", ("wrist_right_minus", "wrist_right_plus")),
        ("left", ("wrist_left_minus", "wrist_left_plus")),
    ):
        one, other = (observation.cameras[name].X_TC for name in names)
        hand = observation.actual.poses[f"{side}::panda"].translation_m
        middle = (one.translation_m + other.translation_m) / 2
        np.testing.assert_allclose(middle[:2], hand[:2], atol=0.01)
        assert np.linalg.norm(one.translation_m - other.translation_m) == pytest.approx(0.144)


def _pixel(view: CameraView, p_TO: np.ndarray) -> tuple[int, int, float]:
    """Column, row and depth (m) of a point."""
    p_CO = (view.X_TC.inverse().matrix() @ [*p_TO, 1.0])[:3]
    u, v = (view.intrinsics @ p_CO / p_CO[2])[:2].round().astype(int)
    return int(u), int(v), float(p_CO[2])


def test_depth_is_in_millimetres_along_the_optical_axis(
    station: Station, observation: Observation
) -> None:
    view = observation.cameras["scene_right_0"]
    assert view.depth is not None
    box = station.scene_state().poses["box"]
    u, v, depth_m = _pixel(view, box[:3, 3] + box[:3, 2] * 0.05)
    assert view.depth[v, u] == pytest.approx(1000.0 * depth_m, abs=25.0)


def test_depth_says_where_there_is_nothing() -> None:
    sky = Station(
        get_task("PickAndPlaceBox"), cameras={"scene_right_0": ImageSize(height=90, width=120)},
        depth=True,
    )  # fmt: skip
    sky.reset(100)
    view = sky.observe().cameras["scene_right_0"]
    assert view.depth is not None
    assert (view.depth == TOO_FAR_MM).any(), "the background behind the arms"
    assert view.depth[view.depth < TOO_FAR_MM].max() < 8000


def test_labels_tell_things_apart(station: Station, observation: Observation) -> None:
    view = observation.cameras["scene_right_0"]
    assert view.label is not None
    names = station.label_names()
    box = station.scene_state().poses["box"]
    u, v, _ = _pixel(view, box[:3, 3] + box[:3, 2] * 0.025)
    assert names[int(view.label[v, u])] == "box"
    seen = {names[int(label)] for label in np.unique(view.label)}
    assert {"room", "box", "bin", "right::panda"} <= seen
    # No pixel keeps Drake's own value for "nothing here"; LBM Eval says 0.
    assert view.label.max() < len(names)


def test_depth_and_labels_travel_on_lbm_evals_wire(observation: Observation) -> None:
    received = decode_observation(encode_observation(observation))
    for name, view in observation.cameras.items():
        np.testing.assert_array_equal(received.cameras[name].depth, view.depth)
        np.testing.assert_array_equal(received.cameras[name].label, view.label)


def test_without_the_options_there_is_colour_alone() -> None:
    plain = Station(get_task("PickAndPlaceBox"), cameras={"scene_left_0": SIZE})
    plain.reset(100)
    view = plain.observe().cameras["scene_left_0"]
    assert view.depth is None
    assert view.label is None


def test_gl_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(RenderingUnavailableError, match="DISPLAY is not set; use renderer 'vtk'"):
        Station(get_task("PickAndPlaceBox"), cameras={"scene_left_0": SIZE}, renderer="gl")


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(ContractError, match="scene_top"):
        Station(get_task("PickAndPlaceBox"), cameras={"scene_top": SIZE})
