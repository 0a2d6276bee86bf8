"""The things that tasks are about: a box, a bin, a mug, a saucer.

Each has a smooth surface for the cameras and primitive shapes for contact. Free objects are
compliant (hydroelastic), so that a rigid finger pad meets them in a patch, not in a point:
grasps hold without tuning. Fixed ones are rigid and get a new place each episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydrake.geometry import (
    AddCompliantHydroelasticProperties,
    AddContactMaterial,
    AddRigidHydroelasticProperties,
    Box,
    Cylinder,
    ProximityProperties,
    Shape,
)
from pydrake.math import RigidTransform
from pydrake.multibody.plant import CoulombFriction, MultibodyPlant
from pydrake.multibody.tree import RigidBody, SpatialInertia, UnitInertia

from sim_client.drake_arrays import drake_array
from sim_client.surfaces import Surface, lathe, merged, rounded_box, tube

# Stiffer (5e6) or less dissipative (5), a dropped box rocks for ever at the station's time step.
HYDROELASTIC_MODULUS_PA = 5e5
HUNT_CROSSLEY_DISSIPATION_S_M = 20.0
FRICTION = 0.8

_RED = np.array([0.86, 0.20, 0.13, 1.0])
_CREAM = np.array([0.97, 0.92, 0.80, 1.0])
_BLUE = np.array([0.12, 0.36, 0.68, 1.0])
_YELLOW = np.array([0.97, 0.72, 0.10, 1.0])
_TEAL = np.array([0.05, 0.42, 0.45, 1.0])


class Manipuland(Protocol):
    """An object of a task. `fixed`: welded to the table, at a place that each episode sets."""

    @property
    def name(self) -> str: ...

    @property
    def fixed(self) -> bool: ...

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        """Add the body, named as the object, in a model instance of its own."""
        ...


def compliant_properties(*, resolution_hint_m: float) -> ProximityProperties:
    properties = ProximityProperties()
    AddContactMaterial(
        dissipation=HUNT_CROSSLEY_DISSIPATION_S_M,
        friction=CoulombFriction(FRICTION, FRICTION),
        properties=properties,
    )
    AddCompliantHydroelasticProperties(resolution_hint_m, HYDROELASTIC_MODULUS_PA, properties)
    return properties


def rigid_properties() -> ProximityProperties:
    properties = ProximityProperties()
    AddContactMaterial(friction=CoulombFriction(FRICTION, FRICTION), properties=properties)
    AddRigidHydroelasticProperties(0.05, properties)
    return properties


def _add_body(plant: MultibodyPlant, name: str, inertia: SpatialInertia) -> RigidBody:
    return plant.AddRigidBody(name, plant.AddModelInstance(name), inertia)


def _standing_cylinder(mass_kg: float, radius_m: float, height_m: float) -> SpatialInertia:
    """Of a solid cylinder about the centre of the face that it stands on."""
    spin = UnitInertia.SolidCylinder(radius_m, height_m, drake_array([0.0, 0.0, 1.0]))
    return SpatialInertia(mass_kg, drake_array(np.zeros(3)), spin).Shift(
        drake_array([0.0, 0.0, -height_m / 2])
    )


def _show(
    plant: MultibodyPlant, body: RigidBody, parts: dict[str, tuple[Surface, np.ndarray]]
) -> None:
    for label, (surface, colour) in parts.items():
        name = f"{body.name()}_{label}"
        plant.RegisterVisualGeometry(
            body, RigidTransform.Identity(), surface.mesh(name), name, drake_array(colour)
        )


def _collide(
    plant: MultibodyPlant,
    body: RigidBody,
    shapes: Sequence[tuple[Shape, tuple[float, float, float]]],
    properties: ProximityProperties,
) -> None:
    for i, (shape, centre) in enumerate(shapes):
        plant.RegisterCollisionGeometry(
            body, RigidTransform(drake_array(centre)), shape, f"{body.name()}_{i}", properties
        )


@dataclass(frozen=True, kw_only=True)
class BoxManipuland:
    """A parcel; its frame is at its centre. The y side is the one that fits the gripper."""

    name: str = "box"
    fixed: bool = False
    size_m: tuple[float, float, float] = (0.070, 0.045, 0.050)
    mass_kg: float = 0.15

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        x, y, z = self.size_m
        body = _add_body(plant, self.name, SpatialInertia.SolidBoxWithMass(self.mass_kg, x, y, z))
        _collide(
            plant,
            body,
            [(Box(x, y, z), (0.0, 0.0, 0.0))],
            compliant_properties(resolution_hint_m=0.03),
        )
        band = rounded_box((0.016, y + 0.0008, z + 0.0008), 0.0045)
        _show(
            plant,
            body,
            {"sides": (rounded_box(self.size_m, 0.004), _RED), "band": (band, _CREAM)},
        )
        return body


@dataclass(frozen=True, kw_only=True)
class BinManipuland:
    """An open square bin; its frame is on the table, at the middle of its floor."""

    name: str = "bin"
    fixed: bool = True
    inner_m: float = 0.16
    height_m: float = 0.065
    wall_m: float = 0.008
    floor_m: float = 0.006

    @property
    def outer_m(self) -> float:
        return self.inner_m + 2 * self.wall_m

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        outer = self.outer_m
        body = _add_body(
            plant,
            self.name,
            SpatialInertia.SolidBoxWithMass(0.5, outer, outer, self.height_m),
        )
        reach = (self.inner_m + self.wall_m) / 2
        middle = self.height_m / 2
        shapes: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [
            ((outer, outer, self.floor_m), (0.0, 0.0, self.floor_m / 2)),
            ((self.wall_m, outer, self.height_m), (reach, 0.0, middle)),
            ((self.wall_m, outer, self.height_m), (-reach, 0.0, middle)),
            ((outer, self.wall_m, self.height_m), (0.0, reach, middle)),
            ((outer, self.wall_m, self.height_m), (0.0, -reach, middle)),
        ]
        _collide(plant, body, [(Box(*size), at) for size, at in shapes], rigid_properties())
        walls = merged([rounded_box(size, 0.0028).at(*at) for size, at in shapes])
        _show(plant, body, {"walls": (walls, _BLUE)})
        return body


@dataclass(frozen=True, kw_only=True)
class MugManipuland:
    """A mug that stands on its frame's origin; the handle points along x."""

    name: str = "mug"
    fixed: bool = False
    radius_m: float = 0.029
    height_m: float = 0.076
    wall_m: float = 0.0035
    handle_reach_m: float = 0.024
    mass_kg: float = 0.18

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = _add_body(plant, self.name, _standing_cylinder(self.mass_kg, r, h))
        handle_size = (self.handle_reach_m, 0.009, 0.044)
        _collide(
            plant,
            body,
            [
                (Cylinder(r, h), (0.0, 0.0, h / 2)),
                (Box(*handle_size), (r + self.handle_reach_m / 2 - 0.001, 0.0, h / 2)),
            ],
            compliant_properties(resolution_hint_m=0.02),
        )
        inner = r - self.wall_m
        outside = lathe(
            [
                (0.0, 0.0),
                (r - 0.004, 0.0),
                (r - 0.001, 0.0015),
                (r, 0.005),
                (r, h - 0.002),
                (r - 0.0008, h - 0.0004),
                (r - self.wall_m / 2, h),
                (inner + 0.0008, h - 0.0004),
                (inner, h - 0.002),
            ]
        )
        inside = lathe([(inner, h - 0.002), (inner, 0.010), (inner - 0.005, 0.005), (0.0, 0.005)])
        angles = np.linspace(-np.pi / 2, np.pi / 2, 24)
        path = np.column_stack(
            [
                r - 0.003 + (self.handle_reach_m + 0.001) * np.cos(angles),
                np.zeros_like(angles),
                h / 2 + 0.021 * np.sin(angles),
            ]
        )
        _show(
            plant,
            body,
            {
                "outside": (merged([outside, tube(path, 0.0045)]), _YELLOW),
                "inside": (inside, _CREAM),
            },
        )
        return body


@dataclass(frozen=True, kw_only=True)
class SaucerManipuland:
    """A flat saucer that lies on its frame's origin."""

    name: str = "saucer"
    fixed: bool = False
    radius_m: float = 0.070
    foot_radius_m: float = 0.050
    height_m: float = 0.012
    mass_kg: float = 0.25

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = _add_body(plant, self.name, _standing_cylinder(self.mass_kg, r, h))
        _collide(
            plant,
            body,
            [(Cylinder(r, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.03),
        )
        plate = lathe(
            [
                (0.0, 0.0),
                (self.foot_radius_m, 0.0),
                (r - 0.004, h - 0.005),
                (r, h - 0.001),
                (r - 0.001, h),
                (r - 0.003, h),
                (0.048, h - 0.003),
                (0.034, h - 0.003),
                (0.033, h - 0.0002),
                (0.0, h - 0.0002),
            ],
            segments=64,
        )
        ring = lathe(
            [(r - 0.010, h + 0.0002), (r - 0.0115, h + 0.0004), (r - 0.013, h + 0.0002)],
            segments=64,
        )
        _show(plant, body, {"plate": (plate, _TEAL), "ring": (ring, _CREAM)})
        return body
