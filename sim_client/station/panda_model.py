"""The Panda as bodies, joints, actuators, collision capsules and looks in a MultibodyPlant.

Kinematics, limits and masses are the real robot's (see `panda_kinematics`; link masses from Gaz et
al., "Dynamic Identification of the Franka Emika Panda Robot", RA-L 2019). The shapes are our own
and light: capsules for contact, smooth turned surfaces for looks.

The real robot compensates gravity and tracks joint commands stiffly by itself; here gravity is off
for the arm and an implicit PD controller with the published effort limits tracks the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydrake.geometry import (
    AddContactMaterial,
    AddRigidHydroelasticProperties,
    Box,
    Capsule,
    CollisionFilterDeclaration,
    GeometryProperties,
    GeometrySet,
    ProximityProperties,
    SceneGraph,
)
from pydrake.math import RigidTransform, RollPitchYaw, RotationMatrix
from pydrake.multibody.plant import CoulombFriction, MultibodyPlant
from pydrake.multibody.tree import (
    FixedOffsetFrame,
    JointActuator,
    ModelInstanceIndex,
    PdControllerGains,
    PrismaticJoint,
    RevoluteJoint,
    RigidBody,
    SpatialInertia,
    WeldJoint,
)

from sim_client.drake_arrays import drake_array
from sim_client.station import panda_kinematics as panda
from sim_client.station import panda_looks as looks
from sim_client.station.cameras import RenderQuality

JOINT_STIFFNESS = (2000.0, 2000.0, 2000.0, 2000.0, 1000.0, 1000.0, 1000.0)
JOINT_DAMPING = (150.0, 150.0, 150.0, 150.0, 50.0, 50.0, 50.0)
REFLECTED_INERTIA = (0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05)
FINGER_STIFFNESS = 2000.0
FINGER_DAMPING = 80.0
FINGER_EFFORT_N = 30.0
"""A finger's greatest force; closing on an object saturates here, so this is the grip."""
FINGER_REFLECTED_INERTIA = 0.1
PAD_FRICTION = 1.0

# Mass (kg), centre of mass in the link's frame (m), and half axes (m) of an ellipsoid that stands
# for the link's inertia.
_LINK_INERTIA: tuple[tuple[float, tuple[float, float, float], tuple[float, float, float]], ...] = (
    (2.92, (-0.04, 0.0, 0.06), (0.12, 0.09, 0.08)),
    (4.97, (0.004, 0.002, -0.10), (0.07, 0.09, 0.14)),
    (0.65, (-0.003, -0.03, 0.003), (0.07, 0.14, 0.09)),
    (3.23, (0.03, 0.04, -0.07), (0.09, 0.09, 0.14)),
    (3.59, (-0.05, 0.10, 0.03), (0.09, 0.14, 0.09)),
    (1.23, (-0.01, 0.04, -0.10), (0.07, 0.08, 0.16)),
    (1.67, (0.06, -0.014, -0.01), (0.09, 0.07, 0.07)),
    (0.74, (0.01, 0.004, 0.06), (0.06, 0.06, 0.06)),
)
_HAND_INERTIA = (0.73, (0.0, 0.0, 0.03), (0.04, 0.10, 0.05))
_FINGER_MASS_KG = 0.05

# Capsules by link: the two ends of the axis in the link's frame (m) and the radius (m).
_Point = tuple[float, float, float]
_CAPSULES: dict[int, tuple[tuple[_Point, _Point, float], ...]] = {
    0: (((-0.08, 0.0, 0.06), (0.0, 0.0, 0.06), 0.07),),
    1: (((0.0, 0.0, -0.16), (0.0, 0.0, 0.0), 0.065), ((0.0, -0.06, 0.0), (0.0, 0.06, 0.0), 0.065)),
    2: (((0.0, 0.0, 0.0), (0.0, -0.18, 0.0), 0.065),),
    3: (
        ((0.0, 0.0, -0.12), (0.0, 0.0, -0.02), 0.062),
        ((0.08, -0.06, 0.0), (0.08, 0.06, 0.0), 0.06),
    ),
    4: (((-0.08, 0.06, 0.0), (-0.08, 0.14, 0.0), 0.06),),
    5: (
        ((0.0, 0.0, -0.24), (0.0, 0.03, -0.10), 0.055),
        ((0.0, 0.06, -0.10), (0.0, 0.04, 0.0), 0.045),
    ),
    6: (
        ((0.0, 0.0, -0.02), (0.0, 0.0, 0.02), 0.055),
        ((0.088, 0.0, 0.0), (0.088, 0.02, 0.0), 0.055),
    ),
    7: (((0.0, 0.0, 0.05), (0.0, 0.0, 0.09), 0.045),),
}
_HAND_CAPSULE: tuple[_Point, _Point, float] = ((0.0, -0.07, 0.035), (0.0, 0.07, 0.035), 0.033)

