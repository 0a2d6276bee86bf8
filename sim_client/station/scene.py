"""The station's world in Drake: table, floor, two arms, a task's objects, contact and renderer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box, SceneGraph
from pydrake.math import RigidTransform
from pydrake.multibody.plant import (
    AddMultibodyPlantSceneGraph,
    ContactModel,
    DiscreteContactApproximation,
    MultibodyPlant,
)
from pydrake.multibody.tree import FixedOffsetFrame, RigidBody
from pydrake.systems.framework import Diagram, DiagramBuilder

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import Manipuland, rigid_properties
from sim_client.station.cameras import (
    POLICY_QUALITY,
    RENDERER_NAME,
    RenderQuality,
    make_renderer,
)
from sim_client.station.panda_looks import add_visual
from sim_client.station.panda_model import PandaHandles, add_panda
from sim_client.station.workspace import (
    BASE_POSITIONS_M,
    SIDES,
    TABLE_CENTRE_X_M,
    TABLE_SIZE_M,
)
from sim_client.surfaces import merged, rounded_box, rounded_cylinder

_FLOOR_Z_M = -0.75

# 10 ms with the lagged convex approximation and hydroelastic patches: the fastest settings at which
# grasps hold; SAP diverges at this step and TAMSI ignores the joints' PD control.
TIME_STEP_S = 0.01

_TABLE = np.array([0.86, 0.80, 0.70, 1.0])
_TABLE_EDGE = np.array([0.62, 0.53, 0.42, 1.0])
_FLOOR = np.array([0.50, 0.53, 0.57, 1.0])
_METAL = np.array([0.30, 0.32, 0.35, 1.0])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A finished diagram and the handles into it. World and task frame T coincide."""

    diagram: Diagram
    plant: MultibodyPlant
    scene_graph: SceneGraph
    arms: Mapping[str, PandaHandles]
    bodies: Mapping[str, RigidBody]
    fixed_frames: Mapping[str, FixedOffsetFrame]


def build_scene(objects: tuple[Manipuland, ...], *, quality: RenderQuality | None) -> Scene:
    """Build it all; quality None leaves out the cameras' engine, which needs GL libraries."""
    builder = DiagramBuilder()
    plant, scene_graph = AddMultibodyPlantSceneGraph(builder, TIME_STEP_S)
    plant.set_contact_model(ContactModel.kHydroelasticWithFallback)
    plant.set_discrete_contact_approximation(DiscreteContactApproximation.kLagged)
    if quality is not None:
        scene_graph.AddRenderer(RENDERER_NAME, make_renderer(quality))
    _add_furniture(plant)
    arms = {
        side: add_panda(
            plant,
            scene_graph,
            name=side,
            X_TB=RigidTransform(drake_array(BASE_POSITIONS_M[side])),
            segments=(quality or POLICY_QUALITY).arm_segments,
        )
        for side in SIDES
    }
    bodies: dict[str, RigidBody] = {}
    fixed_frames: dict[str, FixedOffsetFrame] = {}
    for item in objects:
        body = item.add_to(plant)
        bodies[item.name] = body
        if item.fixed:
            # A frame whose place is a parameter of the context: welded within an episode, moved
            # between episodes.
            frame = plant.AddFrame(
                FixedOffsetFrame(
                    f"{item.name}_place",
                    plant.world_frame(),
                    RigidTransform.Identity(),
                    body.model_instance(),
                )
            )
            plant.WeldFrames(frame, body.body_frame())
            fixed_frames[item.name] = frame
    plant.Finalize()
    return Scene(
        diagram=builder.Build(),
        plant=plant,
        scene_graph=scene_graph,
        arms=arms,
        bodies=bodies,
        fixed_frames=fixed_frames,
    )


def _add_furniture(plant: MultibodyPlant) -> None:
    world = plant.world_body()
    x, y, _ = TABLE_SIZE_M
    plant.RegisterCollisionGeometry(
        world,
        # Thicker than it looks: a rigid box of 5 cm would let a hard push out at the other side.
        RigidTransform(drake_array([TABLE_CENTRE_X_M, 0.0, -0.1])),
        Box(x, y, 0.2),
        "table",
        rigid_properties(),
    )
    top = rounded_box((x, y, 0.028), 0.006).at(TABLE_CENTRE_X_M, 0.0, -0.014)
    add_visual(plant, world, "table_top", top, _TABLE)
    apron = rounded_box((x - 0.06, y - 0.06, 0.07), 0.004).at(TABLE_CENTRE_X_M, 0.0, -0.06)
    legs = [
        rounded_box((0.06, 0.06, 0.68), 0.01).at(
            TABLE_CENTRE_X_M + sx * (x / 2 - 0.08), sy * (y / 2 - 0.08), -0.40
        )
        for sx in (-1.0, 1.0)
        for sy in (-1.0, 1.0)
    ]
    add_visual(plant, world, "table_frame", merged([apron, *legs]), _TABLE_EDGE)
    pedestals = []
    for side in SIDES:
        bx, by, _ = BASE_POSITIONS_M[side]
        pedestals.append(rounded_box((0.28, 0.24, 0.03), 0.008).at(bx - 0.05, by, -0.0155))
        pedestals.append(rounded_cylinder(0.075, 0.70, 0.01).at(bx - 0.05, by, -0.38))
        pedestals.append(
            rounded_box((0.36, 0.36, 0.03), 0.01).at(bx - 0.05, by, _FLOOR_Z_M + 0.015)
        )
    add_visual(plant, world, "pedestals", merged(pedestals), _METAL)
    floor = rounded_box((5.0, 5.0, 0.02), 0.004).at(0.0, 0.0, _FLOOR_Z_M - 0.01)
    add_visual(plant, world, "floor", floor, _FLOOR)
