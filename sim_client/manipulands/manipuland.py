"""What an object of a task is, and the contact properties that all of them share.

Each has a smooth surface for the cameras and primitive shapes for contact. Free objects are
compliant (hydroelastic), so that a rigid finger pad meets them in a patch, not in a point:
grasps hold without tuning. Fixed ones are rigid and get a new place each episode.

A frame's origin lies at the middle of the face that the object rests on when it is upright, z up;
what rolls has it at its centre instead, and says so by `rest_height_m`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydrake.geometry import (
    AddCompliantHydroelasticProperties,
    AddContactMaterial,
    AddRigidHydroelasticProperties,
    ProximityProperties,
    Shape,
)
from pydrake.math import RigidTransform
from pydrake.multibody.plant import CoulombFriction, MultibodyPlant
from pydrake.multibody.tree import RigidBody, SpatialInertia, UnitInertia

from sim_client.drake_arrays import drake_array
from sim_client.surfaces import Surface

Array = NDArray[np.float64]
Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

# Stiffer (5e6) or less dissipative (5), a dropped box rocks for ever at the station's time step.
HYDROELASTIC_MODULUS_PA = 5e5
HUNT_CROSSLEY_DISSIPATION_S_M = 20.0
FRICTION = 0.8

CREAM: Colour = (0.97, 0.92, 0.80)
BLUE: Colour = (0.12, 0.36, 0.68)
RED: Colour = (0.86, 0.20, 0.13)
YELLOW: Colour = (0.97, 0.72, 0.10)
TEAL: Colour = (0.05, 0.42, 0.45)


class Manipuland(Protocol):
    """An object of a task: a frozen dataclass whose lengths end in `_m` and mass in `mass_kg`.

    name: also the body's. fixed: welded to the table, at a place that each episode sets.
    radius_m: of the circle about its z axis that holds its footprint.
    rest_height_m: of the origin over what it rests on, upright.
    top_m: of the face that other things stand on, over the origin.
    colour: of its largest part.
    """

    @property
    def colour(self) -> Colour: ...

    @property
    def name(self) -> str: ...

    @property
    def fixed(self) -> bool: ...

    @property
    def radius_m(self) -> float: ...

    @property
    def rest_height_m(self) -> float: ...

    @property
    def top_m(self) -> float: ...

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        """Add the body, named as the object, in a model instance of its own."""
        ...


class Resting:
    """What rests on its frame's origin, as nearly everything does."""

    @property
    def rest_height_m(self) -> float:
        return 0.0


class Standing(Resting):
    """What also can be stood on at its full height."""

    height_m: float

    @property
    def top_m(self) -> float:
        return self.height_m


@runtime_checkable
class Container(Protocol):
    """A manipuland that others can be in."""

    def contains(self, p_CO: Array) -> bool:
        """Whether a point (3,) in the container's frame is within its inner space."""
        ...


_Item = TypeVar("_Item", bound=Manipuland)


def scaled(item: _Item, *, size: float, mass: float) -> _Item:
    """The same object with every length times `size`, and its mass times `mass`."""
    assert is_dataclass(item), f"{item!r} is no dataclass"
    changes: dict[str, Any] = {}
    for each in fields(item):
        value = getattr(item, each.name)
        if each.name.endswith("_m"):
            changes[each.name] = (
                tuple(size * length for length in value)
                if isinstance(value, tuple)
                else size * value
            )
        elif each.name == "mass_kg":
            changes[each.name] = mass * value
    return replace(item, **changes)


def compliant_properties(
    *,
    resolution_hint_m: float,
    friction: float = FRICTION,
    modulus_pa: float = HYDROELASTIC_MODULUS_PA,
) -> ProximityProperties:
    """For what is grasped."""
    properties = ProximityProperties()
    AddContactMaterial(
        dissipation=HUNT_CROSSLEY_DISSIPATION_S_M,
        friction=CoulombFriction(friction, friction),
        properties=properties,
    )
    AddCompliantHydroelasticProperties(resolution_hint_m, modulus_pa, properties)
    return properties


def rigid_properties(*, resolution_hint_m: float = 0.05) -> ProximityProperties:
    """For what stays where it is."""
    properties = ProximityProperties()
    AddContactMaterial(friction=CoulombFriction(FRICTION, FRICTION), properties=properties)
    AddRigidHydroelasticProperties(resolution_hint_m, properties)
    return properties


def add_body(plant: MultibodyPlant, name: str, inertia: SpatialInertia) -> RigidBody:
    return plant.AddRigidBody(name, plant.AddModelInstance(name), inertia)


def standing_cylinder(mass_kg: float, radius_m: float, height_m: float) -> SpatialInertia:
    """Of a solid cylinder about the centre of the face that it stands on."""
    spin = UnitInertia.SolidCylinder(radius_m, height_m, drake_array([0.0, 0.0, 1.0]))
    return SpatialInertia(mass_kg, drake_array(np.zeros(3)), spin).Shift(
        drake_array([0.0, 0.0, -height_m / 2])
    )


def standing_box(mass_kg: float, size_m: tuple[float, float, float]) -> SpatialInertia:
    """Of a solid box about the centre of the face that it stands on."""
    return SpatialInertia.SolidBoxWithMass(mass_kg, *size_m).Shift(
        drake_array([0.0, 0.0, -size_m[2] / 2])
    )


def show(
    plant: MultibodyPlant, body: RigidBody, parts: Mapping[str, tuple[Surface, Colour]]
) -> None:
    """What the cameras see, by the part's name."""
    for label, (surface, colour) in parts.items():
        name = f"{body.name()}_{label}"
        plant.RegisterVisualGeometry(
            body, RigidTransform.Identity(), surface.mesh(name), name, drake_array([*colour, 1.0])
        )


def collide(
    plant: MultibodyPlant,
    body: RigidBody,
    shapes: Sequence[tuple[Shape, tuple[float, float, float]]],
    properties: ProximityProperties,
) -> None:
    """What touches: shapes with their centres in the body's frame, axes along the body's."""
    for i, (shape, centre) in enumerate(shapes):
        plant.RegisterCollisionGeometry(
            body, RigidTransform(drake_array(centre)), shape, f"{body.name()}_{i}", properties
        )
