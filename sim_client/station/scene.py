"""The station's world in Drake: table, floor, two arms, a task's objects, and their contact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from sim_client.manipulands.manipuland import Colour, Manipuland, rigid_properties
from sim_client.station.arm_models import ArmModel, OwnArmModel
from sim_client.station.cameras import POLICY_QUALITY, RenderQuality
from sim_client.station.looks import Looks
from sim_client.station.panda_kinematics import Array
from sim_client.station.panda_looks import add_visual
from sim_client.station.panda_model import PandaHandles
from sim_client.station.workspace import (
    BASE_POSITIONS_M,
    SIDES,
    TABLE_CENTRE_X_M,
    TABLE_SIZE_M,
    TIME_STEP_S,
)
from sim_client.surfaces import merged, rounded_box, rounded_cylinder

_FLOOR_Z_M = -0.75

_METAL: Colour = (0.30, 0.32, 0.35)


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """What makes a scene another one; where things stand in it does not.

    objects: the task's. distractors: others, which no task speaks of.
    table_height_m: of the table's top over the arms' bases. The task frame T is on the table, so
    all the rest of the room, arms and scene cameras, is this much lower in T.
    """

    objects: tuple[Manipuland, ...]
    distractors: tuple[Manipuland, ...] = ()
    looks: Looks = field(default_factory=Looks)
    table_height_m: float = 0.0

    @property
    def X_TR(self) -> Array:
        """The room's frame (4, 4), in which the arms' bases and the scene cameras are given."""
        X_TR = np.eye(4)
        X_TR[2, 3] = -self.table_height_m
        return X_TR


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A finished diagram and the handles into it. World and task frame T coincide.

    bodies: of the task's objects and of the distractors, by name.
    """

    spec: SceneSpec

    diagram: Diagram
    plant: MultibodyPlant
    scene_graph: SceneGraph
    arms: Mapping[str, PandaHandles]
    bodies: Mapping[str, RigidBody]
    fixed_frames: Mapping[str, FixedOffsetFrame]

    def label_names(self) -> dict[int, str]:
        """What a number in a label image stands for; 0 is the room, or nothing at all."""
        names = {0: "room"}
        names |= {int(body.index()): name for name, body in self.bodies.items()}
        for side, arm in self.arms.items():
            hand = (int(arm.hand_body.index()), *(int(b.index()) for b in arm.finger_bodies))
            names |= dict.fromkeys(
                (int(index) for index in self.plant.GetBodyIndices(arm.arm)), f"{side}::panda"
            )
            names |= dict.fromkeys(hand, f"{side}::panda_hand")
        return names


def build_scene(
    spec: SceneSpec, *, quality: RenderQuality = POLICY_QUALITY, arm_model: ArmModel | None = None
) -> Scene:
    """Build it all, but for the renderer, which is the cameras' own.

    arm_model: the project's own where None is named. Raises ArmModelUnavailableError.
    """
    builder = DiagramBuilder()
    plant, scene_graph = AddMultibodyPlantSceneGraph(builder, TIME_STEP_S)
    plant.set_contact_model(ContactModel.kHydroelasticWithFallback)
    plant.set_discrete_contact_approximation(DiscreteContactApproximation.kLagged)
    # From back to front: what was added last is drawn first, and hides the rest at no cost.
    _show_room(plant, spec)
    _add_table(plant)
    model = arm_model or OwnArmModel()
    arms = {
        side: model.add_to(
            plant,
            scene_graph,
            name=side,
            X_TB=RigidTransform(drake_array(spec.X_TR[:3, 3] + BASE_POSITIONS_M[side])),
            quality=quality,
        )
        for side in SIDES
    }
    bodies: dict[str, RigidBody] = {}
    fixed_frames: dict[str, FixedOffsetFrame] = {}
    for item in (*spec.objects, *spec.distractors):
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
        spec=spec,
        diagram=builder.Build(),
        plant=plant,
        scene_graph=scene_graph,
        arms=arms,
        bodies=bodies,
        fixed_frames=fixed_frames,
    )


def _add_table(plant: MultibodyPlant) -> None:
    x, y, _ = TABLE_SIZE_M
    plant.RegisterCollisionGeometry(
        plant.world_body(),
        # Thicker than it looks: a rigid box of 5 cm would let a hard push out at the other side.
        RigidTransform(drake_array([TABLE_CENTRE_X_M, 0.0, -0.1])),
        Box(x, y, 0.2),
        "table",
        rigid_properties(),
    )


def _show_room(plant: MultibodyPlant, spec: SceneSpec) -> None:
    """The floor, the arms' pedestals and the table."""
    x, y, _ = TABLE_SIZE_M
    top = rounded_box((x, y, 0.028), 0.006).at(TABLE_CENTRE_X_M, 0.0, -0.014)
    apron = rounded_box((x - 0.06, y - 0.06, 0.07), 0.004).at(TABLE_CENTRE_X_M, 0.0, -0.06)
    legs = [
        rounded_box((0.06, 0.06, 0.68), 0.01).at(
            TABLE_CENTRE_X_M + sx * (x / 2 - 0.08), sy * (y / 2 - 0.08), -0.40
        )
        for sx in (-1.0, 1.0)
        for sy in (-1.0, 1.0)
    ]
    pedestals = []
    for side in SIDES:
        bx, by, _ = BASE_POSITIONS_M[side]
        pedestals.append(rounded_box((0.28, 0.24, 0.03), 0.008).at(bx - 0.05, by, -0.0155))
        pedestals.append(rounded_cylinder(0.075, 0.70, 0.01).at(bx - 0.05, by, -0.38))
        pedestals.append(
            rounded_box((0.36, 0.36, 0.03), 0.01).at(bx - 0.05, by, _FLOOR_Z_M + 0.015)
        )
    floor = rounded_box((5.0, 5.0, 0.02), 0.004).at(0.0, 0.0, _FLOOR_Z_M - 0.01)
    for name, surface, colour in (
        ("floor", floor.moved(spec.X_TR), spec.looks.floor),
        ("pedestals", merged(pedestals).moved(spec.X_TR), _METAL),
        ("table_frame", merged([apron, *legs]), spec.looks.table_edge),
        ("table_top", top, spec.looks.table),
    ):
        add_visual(plant, plant.world_body(), name, surface.mesh(name), colour)
