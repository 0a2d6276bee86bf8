"""Fruit that stands: an apple and a pear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    Array,
    Colour,
    Standing,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import Surface, lathe, tube

APPLE_RED: Colour = (0.74, 0.10, 0.12)
PEAR_GREEN: Colour = (0.72, 0.78, 0.22)
STEM_BROWN: Colour = (0.34, 0.23, 0.12)


@dataclass(frozen=True, kw_only=True)
class Apple(Standing):
    """Round to look at; an upright cylinder to touch, so that it stays where it is put."""

    name: str = "apple"
    fixed: bool = False
    radius_m: float = 0.031
    height_m: float = 0.056
    mass_kg: float = 0.15
    colour: Colour = APPLE_RED

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
        collide(
            plant,
            body,
            [(Cylinder(r, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.035),
        )
        # Widest above the middle, with a dimple at the stem and a smaller one below.
        profile = np.array(
            [
                (0.00, 0.07),
                (0.16, 0.04),
                (0.34, 0.00),
                (0.56, 0.03),
                (0.75, 0.12),
                (0.90, 0.28),
                (0.98, 0.45),
                (1.00, 0.60),
                (0.96, 0.75),
                (0.86, 0.88),
                (0.70, 0.97),
                (0.52, 1.00),
                (0.34, 0.98),
                (0.18, 0.92),
                (0.07, 0.87),
                (0.00, 0.86),
            ]
        )
        flesh = _turned(profile, r, h)
        stem = _stem(0.85 * h, 1.12 * h, lean_m=0.006)
        show(plant, body, {"flesh": (flesh, self.colour), "stem": (stem, STEM_BROWN)})
        return body


@dataclass(frozen=True, kw_only=True)
class Pear(Standing):
    """Squat; two upright cylinders to touch, so that it stays where it is put."""

    name: str = "pear"
    fixed: bool = False
    radius_m: float = 0.030
    height_m: float = 0.072
    belly_height_m: float = 0.050
    neck_radius_m: float = 0.017
    mass_kg: float = 0.16
    colour: Colour = PEAR_GREEN

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, belly, h = self.radius_m, self.belly_height_m, self.height_m
        neck = h - belly
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, belly))
        collide(
            plant,
            body,
            [
                (Cylinder(r, belly), (0.0, 0.0, belly / 2)),
                (Cylinder(self.neck_radius_m, neck), (0.0, 0.0, belly + neck / 2)),
            ],
            compliant_properties(resolution_hint_m=0.035),
        )
        profile = np.array(
            [
                (0.00, 0.03),
                (0.20, 0.00),
                (0.48, 0.01),
                (0.72, 0.07),
                (0.90, 0.17),
                (1.00, 0.32),
                (0.99, 0.44),
                (0.91, 0.56),
                (0.78, 0.67),
                (0.65, 0.77),
                (0.56, 0.86),
                (0.46, 0.94),
                (0.32, 0.99),
                (0.14, 1.00),
                (0.00, 0.985),
            ]
        )
        flesh = _turned(profile, r, h)
        stem = _stem(0.97 * h, 1.16 * h, lean_m=0.007)
        show(plant, body, {"flesh": (flesh, self.colour), "stem": (stem, STEM_BROWN)})
        return body


def _turned(profile: Array, radius_m: float, height_m: float) -> Surface:
    """A turned surface of a profile (N, 2) whose radii and heights are shares."""
    scale = np.array([radius_m, height_m])
    return lathe([(float(x), float(z)) for x, z in profile * scale], segments=40)


def _stem(bottom_m: float, top_m: float, *, lean_m: float) -> Surface:
    share = np.array([0.0, 0.25, 0.5, 0.75, 0.95, 1.0, 1.0001])
    path = np.column_stack(
        [lean_m * share**2, np.zeros_like(share), bottom_m + (top_m - bottom_m) * share]
    )
    # A little thicker at its end, which is closed.
    radii = 0.001 * np.array([1.5, 1.5, 1.5, 1.6, 1.9, 1.7, 0.0])
    return tube(path, radii, segments=8)
