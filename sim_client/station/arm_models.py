"""Whose Panda stands in the station: the project's own, or the one in Drake's model collection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydrake.geometry import Role, SceneGraph
from pydrake.math import RigidTransform
from pydrake.multibody.parsing import Parser
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import JointActuator, ModelInstanceIndex, RigidBody

from sim_client.station import panda_kinematics as panda
from sim_client.station.cameras import RenderQuality
from sim_client.station.panda_model import (
    FINGER_EFFORT_N,
    PandaHandles,
    add_finger_pad,
    add_panda,
    filter_own_collisions,
    hand_on_flange,
    servo_arm_joint,
    servo_finger,
)

ArmModelName = Literal["own", "drake_models"]

_ARM_URL = "package://drake_models/franka_description/urdf/panda_arm.urdf"
_HAND_URL = "package://drake_models/franka_description/urdf/hand.urdf"


class ArmModelUnavailableError(RuntimeError):
    """The arm's description is neither on this machine nor to be had; the text says what to do."""


class ArmModel(Protocol):
    def add_to(
        self,
        plant: MultibodyPlant,
        scene_graph: SceneGraph,
        *,
        name: str,
        X_TB: RigidTransform,
        quality: RenderQuality,
    ) -> PandaHandles:
        """Add one arm with its hand, its base welded at X_TB."""
        ...


@dataclass(frozen=True, kw_only=True)
class OwnArmModel:
    """Capsules for contact and light turned surfaces for looks."""

    def add_to(
        self,
        plant: MultibodyPlant,
        scene_graph: SceneGraph,
        *,
        name: str,
        X_TB: RigidTransform,
        quality: RenderQuality,
    ) -> PandaHandles:
        return add_panda(plant, scene_graph, name=name, X_TB=X_TB, quality=quality)


@dataclass(frozen=True, kw_only=True)
class DrakeArmModel:
    """The Panda of Drake's `drake_models`, with its meshes and its spheres for contact.

    Joints, servos and finger pads are those of the project's own: the same actions do the same.
    folder: where `drake_models` is unpacked; without one Drake's own cache is looked into, and on
    the first use filled from the network.
    """

    folder: Path | None = None

    def add_to(
        self,
        plant: MultibodyPlant,
        scene_graph: SceneGraph,
        *,
        name: str,
        X_TB: RigidTransform,
        quality: RenderQuality,
    ) -> PandaHandles:
        parser = Parser(plant, name)
        if self.folder is not None:
            packages = parser.package_map()
            packages.Remove("drake_models")
            packages.Add("drake_models", self.folder)
        try:
            (arm,) = parser.AddModelsFromUrl(_ARM_URL)
            (hand_instance,) = parser.AddModelsFromUrl(_HAND_URL)
        except RuntimeError as error:
            raise ArmModelUnavailableError(
                f"cannot load the arm of drake_models ({' '.join(str(error).split())[:300]}); "
                "run once with a network, so that Drake can keep a copy, or unpack "
                "https://github.com/RobotLocomotion/models and name its folder"
            ) from error
        links = [plant.GetBodyByName(f"panda_link{i}", arm) for i in range(panda.NUM_JOINTS + 1)]
        hand = plant.GetBodyByName("panda_hand", hand_instance)
        fingers = (
            plant.GetBodyByName("panda_leftfinger", hand_instance),
            plant.GetBodyByName("panda_rightfinger", hand_instance),
        )
        plant.WeldFrames(plant.world_frame(), links[0].body_frame(), X_TB)
        flange = plant.GetBodyByName("panda_link8", arm)
        plant.WeldFrames(flange.body_frame(), hand.body_frame(), hand_on_flange())
        for actuator in _actuators(plant, arm):
            servo_arm_joint(actuator, int(actuator.joint().name().removeprefix("panda_joint")) - 1)
        for actuator in _actuators(plant, hand_instance):
            actuator.set_effort_limit(FINGER_EFFORT_N)
            servo_finger(actuator)
        plant.AddCouplerConstraint(
            plant.GetJointByName("panda_finger_joint1", hand_instance),
            plant.GetJointByName("panda_finger_joint2", hand_instance),
            1.0,
        )
        plant.set_gravity_enabled(arm, False)
        plant.set_gravity_enabled(hand_instance, False)
        for finger, side, sign in zip(fingers, ("left", "right"), (1.0, -1.0), strict=True):
            _remove_contact_shapes(plant, scene_graph, finger)
            add_finger_pad(plant, finger, f"{side}_pad", sign)
        filter_own_collisions(plant, scene_graph, links, (flange, hand, *fingers))
        return PandaHandles(arm=arm, fingers=hand_instance, hand_body=hand, finger_bodies=fingers)


def _actuators(plant: MultibodyPlant, instance: ModelInstanceIndex) -> list[JointActuator]:
    # Until the plant is finished it does not list actuators by instance.
    every = [plant.get_joint_actuator(index) for index in plant.GetJointActuatorIndices()]
    return [actuator for actuator in every if actuator.model_instance() == instance]


def _remove_contact_shapes(plant: MultibodyPlant, scene_graph: SceneGraph, body: RigidBody) -> None:
    """Point contact on spheres lets go of what a pad would hold."""
    source = plant.get_source_id()
    assert source is not None
    for geometry in plant.GetCollisionGeometriesForBody(body):
        scene_graph.RemoveRole(source, geometry, Role.kProximity)


def make_arm_model(name: ArmModelName, *, folder: Path | None = None) -> ArmModel:
    return OwnArmModel() if name == "own" else DrakeArmModel(folder=folder)
