"""The pictures that a station's cameras take: colour, and on request depth and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydrake.geometry import (
    ClippingRange,
    ColorRenderCamera,
    DepthRange,
    DepthRenderCamera,
    RenderCameraCore,
    RenderLabel,
)
from pydrake.math import RigidTransform
from pydrake.systems.framework import Context
from pydrake.systems.sensors import CameraInfo

from policy_interface.contract import ImageSize
from policy_interface.types import CameraView, Pose
from sim_client.drake_arrays import drake_array
from sim_client.station.cameras import CAMERA_MOUNTS, POLICY_QUALITY, CameraMount, RenderQuality
from sim_client.station.looks import Renderer, make_renderer
from sim_client.station.panda_kinematics import Array
from sim_client.station.scene import Scene

# The pads are nearer to the wrist cameras than 10 cm, the floor's far corner within 8 m.
_NEAR_M, _FAR_M = 0.01, 8.0
_NO_OFFSET = np.eye(4)
_RENDERER_NAME = "renderer"

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
    renderer: Renderer = "vtk"


class CameraRig:
    """Takes the pictures of one scene; plant_context: where the scene is simulated.

    It looks at a context of its own, into which it copies where everything is: a renderer in the
    simulated one would be told of every motion, ten times between two pictures.

    Raises RenderingUnavailableError.
    """

    def __init__(self, scene: Scene, plant_context: Context, options: RigOptions) -> None:
        self._scene = scene
        self._simulated = plant_context
        self._options = options
        self._root_context = scene.diagram.CreateDefaultContext()
        self._plant_context = scene.plant.GetMyMutableContextFromRoot(self._root_context)
        self._graph_context = scene.scene_graph.GetMyMutableContextFromRoot(self._root_context)
        engine = make_renderer(options.renderer, options.quality, scene.spec.looks)
        scene.scene_graph.AddRenderer(self._graph_context, _RENDERER_NAME, engine)
        self._cores = {
            name: _pinhole(size, CAMERA_MOUNTS[name].vertical_field_of_view_rad)
            for name, size in options.cameras.items()
        }

    def _look(self) -> None:
        """Put everything where it is in the simulation now."""
        plant = self._scene.plant
        for frame in self._scene.fixed_frames.values():
            pose = frame.GetPoseInParentFrame(self._simulated)
            frame.SetPoseInParentFrame(self._plant_context, pose)
        plant.SetPositions(self._plant_context, plant.GetPositions(self._simulated))

    def views(self, offsets: Mapping[str, Array]) -> dict[str, CameraView]:
        """What every camera sees.

        offsets: X_CD (4, 4) by name, from where a camera is said to be mounted to where it is;
        the pose in the view is that where it is.
        """
        self._look()
        return {
            name: self._view(CAMERA_MOUNTS[name], core, offsets.get(name, _NO_OFFSET))
            for name, core in self._cores.items()
        }

    def picture(self, mount: CameraMount, size: ImageSize) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB from a camera that is not one of the rig's own."""
        self._look()
        return self._view(mount, _pinhole(size, mount.vertical_field_of_view_rad), _NO_OFFSET).rgb

    def _view(self, mount: CameraMount, core: RenderCameraCore, X_CD: Array) -> CameraView:
        plant = self._scene.plant
        X_PD = mount.X_PC @ X_CD
        if mount.parent == "table":
            body = plant.world_body()
            X_PD = self._scene.spec.X_TR @ X_PD
        else:
            body = self._scene.arms[mount.parent].hand_body
        query: Any = self._scene.scene_graph.get_query_output_port().Eval(self._graph_context)
        where = (plant.GetBodyFrameIdOrThrow(body.index()), RigidTransform(drake_array(X_PD)))
        colour_camera = ColorRenderCamera(core, False)
        rgb = query.RenderColorImage(colour_camera, *where).data[:, :, :3]
        depth = label = None
        if self._options.depth:
            camera = DepthRenderCamera(core, DepthRange(_NEAR_M, _FAR_M))
            depth = _in_millimetres(query.RenderDepthImage(camera, *where).data[:, :, 0])
        if self._options.labels:
            label = query.RenderLabelImage(colour_camera, *where).data[:, :, 0].copy()
            label[label == int(RenderLabel.kEmpty)] = 0
        X_TP: Any = plant.EvalBodyPoseInWorld(self._plant_context, body).GetAsMatrix4()
        return CameraView(
            rgb=np.ascontiguousarray(rgb),
            intrinsics=core.intrinsics().intrinsic_matrix(),
            X_TC=Pose.from_matrix(X_TP @ X_PD),
            depth=depth,
            label=label,
        )


def _pinhole(size: ImageSize, vertical_field_of_view_rad: float) -> RenderCameraCore:
    """Square pixels, and the principal point at the image's centre."""
    info = CameraInfo(width=size.width, height=size.height, fov_y=vertical_field_of_view_rad)
    return RenderCameraCore(
        _RENDERER_NAME, info, ClippingRange(_NEAR_M, _FAR_M), RigidTransform.Identity()
    )


def _in_millimetres(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Drake says 0 and infinity where there is nothing to measure."""
    millimetres = np.rint(1000.0 * depth_m.astype(np.float64))
    return np.clip(millimetres, TOO_CLOSE_MM, TOO_FAR_MM).astype(np.uint16)
