"""A bell pepper, wider every way than a gripper opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
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
    standing_box,
)
from sim_client.surfaces import Surface, tube

PEPPER_RED: Colour = (0.80, 0.07, 0.07)
STALK_GREEN: Colour = (0.24, 0.46, 0.15)

# Thick things are soft at a given modulus: fingers would sink in deep before they hold.
_MODULUS_PA = 1e6
_NUM_LOBES = 4
_GROOVE = 0.20
"""How much nearer to the axis a groove is than the lobes beside it, as a share."""


@dataclass(frozen=True, kw_only=True)
class BellPepper(Standing):
    """Four lobes around a stub of a stalk; a block with flat sides to touch.

    The stub is for looks alone, so that nothing can be lifted by it.
    """

    name: str = "pepper"
    fixed: bool = False
    width_m: float = 0.100
    height_m: float = 0.086
    mass_kg: float = 0.20
    colour: Colour = PEPPER_RED

    @property
    def radius_m(self) -> float:
        return float(self.width_m / np.sqrt(2.0))

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        w, h = self.width_m, self.height_m
        body = add_body(plant, self.name, standing_box(self.mass_kg, (w, w, h)))
        collide(
            plant,
            body,
            [(Box(w, w, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.04, modulus_pa=_MODULUS_PA),
        )
        share = np.array([0.0, 0.25, 0.5, 0.75, 0.94, 1.0, 1.0001])
        stalk_path = np.column_stack(
            [0.004 * share**2, np.zeros_like(share), h * (0.88 + 0.19 * share)]
        )
        # Thicker at the flesh, closed at the cut.
        stalk_radii = 0.001 * np.array([9.0, 6.5, 5.6, 5.5, 5.9, 5.4, 0.0])
        show(
            plant,
            body,
            {
                "flesh": (_flesh(w / 2, h), self.colour),
                "stalk": (tube(stalk_path, stalk_radii, segments=12), STALK_GREEN),
            },
        )
        return body


def _flesh(half_width_m: float, height_m: float) -> Surface:
    """Lobes along the axes, blunt at both ends, with a dip around the stalk."""
    # Radius and height as shares, from the middle of the bottom to the middle of the dip.
    profile = np.array(
        [
            (0.00, 0.060),
            (0.15, 0.035),
            (0.35, 0.000),
            (0.56, 0.012),
            (0.73, 0.060),
            (0.84, 0.140),
            (0.91, 0.260),
            (0.96, 0.420),
            (1.00, 0.600),
            (1.00, 0.720),
            (0.96, 0.840),
            (0.86, 0.930),
            (0.70, 0.985),
            (0.52, 1.000),
            (0.34, 0.975),
            (0.18, 0.910),
            (0.00, 0.880),
        ]
    )
    # Finer along the profile than its corners, so that it looks round.
    along = np.linspace(0.0, len(profile) - 1.0, 4 * len(profile))
    corners = np.arange(len(profile))
    radii = _smooth(np.interp(along, corners, profile[:, 0]))
    heights = _smooth(np.interp(along, corners, profile[:, 1]))
    angles = np.linspace(0.0, 2.0 * np.pi, 65)
    # A superellipse keeps the sides flat where hands press; the grooves lie between.
    lobes = 1.0 / (np.abs(np.cos(angles)) ** 4 + np.abs(np.sin(angles)) ** 4) ** 0.25
    groove = 1.0 - _GROOVE * np.abs(np.sin(_NUM_LOBES * angles / 2)) ** 6
    outline = lobes * groove
    # The ends are round where the lobes meet.
    blend = radii[:, None]
    r = half_width_m * blend * (1.0 + blend * (outline[None, :] - 1.0))
    points = np.stack(
        [
            r * np.cos(angles)[None, :],
            r * np.sin(angles)[None, :],
            np.broadcast_to(height_m * heights[:, None], r.shape),
        ],
        axis=-1,
    )
    return _grid_surface(points)


def _smooth(values: Array) -> Array:
    inner = np.convolve(np.pad(values, 3, mode="edge"), np.ones(7) / 7.0, mode="valid")
    inner[0], inner[-1] = values[0], values[-1]
    return inner


def _grid_surface(points: Array) -> Surface:
    """A grid (rows, columns, 3) whose last column is its first again; rows go up the outside."""
    up = np.gradient(points, axis=0)
    closed = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
    around = (closed[:, 2:] - closed[:, :-2]) / 2
    normals = np.cross(around, up)
    # At the two ends of the axis a ring is a point.
    normals[0], normals[-1] = (0.0, 0.0, -1.0), (0.0, 0.0, 1.0)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    return Surface(
        points=points.reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        triangles=np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])]),
    )
