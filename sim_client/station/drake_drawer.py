"""Pictures of the scene by one of Drake's own render engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydrake.geometry import (
    ClippingRange,
    ColorRenderCamera,
    DepthRange,
    DepthRenderCamera,
    RenderCameraCore,
    RenderEngine,
    RenderLabel,
)
from pydrake.math import RigidTransform
from pydrake.systems.framework import Context
from pydrake.systems.sensors import CameraInfo

from sim_client.drake_arrays import drake_array
from sim_client.station.pictures import FAR_M, NEAR_M, Picture, Shot
from sim_client.station.scene import Scene

_RENDERER_NAME = "renderer"


class DrakeDrawer:
    """Draws one scene; plant_context: where that is simulated.

    It looks at a context of its own, into which it copies where everything is: a renderer in the
    simulated one would be told of every motion, ten times between two pictures.
    """

    def __init__(
        self,
        scene: Scene,
        plant_context: Context,
        engine: RenderEngine,
        *,
        depth: bool,
        labels: bool,
    ) -> None:
        self._scene = scene
        self._simulated = plant_context
        self._depth, self._labels = depth, labels
        self._root_context = scene.diagram.CreateDefaultContext()
        self._plant_context = scene.plant.GetMyMutableContextFromRoot(self._root_context)
        self._graph_context = scene.scene_graph.GetMyMutableContextFromRoot(self._root_context)
        scene.scene_graph.AddRenderer(self._graph_context, _RENDERER_NAME, engine)

    def draw(self, shots: Sequence[Shot]) -> list[Picture]:
        plant = self._scene.plant
        for frame in self._scene.fixed_frames.values():
            pose = frame.GetPoseInParentFrame(self._simulated)
            frame.SetPoseInParentFrame(self._plant_context, pose)
        plant.SetPositions(self._plant_context, plant.GetPositions(self._simulated))
        query: Any = self._scene.scene_graph.get_query_output_port().Eval(self._graph_context)
        return [self._picture(query, shot) for shot in shots]

    def _picture(self, query: Any, shot: Shot) -> Picture:
        info = CameraInfo(
            width=shot.size.width, height=shot.size.height, fov_y=shot.vertical_field_of_view_rad
        )
        core = RenderCameraCore(
            _RENDERER_NAME, info, ClippingRange(NEAR_M, FAR_M), RigidTransform.Identity()
        )
        where = (self._scene.scene_graph.world_frame_id(), RigidTransform(drake_array(shot.X_WC)))
        colour_camera = ColorRenderCamera(core, False)
        rgb = np.ascontiguousarray(query.RenderColorImage(colour_camera, *where).data[:, :, :3])
        depth_m = label = None
        if self._depth:
            camera = DepthRenderCamera(core, DepthRange(NEAR_M, FAR_M))
            depth_m = query.RenderDepthImage(camera, *where).data[:, :, 0].copy()
        if self._labels:
            label = query.RenderLabelImage(colour_camera, *where).data[:, :, 0].copy()
            label[label == int(RenderLabel.kEmpty)] = 0
        return Picture(rgb, depth_m, label)
