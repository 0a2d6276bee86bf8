"""How a Panda looks: white rounded shells with dark joints, made of turned surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from pydrake.geometry import Mesh
from pydrake.math import RigidTransform
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import Colour
from sim_client.station.cameras import RenderQuality
from sim_client.surfaces import (
    Surface,
    capsule_between,
    lathe,
    merged,
    rounded_box,
    rounded_cylinder,
)

WHITE: Colour = (0.93, 0.94, 0.95)
DARK: Colour = (0.16, 0.17, 0.19)
STEEL: Colour = (0.58, 0.60, 0.62)

_WELL_INSIDE_M = 2e-4


def add_visual(
    plant: MultibodyPlant,
    body: RigidBody,
    name: str,
    mesh: Mesh,
    colour: Colour,
) -> None:
    """One surface of one colour, in the body's frame, for the cameras."""
    plant.RegisterVisualGeometry(
        body, RigidTransform.Identity(), mesh, name, drake_array([*colour, 1.0])
    )


def _link_surfaces(segments: int) -> tuple[tuple[list[Surface], list[Surface]], ...]:
    """White and dark surfaces of links 0 to 7, each in its link's frame."""
    cylinder = partial(rounded_cylinder, segments=segments)
    capsule = partial(capsule_between, segments=segments)

    def barrel(axis: str, radius: float, length: float, fillet: float) -> Surface:
        return cylinder(radius, length, fillet).along(axis)

    return (
        (
            [
                cylinder(0.072, 0.10, 0.02).at(0.0, 0.0, 0.055),
                rounded_box((0.15, 0.13, 0.075), 0.03).at(-0.075, 0.0, 0.042),
            ],
            [
                rounded_box((0.24, 0.17, 0.014), 0.006).at(-0.05, 0.0, 0.007),
                cylinder(0.066, 0.04, 0.006).at(0.0, 0.0, 0.118),
            ],
        ),
        (
            [
                lathe(
                    [(0.0, -0.195), (0.064, -0.195), (0.066, -0.188), (0.066, -0.05), (0.05, 0.0)],
                    segments=segments,
                ),
                barrel("y", 0.066, 0.125, 0.02),
            ],
            [barrel("y", 0.054, 0.15, 0.008)],
        ),
        (
            [
                capsule((0.0, -0.02, 0.0), (0.0, -0.13, 0.0), 0.060, end_radius=0.062),
                barrel("y", 0.063, 0.11, 0.01).at(0.0, -0.135, 0.0),
            ],
            [barrel("y", 0.058, 0.02, 0.004).at(0.0, -0.197, 0.0)],
        ),
        (
            [
                cylinder(0.062, 0.09, 0.012).at(0.0, 0.0, -0.065),
                capsule((0.01, 0.0, -0.03), (0.075, 0.0, 0.0), 0.056, end_radius=0.05),
                barrel("y", 0.056, 0.115, 0.018).at(0.0825, 0.0, 0.0),
            ],
            [barrel("y", 0.046, 0.138, 0.008).at(0.0825, 0.0, 0.0)],
        ),
        (
            [
                capsule((-0.006, 0.006, 0.0), (-0.0825, 0.075, 0.0), 0.048, end_radius=0.056),
                barrel("y", 0.060, 0.075, 0.014).at(-0.0825, 0.092, 0.0),
            ],
            [barrel("y", 0.055, 0.02, 0.004).at(-0.0825, 0.137, 0.0)],
        ),
        (
            [
                cylinder(0.058, 0.07, 0.014).at(0.0, 0.0, -0.205),
                capsule((0.0, 0.012, -0.20), (0.0, 0.055, -0.06), 0.052, end_radius=0.036),
                capsule((0.0, 0.055, -0.06), (0.0, 0.05, 0.0), 0.036, end_radius=0.042),
                barrel("y", 0.047, 0.10, 0.016).at(0.0, 0.025, 0.0),
            ],
            [barrel("y", 0.038, 0.018, 0.004).at(0.0, 0.078, 0.0)],
        ),
        (
            [
                barrel("z", 0.048, 0.085, 0.018).at(0.0, 0.0, -0.006),
                capsule((0.0, 0.0, 0.0), (0.088, 0.0, 0.0), 0.045, end_radius=0.046),
                barrel("y", 0.049, 0.085, 0.014).at(0.088, 0.0, 0.0),
            ],
            [
                barrel("z", 0.038, 0.104, 0.006).at(0.0, 0.0, -0.006),
                barrel("y", 0.040, 0.104, 0.006).at(0.088, 0.0, 0.0),
            ],
        ),
        (
            [cylinder(0.045, 0.03, 0.008).at(0.0, 0.0, 0.068)],
            [
                cylinder(0.041, 0.05, 0.004).at(0.0, 0.0, 0.075),
                cylinder(0.034, 0.03, 0.003).at(0.0, 0.0, 0.096),
            ],
        ),
    )