PAD_SIZE_M = (0.02, 0.012, 0.036)
FINGER_LENGTH_M = 0.0536
"""A finger's frame to its tip."""
TIP_BEYOND_TCP_M = panda.FINGER_ORIGIN_M + FINGER_LENGTH_M - panda.TCP_OFFSET_M


@dataclass(frozen=True, kw_only=True)
class PandaHandles:
    """What the station needs of one arm after it was added to the plant."""

    arm: ModelInstanceIndex
    fingers: ModelInstanceIndex
    hand_body: RigidBody
    finger_bodies: tuple[RigidBody, RigidBody]


def add_panda(
    plant: MultibodyPlant,
    scene_graph: SceneGraph,
    *,
    name: str,
    X_TB: RigidTransform,
    quality: RenderQuality,
) -> PandaHandles:
    """Add one arm with its hand, its base welded at X_TB; `quality` is for its looks."""
    arm = plant.AddModelInstance(f"{name}_panda")
    fingers = plant.AddModelInstance(f"{name}_panda_fingers")
    links = [
        plant.AddRigidBody(f"panda_link{i}", arm, _ellipsoid_inertia(*_LINK_INERTIA[i]))
        for i in range(panda.NUM_JOINTS + 1)
    ]
    plant.WeldFrames(plant.world_frame(), links[0].body_frame(), X_TB)
    for i, spec in enumerate(panda.JOINTS):
        frame = plant.AddFrame(
            FixedOffsetFrame(
                f"panda_joint{i + 1}_parent",
                links[i].body_frame(),
                RigidTransform(RollPitchYaw(spec.roll_rad, 0.0, 0.0), drake_array(spec.origin_m)),
                arm,
            )
        )
        joint = plant.AddJoint(
            RevoluteJoint(
                f"panda_joint{i + 1}",
                frame,
                links[i + 1].body_frame(),
                drake_array([0.0, 0.0, 1.0]),
                spec.lower_rad,
                spec.upper_rad,
            )
        )
        servo_arm_joint(plant.AddJointActuator(f"panda_joint{i + 1}", joint, spec.effort_nm), i)

    flange_frame = plant.AddFrame(
        FixedOffsetFrame(
            "panda_link8",
            links[7].body_frame(),
            RigidTransform(drake_array([0.0, 0.0, panda.FLANGE_OFFSET_M])),
            arm,
        )
    )
    hand = plant.AddRigidBody("panda_hand", arm, _ellipsoid_inertia(*_HAND_INERTIA))
    plant.AddJoint(WeldJoint("panda_hand_joint", flange_frame, hand.body_frame(), hand_on_flange()))
    finger_bodies = _add_fingers(plant, hand, fingers)
    plant.set_gravity_enabled(arm, False)
    plant.set_gravity_enabled(fingers, False)

    for i, capsules in _CAPSULES.items():
        for j, capsule in enumerate(capsules):
            _add_capsule(plant, links[i], f"link{i}_{j}", capsule)
    _add_capsule(plant, hand, "hand", _HAND_CAPSULE)
    looks.add_looks(plant, links, hand, finger_bodies, quality)
    filter_own_collisions(plant, scene_graph, links, (hand, *finger_bodies))
    return PandaHandles(arm=arm, fingers=fingers, hand_body=hand, finger_bodies=finger_bodies)


def hand_on_flange() -> RigidTransform:
    """X_EH of the hand's frame in `panda_link8`."""
    return RigidTransform(
        RotationMatrix.MakeZRotation(panda.HAND_YAW_RAD), drake_array(np.zeros(3))
    )


def servo_arm_joint(actuator: JointActuator, i: int) -> None:
    """Let joint i (0 to 6) track its command, as stiffly as the real robot does."""
    actuator.set_controller_gains(PdControllerGains(p=JOINT_STIFFNESS[i], d=JOINT_DAMPING[i]))
    actuator.set_default_rotor_inertia(REFLECTED_INERTIA[i])
    actuator.set_default_gear_ratio(1.0)


