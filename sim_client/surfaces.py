"""Smooth surfaces for rendering, made in memory: turned profiles, rounded boxes, swept tubes.

Each function returns a `Surface` in metres about its own origin; `Surface.mesh` is what Drake's
render engine takes. They are for looks alone: contact uses primitive shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydrake.common import MemoryFile
from pydrake.geometry import InMemoryMesh, Mesh

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Triangles with a normal a vertex. points, normals: (N, 3); triangles: (M, 3) indices."""

    points: Array
    normals: Array
    triangles: NDArray[np.int64]

    def moved(self, X: Array) -> Surface:
        """The surface under the rigid transform X (4, 4)."""
        return Surface(
            points=self.points @ X[:3, :3].T + X[:3, 3],
            normals=self.normals @ X[:3, :3].T,
            triangles=self.triangles,
        )

    def at(self, x: float, y: float, z: float) -> Surface:
        X = np.eye(4)
        X[:3, 3] = x, y, z
        return self.moved(X)

    def along(self, axis: str) -> Surface:
        """Turned so that what pointed along z points along `axis` (x, -x, y, -y, z or -z)."""
        columns = {
            "z": ([1, 0, 0], [0, 1, 0], [0, 0, 1]),
            "x": ([0, 0, -1], [0, 1, 0], [1, 0, 0]),
            "-x": ([0, 0, 1], [0, 1, 0], [-1, 0, 0]),
            "y": ([1, 0, 0], [0, 0, -1], [0, 1, 0]),
            "-y": ([1, 0, 0], [0, 0, 1], [0, -1, 0]),
            "-z": ([1, 0, 0], [0, -1, 0], [0, 0, -1]),
        }[axis]
        X = np.eye(4)
        X[:3, :3] = np.column_stack(columns)
        return self.moved(X)

    def mesh(self, name: str) -> Mesh:
        """For Drake's perception and illustration roles."""
        # One format for all numbers of a kind: a format each takes four times as long.
        corners = np.repeat(self.triangles + 1, 2, axis=1)
        text = (
            ("v %.6f %.6f %.6f\n" * len(self.points)) % tuple(self.points.ravel().tolist())
            + ("vn %.5f %.5f %.5f\n" * len(self.normals)) % tuple(self.normals.ravel().tolist())
            + ("f %d//%d %d//%d %d//%d\n" * len(corners)) % tuple(corners.ravel().tolist())
        )
        return Mesh(InMemoryMesh(mesh_file=MemoryFile(text, ".obj", f"{name}.obj")))


def merged(surfaces: Sequence[Surface]) -> Surface:
    """One surface of many: fewer things for the renderer to draw."""
    offsets = np.cumsum([0] + [len(surface.points) for surface in surfaces[:-1]])
    return Surface(
        points=np.concatenate([surface.points for surface in surfaces]),
        normals=np.concatenate([surface.normals for surface in surfaces]),
        triangles=np.concatenate(
            [surface.triangles + offset for surface, offset in zip(surfaces, offsets, strict=True)]
        ),
    )


def lathe(profile: Sequence[tuple[float, float]], *, segments: int = 32) -> Surface:
    """The profile's (radius, z) points turned about z.

    Go up the outside for normals that point outward. Corners stay sharp: each piece of the profile
    has normals of its own, except that neighbours within 35 degrees are smoothed.
    """
    path = np.array(profile, dtype=np.float64)
    directions = np.diff(path, axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    outward = np.column_stack([directions[:, 1], -directions[:, 0]])
    angles = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    cosines, sines = np.cos(angles), np.sin(angles)

    def ring(point: Array, normal: Array) -> tuple[Array, Array]:
        positions = np.column_stack(
            [point[0] * cosines, point[0] * sines, np.full_like(angles, point[1])]
        )
        normals = np.column_stack(
            [normal[0] * cosines, normal[0] * sines, np.full_like(angles, normal[1])]
        )
        return positions, normals

    def smoothed(i: int, neighbour: int) -> Array:
        if 0 <= neighbour < len(outward) and outward[i] @ outward[neighbour] > 0.82:
            normal = outward[i] + outward[neighbour]
            return normal / np.linalg.norm(normal)
        return outward[i]

    points, normals, triangles = [], [], []
    for i in range(len(path) - 1):
        base = 2 * i * (segments + 1)
        for end, neighbour in ((path[i], i - 1), (path[i + 1], i + 1)):
            positions, ring_normals = ring(end, smoothed(i, neighbour))
            points.append(positions)
            normals.append(ring_normals)
        low = base + np.arange(segments)
        high = low + segments + 1
        triangles.append(np.column_stack([low, low + 1, high + 1]))
        triangles.append(np.column_stack([low, high + 1, high]))
    return Surface(
        points=np.concatenate(points),
        normals=np.concatenate(normals),
        triangles=np.concatenate(triangles),
    )


def _quarter(
    radius: float, centre: tuple[float, float], start: float, *, steps: int = 3
) -> list[tuple[float, float]]:
    angles = start + np.linspace(0.0, np.pi / 2.0, steps)
    return [
        (centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a)))
        for a in angles
    ]