def _visible(part: Surface, others: Sequence[Surface]) -> Surface:
    """The part without those of its triangles that lie within another part, where none is seen.

    Parts are convex, or nearly: within all planes of its triangles is within it.
    """
    hidden = np.zeros(len(part.triangles), dtype=bool)
    for other in others:
        a, b, c = (other.points[other.triangles[:, i]] for i in range(3))
        outward = np.cross(b - a, c - a)
        lengths = np.linalg.norm(outward, axis=1, keepdims=True)
        has_area = lengths[:, 0] > 1e-9
        outward = outward[has_area] / lengths[has_area]
        reach = (outward * a[has_area]).sum(axis=1)
        inside = (part.points @ outward.T < reach - _WELL_INSIDE_M).all(axis=1)
        hidden |= inside[part.triangles].all(axis=1)
    return replace(part, triangles=part.triangles[~hidden])


def _merged_visible(parts: Sequence[Surface], others: Sequence[Surface]) -> Surface:
    """One surface of what can be seen of the parts beside each other and the others."""
    every = [*parts, *others]
    return merged([_visible(part, [*every[:i], *every[i + 1 :]]) for i, part in enumerate(parts)])


def _merged_whole(parts: Sequence[Surface], _others: Sequence[Surface]) -> Surface:
    return merged(parts)


class _Look(NamedTuple):
    """One surface of one body."""

    name: str
    mesh: Mesh
    colour: Colour


class _PandaLooks(NamedTuple):
    """By body: links 0 to 7, the hand, the fingers (left, right)."""

    links: tuple[tuple[_Look, _Look], ...]
    hand: tuple[_Look, _Look]
    fingers: tuple[tuple[_Look, _Look], tuple[_Look, _Look]]


def _look(name: str, surface: Surface, colour: Colour) -> _Look:
    return _Look(name, surface.mesh(name), colour)


@cache
def _panda_looks(segments: int, *, casts_shadows: bool) -> _PandaLooks:
    """Made once a process: making these meshes is half of what building a scene costs."""
    # Light leaks through a surface that has holes, wherever they are.
    beside = _merged_whole if casts_shadows else _merged_visible
    shell = merged(
        [
            rounded_box((0.062, 0.204, 0.044), 0.02).at(0.0, 0.0, 0.028),
            rounded_cylinder(0.036, 0.02, 0.006).at(0.0, 0.0, 0.008),
        ]
    )
    rail = rounded_box((0.036, 0.19, 0.018), 0.006).at(0.0, 0.0, 0.054)

    def finger(name: str, sign: float) -> tuple[_Look, _Look]:
        stem = merged(
            [
                rounded_box((0.020, 0.020, 0.030), 0.004).at(0.0, sign * 0.014, 0.012),
                rounded_box((0.019, 0.012, 0.040), 0.003).at(0.0, sign * 0.010, 0.030),
            ]
        )
        pad = rounded_box((0.020, 0.010, 0.022), 0.002).at(0.0, sign * 0.0052, 0.0425)
        return _look(f"{name}_finger", stem, STEEL), _look(f"{name}_pad", pad, DARK)

    return _PandaLooks(
        links=tuple(
            (
                _look(f"link{i}_white", beside(white, dark), WHITE),
                _look(f"link{i}_dark", beside(dark, white), DARK),
            )
            for i, (white, dark) in enumerate(_link_surfaces(segments))
        ),
        hand=(_look("hand_white", shell, WHITE), _look("hand_dark", rail, DARK)),
        fingers=(finger("left", 1.0), finger("right", -1.0)),
    )


def add_looks(
    plant: MultibodyPlant,
    links: Sequence[RigidBody],
    hand: RigidBody,
    fingers: Sequence[RigidBody],
    quality: RenderQuality,
) -> None:
    """Give the links, the hand and the fingers (left, right) their surfaces."""
    looks = _panda_looks(quality.arm_segments, casts_shadows=quality.shadows)
    for body, parts in (
        *zip(links, looks.links, strict=True),
        (hand, looks.hand),
        *zip(fingers, looks.fingers, strict=True),
    ):
        for look in parts:
            add_visual(plant, body, look.name, look.mesh, look.colour)
