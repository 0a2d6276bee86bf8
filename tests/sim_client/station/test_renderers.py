"""The station's own renderer shows what Drake's VTK engine shows."""

from __future__ import annotations

import numpy as np
import pytest
from pydrake.geometry import Mesh, Role

from policy_interface.contract import ImageSize
from policy_interface.types import CameraView
from sim_client.station.cameras import CAMERA_MOUNTS, PICTURE_QUALITY, RenderQuality
from sim_client.station.looks import Renderer
from sim_client.station.scene import SceneSpec, build_scene
from sim_client.station.shift import Shift
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task

# Neither square nor all alike, as some robots' cameras are.
SIZES = {
    "scene_right_0": ImageSize(height=96, width=128),
    "wrist_right_minus": ImageSize(height=96, width=128),
    "wrist_left_plus": ImageSize(height=80, width=60),
}


def seen(renderer: Renderer | None, task: str, shift: str = "") -> dict[str, CameraView]:
    station = Station(
        get_task(task),
        cameras=SIZES,
        depth=True,
        labels=True,
        renderer=renderer,
        shift=Shift.parse(shift),
    )
    station.reset(100)
    return dict(station.observe().cameras)


@pytest.mark.parametrize(
    ("task", "shift"),
    [
        ("PutMugOnSaucer", ""),
        ("BimanualStackPlatesOnTableFromDryingRack", ""),
        ("PutBananaOnSaucer", "lighting=high,textures=high,camera=high,distractors=high"),
    ],
)
def test_it_shows_what_vtk_shows(task: str, shift: str) -> None:
    ours, theirs = seen("own", task, shift), seen("vtk", task, shift)
    for name, view in theirs.items():
        # Smooth edges differ by some grey levels here and there, and nothing else does.
        difference = np.abs(ours[name].rgb.astype(int) - view.rgb)
        assert difference.mean() < 1.0
        assert (difference.max(axis=2) > 16).mean() < 0.03
        assert np.median(difference) == 0
        assert view.label is not None
        assert view.depth is not None
        alike = ours[name].label == view.label
        assert alike.mean() > 0.99
        depth, expected = (np.asarray(each.depth)[alike].astype(int) for each in (ours[name], view))
        # VTK's depth images hold steps of 8 m / 2^16, and edges fall on either side of a pixel.
        assert np.quantile(np.abs(depth - expected), 0.98) <= 3


def test_by_default_it_draws_what_it_can() -> None:
    ours, default = seen("own", "PickAndPlaceBox"), seen(None, "PickAndPlaceBox")
    for name, view in ours.items():
        np.testing.assert_array_equal(default[name].rgb, view.rgb)


@pytest.mark.slow
def test_shadows_are_vtks() -> None:
    """The station's own renderer knows none, so by default VTK draws where they are asked for."""
    size = ImageSize(height=120, width=160)
    pictures = []
    for renderer in (None, "vtk"):
        station = Station(
            get_task("PickAndPlaceBox"),
            cameras={"scene_left_0": size},
            quality=PICTURE_QUALITY,
            renderer=renderer,
        )
        station.reset(100)
        pictures.append(station.render(CAMERA_MOUNTS["scene_left_0"], size))
    np.testing.assert_array_equal(*pictures)


def test_both_in_one_process_and_in_turn() -> None:
    """Each has a context of OpenGL of its own, and neither ends the other's."""
    first = seen("own", "PickAndPlaceBox")
    own = Station(get_task("PickAndPlaceBox"), cameras=SIZES)
    own.reset(100)
    for _ in range(2):
        vtk = seen("vtk", "PickAndPlaceBox")
        for name, view in own.observe().cameras.items():
            np.testing.assert_array_equal(view.rgb, first[name].rgb)
            assert vtk[name].rgb.shape == view.rgb.shape


def _num_arm_triangles(quality: RenderQuality) -> int:
    """Of everything that is drawn of the arms."""
    inspector = build_scene(SceneSpec(objects=()), quality=quality).scene_graph.model_inspector()
    shapes = (inspector.GetShape(each) for each in inspector.GetAllGeometryIds(Role.kPerception))
    meshes = (each.source().in_memory() for each in shapes if isinstance(each, Mesh))
    return sum(mesh.mesh_file.contents().count(b"\nf ") for mesh in meshes)


def test_what_casts_shadows_has_no_holes() -> None:
    """Light leaks through them, even where nobody sees them."""
    plain, shadowed = (_num_arm_triangles(RenderQuality(shadows=each)) for each in (False, True))
    assert shadowed > 1.2 * plain
