"""The pictures that a station's cameras take: colour, and on request depth and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydrake.systems.framework import Context
from pydrake.systems.sensors import CameraInfo

from policy_interface.contract import ImageSize
from policy_interface.types import CameraView, Pose
from sim_client.station.cameras import CAMERA_MOUNTS, POLICY_QUALITY, CameraMount, RenderQuality
from sim_client.station.drake_drawer import DrakeDrawer
from sim_client.station.looks import Renderer, make_render_engine
from sim_client.station.panda_kinematics import Array
from sim_client.station.pictures import Drawer, Picture, Shot
from sim_client.station.scene import Scene
from sim_client.station.scene_renderer import SceneRenderer

_NO_OFFSET = np.eye(4)

TOO_CLOSE_MM, TOO_FAR_MM = 0, 65535
"""A depth nearer and farther than a camera measures, as in Drake's and LBM Eval's depth images."""


@dataclass(frozen=True, kw_only=True)
class RigOptions:
    """cameras: the size of each one's image, by name; quality, renderer: how they are drawn.

    depth, labels: whether views have these images besides colour.
    """

    cameras: Mapping[str, ImageSize]
    depth: bool = False
    labels: bool = False
    quality: RenderQuality = POLICY_QUALITY
    renderer: Renderer = "own"


class CameraRig:
    """Takes the pictures of one scene; plant_context: where the scene is simulated.

    Raises RenderingUnavailableError.
    """

    def __init__(self, scene: Scene, plant_context: Context, options: RigOptions) -> None:
        self._scene = scene
        self._simulated = plant_context
        self._options = options
        self._drawer = self._make_drawer()

    def _make_drawer(self) -> Drawer:
        options = self._options
        images = {"depth": options.depth, "labels": options.labels}
        if options.renderer == "own":
            return SceneRenderer(self._scene, self._simulated, **images)
        engine = make_render_engine(options.renderer, options.quality, self._scene.spec.looks)
        return DrakeDrawer(self._scene, self._simulated, engine, **images)

    def views(self, offsets: Mapping[str, Array]) -> dict[str, CameraView]:
        """What every camera sees.

        offsets: X_CD (4, 4) by name, from where a camera is said to be mounted to where it is;
        the pose in the view is that where it is.
        """
        shots = [
            self._shot(CAMERA_MOUNTS[name], size, offsets.get(name, _NO_OFFSET))
            for name, size in self._options.cameras.items()
        ]
        return {
            name: _view(shot, picture)
            for name, shot, picture in zip(
                self._options.cameras, shots, self._drawer.draw(shots), strict=True
            )
        }

    def picture(self, mount: CameraMount, size: ImageSize) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB from a camera that is not one of the rig's own."""
        (picture,) = self._drawer.draw([self._shot(mount, size, _NO_OFFSET)])
        return picture.rgb

    def _shot(self, mount: CameraMount, size: ImageSize, X_CD: Array) -> Shot:
        X_PD = mount.X_PC @ X_CD
        if mount.parent == "table":
            X_WP = self._scene.spec.X_TR
        else:
            body = self._scene.arms[mount.parent].hand_body
            X_WP = self._scene.plant.EvalBodyPoseInWorld(self._simulated, body).GetAsMatrix4()
        return Shot(size, mount.vertical_field_of_view_rad, X_WP @ X_PD)


def _view(shot: Shot, picture: Picture) -> CameraView:
    info: Any = CameraInfo(
        width=shot.size.width, height=shot.size.height, fov_y=shot.vertical_field_of_view_rad
    )
    return CameraView(
        rgb=picture.rgb,
        intrinsics=info.intrinsic_matrix(),
        X_TC=Pose.from_matrix(shot.X_WC),
        depth=None if picture.depth_m is None else _in_millimetres(picture.depth_m),
        label=picture.label,
    )


def _in_millimetres(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Drake says 0 and infinity where there is nothing to measure."""
    millimetres = np.rint(1000.0 * depth_m.astype(np.float64))
    return np.clip(millimetres, TOO_CLOSE_MM, TOO_FAR_MM).astype(np.uint16)