def rounded_cylinder(radius: float, length: float, fillet: float, *, segments: int = 20) -> Surface:
    """About z, centred; a fillet as long as the radius makes it a capsule."""
    half = length / 2.0
    profile = [(0.0, -half)]
    profile += _quarter(fillet, (radius - fillet, -half + fillet), -np.pi / 2.0)
    profile += _quarter(fillet, (radius - fillet, half - fillet), 0.0)
    profile += [(0.0, half)]
    distinct = [profile[0]]
    for point in profile[1:]:
        if np.hypot(point[0] - distinct[-1][0], point[1] - distinct[-1][1]) > 1e-6:
            distinct.append(point)
    return lathe(distinct, segments=segments)


def rounded_box(size: tuple[float, float, float], fillet: float, *, steps: int = 2) -> Surface:
    """Centred, with rounded edges and corners."""
    half = np.array(size) / 2.0
    core = half - fillet
    # A direction on the cube is pushed to the core's corner and then out by the fillet's radius;
    # a grid that is dense at the edges makes the flat faces exact.
    turn = np.tan(np.linspace(0.0, np.pi / 4.0, steps))
    grid = np.concatenate([-1.0 - turn[::-1], 1.0 + turn])
    points, normals, triangles = [], [], []
    count = len(grid)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.meshgrid(grid, grid, indexing="ij")
            corner = np.zeros((count, count, 3))
            lean = np.zeros((count, count, 3))
            first, second = (axis + 1) % 3, (axis + 2) % 3
            corner[..., axis], lean[..., axis] = sign, sign
            corner[..., first], lean[..., first] = np.sign(u), u - np.sign(u)
            corner[..., second], lean[..., second] = np.sign(v), v - np.sign(v)
            normal = lean / np.linalg.norm(lean, axis=-1, keepdims=True)
            base = sum(len(block) for block in points)
            points.append((corner * core + fillet * normal).reshape(-1, 3))
            normals.append(normal.reshape(-1, 3))
            index = base + np.arange(count * count).reshape(count, count)
            a, b = index[:-1, :-1].ravel(), index[1:, :-1].ravel()
            c, d = index[1:, 1:].ravel(), index[:-1, 1:].ravel()
            order = (a, b, c, d) if sign > 0 else (a, d, c, b)
            triangles.append(np.column_stack([order[0], order[1], order[2]]))
            triangles.append(np.column_stack([order[0], order[2], order[3]]))
    return Surface(
        points=np.concatenate(points),
        normals=np.concatenate(normals),
        triangles=np.concatenate(triangles),
    )


def capsule_between(
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius: float,
    *,
    end_radius: float | None = None,
    segments: int = 20,
) -> Surface:
    """A round-ended body from one point to another, tapering to `end_radius` when given."""
    a, b = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    length = float(np.linalg.norm(b - a))
    final = radius if end_radius is None else end_radius
    low, high = np.linspace(-np.pi / 2, 0.0, 5), np.linspace(0.0, np.pi / 2, 5)
    profile = [(radius * float(np.cos(t)), radius * float(np.sin(t))) for t in low]
    profile += [(final * float(np.cos(t)), length + final * float(np.sin(t))) for t in high]
    z = (b - a) / length
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    X = np.eye(4)
    X[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    X[:3, 3] = a
    return lathe(profile, segments=segments).moved(X)


def tube(path: Array, radius: float | Array, *, segments: int = 12) -> Surface:
    """A round tube along a planar path (N, 3) in the xz plane, such as a mug's handle.

    radius: one, or (N,) of one a point, for what tapers.
    """
    path = np.asarray(path, dtype=np.float64)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(path),))
    steps = np.gradient(path, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    slopes = np.gradient(radii) / lengths
    tangents = steps / lengths[:, None]
    side = np.array([0.0, 1.0, 0.0])
    angles = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    outward = np.stack(
        [
            np.outer(np.cos(angles), side) + np.outer(np.sin(angles), np.cross(tangent, side))
            for tangent in tangents
        ]
    )
    points = path[:, None, :] + radii[:, None, None] * outward
    # A tube that narrows faces forward as well as outward.
    normals = outward - (slopes[:, None] * tangents)[:, None, :]
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    index = np.arange(len(path) * (segments + 1)).reshape(len(path), segments + 1)
    a, b = index[:-1, :-1].ravel(), index[1:, :-1].ravel()
    c, d = index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    return Surface(
        points=points.reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        triangles=np.concatenate([np.column_stack([a, d, c]), np.column_stack([a, c, b])]),
    )