def servo_finger(actuator: JointActuator) -> None:
    actuator.set_controller_gains(PdControllerGains(p=FINGER_STIFFNESS, d=FINGER_DAMPING))
    actuator.set_default_rotor_inertia(FINGER_REFLECTED_INERTIA)
    actuator.set_default_gear_ratio(1.0)


def filter_own_collisions(
    plant: MultibodyPlant,
    scene_graph: SceneGraph,
    links: Sequence[RigidBody],
    hand_bodies: Sequence[RigidBody],
) -> None:
    """Let an arm touch itself only where its joints let it: the hand and forearm, the shoulder.

    Capsules of neighbouring links overlap, and those of links further apart are kept apart by the
    joints' limits.
    """

    def shapes_of(bodies: Sequence[RigidBody]) -> GeometrySet:
        shapes = GeometrySet()
        for body in bodies:
            shapes.Add(plant.GetCollisionGeometriesForBody(body))
        return shapes

    manager = scene_graph.collision_filter_manager()
    manager.Apply(CollisionFilterDeclaration().ExcludeWithin(shapes_of([*links, *hand_bodies])))
    manager.Apply(
        CollisionFilterDeclaration().AllowBetween(
            shapes_of(links[:3]), shapes_of([*links[6:], *hand_bodies])
        )
    )


def add_finger_pad(plant: MultibodyPlant, finger: RigidBody, name: str, sign: float) -> None:
    """The rigid pad that grasps; sign: of the finger's y axis along which it moves outward."""
    pad = ProximityProperties()
    AddContactMaterial(friction=CoulombFriction(PAD_FRICTION, PAD_FRICTION), properties=pad)
    AddRigidHydroelasticProperties(resolution_hint=0.01, properties=pad)
    plant.RegisterCollisionGeometry(
        finger,
        RigidTransform(
            drake_array([0.0, sign * PAD_SIZE_M[1] / 2, FINGER_LENGTH_M - PAD_SIZE_M[2] / 2])
        ),
        Box(*PAD_SIZE_M),
        name,
        pad,
    )


def _add_fingers(
    plant: MultibodyPlant, hand: RigidBody, fingers: ModelInstanceIndex
) -> tuple[RigidBody, RigidBody]:
    bodies = []
    joints = []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        body = plant.AddRigidBody(
            f"panda_{side}finger",
            fingers,
            SpatialInertia.SolidBoxWithMass(_FINGER_MASS_KG, 0.02, 0.02, FINGER_LENGTH_M),
        )
        frame = plant.AddFrame(
            FixedOffsetFrame(
                f"panda_{side}finger_parent",
                hand.body_frame(),
                RigidTransform(drake_array([0.0, 0.0, panda.FINGER_ORIGIN_M])),
                fingers,
            )
        )
        joint = plant.AddJoint(
            PrismaticJoint(
                f"panda_{side}finger_joint",
                frame,
                body.body_frame(),
                drake_array([0.0, sign, 0.0]),
                0.0,
                panda.MAX_FINGER_TRAVEL_M,
            )
        )
        servo_finger(plant.AddJointActuator(f"panda_{side}finger", joint, FINGER_EFFORT_N))
        add_finger_pad(plant, body, f"{side}_pad", sign)
        bodies.append(body)
        joints.append(joint)
    # The hand's one motor moves both fingers alike, so a grasped object cannot push them sideways.
    plant.AddCouplerConstraint(joints[0], joints[1], 1.0)
    return bodies[0], bodies[1]


def _ellipsoid_inertia(mass_kg: float, com_m: _Point, half_axes_m: _Point) -> SpatialInertia:
    about_com = SpatialInertia.SolidEllipsoidWithMass(mass_kg, *half_axes_m)
    return about_com.Shift(drake_array(-np.array(com_m)))


def _add_capsule(
    plant: MultibodyPlant, body: RigidBody, name: str, capsule: tuple[_Point, _Point, float]
) -> None:
    start, end, radius = np.array(capsule[0]), np.array(capsule[1]), capsule[2]
    axis = end - start
    length = float(np.linalg.norm(axis))
    pose = RigidTransform(
        RotationMatrix.MakeFromOneVector(drake_array(axis), 2), drake_array((start + end) / 2)
    )
    properties: GeometryProperties = ProximityProperties()
    AddContactMaterial(friction=CoulombFriction(0.4, 0.4), properties=properties)
    plant.RegisterCollisionGeometry(body, pose, Capsule(radius, length), name, properties)
