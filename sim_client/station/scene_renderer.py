"""The station's own renderer: what Drake's VTK engine shows without shadows, several times as fast.

Pixels are that engine's but for a few along edges. The time is saved where it has to be general:
all cameras are drawn before one picture is read back, the whole scene in one call each; what faces
away is left out; and a pixel's shading is three lights from far away on a plain colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from functools import lru_cache
from math import tan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydrake.geometry import GeometryId, Mesh, Role
from pydrake.systems.framework import Context

from policy_interface.contract import ImageSize
from sim_client.station import offscreen_gl as opengl
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.looks import distant_lights
from sim_client.station.offscreen_gl import OffscreenGl, float_array, pointer
from sim_client.station.panda_kinematics import Array
from sim_client.station.pictures import FAR_M, NEAR_M, Picture, Shot
from sim_client.station.scene import Scene
from sim_client.station.scene_shaders import (
    LUMA,
    MAX_BODIES,
    SCENE_FRAGMENT,
    SCENE_VERTEX,
    SMOOTH_EDGES_FRAGMENT,
    WHOLE_VIEW_VERTEX,
)

_VERTEX = np.dtype(
    [
        ("p_BV", np.float32, 3),
        ("normal_B", np.float32, 3),
        ("colour", np.float32, 3),
        ("body", np.uint16),
        ("label", np.int16),
    ]
)
# What pixels are before anything is drawn; OpenGL wants four numbers of each.
_NOWHERE, _FARTHEST = float_array([np.inf] * 4), float_array([1.0] * 4)
_NO_LABEL = np.zeros(4, dtype=np.int32)
_LOOSE_NUMBERS = str.maketrans("/", " ")


class _Shape(NamedTuple):
    """points, normals: (N, 3). triangles: (M, 3), without those that have no area."""

    points: Array
    normals: Array
    triangles: npt.NDArray[np.int64]


@lru_cache(maxsize=256)
def _shape(obj_text: str) -> _Shape:
    """Of a Wavefront OBJ with a normal a vertex, as `sim_client.surfaces` writes it."""
    rows: dict[str, list[str]] = {"v": [], "vn": [], "f": []}
    for line in obj_text.splitlines():
        kind, _, rest = line.partition(" ")
        rows[kind].append(rest)
    points, normals = (
        np.array(" ".join(rows[kind]).split(), dtype=np.float64).reshape(-1, 3)
        for kind in ("v", "vn")
    )
    corners = np.array(" ".join(rows["f"]).translate(_LOOSE_NUMBERS).split(), dtype=np.int64)
    corners = corners.reshape(-1, 3, 2) - 1
    assert (corners[:, :, 0] == corners[:, :, 1]).all(), "each vertex has a normal of its own"
    triangles = corners[:, :, 0]
    a, b, c = (points[triangles[:, i]] for i in range(3))
    has_area = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-9
    return _Shape(points, normals, triangles[has_area])


class _Target(NamedTuple):
    """Where pictures of one size, one below another, are drawn; and again with smooth edges."""

    drawn: int
    smooth: int
    drawn_texture: int


class SceneRenderer:
    """Draws one scene; plant_context: where that is simulated.

    Raises RenderingUnavailableError where this machine has no OpenGL 3.3, or where the scene holds
    what only Drake's engines draw: anything but meshes in memory with plain colours.
    """

    def __init__(self, scene: Scene, plant_context: Context, *, depth: bool, labels: bool) -> None:
        self._plant, self._simulated = scene.plant, plant_context
        self._depth, self._labels = depth, labels
        vertices, triangles = self._load(scene)
        background = np.array(scene.spec.looks.background)
        self._cleared = [float_array([*background, background @ LUMA])]
        if depth:
            self._cleared.append(_NOWHERE)
        self._targets: dict[tuple[ImageSize, int], _Target] = {}
        self._context = OffscreenGl()
        with self._context.current() as gl:
            self._scene_program = opengl.program(SCENE_VERTEX, SCENE_FRAGMENT)
            self._smooth_program = opengl.program(WHOLE_VIEW_VERTEX, SMOOTH_EDGES_FRAGMENT)
            self._view = gl.glGetUniformLocation(self._smooth_program, b"view")
            self._X_WB, self._projection, to_light, light = (
                gl.glGetUniformLocation(self._scene_program, name)
                for name in (b"X_WB", b"projection", b"to_light", b"light")
            )
            _upload(gl, vertices, triangles)
            gl.glUseProgram(self._scene_program)
            lights = distant_lights(scene.spec.looks.lighting)
            directions = float_array([-each.direction for each in lights])
            gl.glUniform3fv(to_light, len(lights), pointer(directions))
            colours = float_array([each.intensity * np.array(each.colour) for each in lights])
            gl.glUniform3fv(light, len(lights), pointer(colours))
            gl.glEnable(opengl.DEPTH_TEST)
            gl.glEnable(opengl.CULL_FACE)
            # Counter-clockwise in space; image rows are drawn from the top down.
            gl.glFrontFace(opengl.CLOCKWISE)
            opengl.pack_tightly()
            opengl.require_no_error()

    def _load(self, scene: Scene) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
        """All vertices and triangles, body by body, and what of them belongs to each."""
        inspector = scene.scene_graph.model_inspector()
        by_body: dict[Any, list[GeometryId]] = {}
        # In the order in which they were added, and so back to front: the room, arms, objects.
        for each in sorted(inspector.GetAllGeometryIds(Role.kPerception), key=GeometryId.get_value):
            body = scene.plant.GetBodyFromFrameId(inspector.GetFrameId(each))
            by_body.setdefault(body.index(), []).append(each)
        if len(by_body) > MAX_BODIES:
            raise RenderingUnavailableError(
                f"cannot render {len(by_body)} bodies with 'own': it draws up to {MAX_BODIES}; "
                "use renderer 'vtk'"
            )
        # What is drawn first hides the rest at no cost.
        indices = list(reversed(by_body))
        self._bodies = [scene.plant.get_body(index) for index in indices]
        vertices, triangles = [], []
        counts, firsts, spheres = [], [], []
        num_vertices = num_corners = 0
        for i, index in enumerate(indices):
            parts = [_vertices(inspector, geometry, body=i) for geometry in by_body[index]]
            for part, corners in parts:
                vertices.append(part)
                triangles.append(corners + num_vertices)
                num_vertices += len(part)
            points = np.concatenate([part["p_BV"] for part, _ in parts])
            middle = (points.min(axis=0) + points.max(axis=0)) / 2.0
            spheres.append((*middle, 1.0, np.linalg.norm(points - middle, axis=1).max()))
            counts.append(sum(corners.size for _, corners in parts))
            firsts.append(num_corners)
            num_corners += counts[-1]
        self._counts = np.array(counts, dtype=np.int32)
        self._offsets = np.uint32().itemsize * np.array(firsts, dtype=np.uintp)
        self._middles_B, self._radii_m = np.array(spheres)[:, :4], np.array(spheres)[:, 4]
        return np.concatenate(vertices), np.concatenate(triangles).astype(np.uint32)

    def draw(self, shots: Sequence[Shot]) -> list[Picture]:
        pictures: dict[int, Picture] = {}
        with self._context.current() as gl:
            for size in dict.fromkeys(shot.size for shot in shots):
                places = [i for i, shot in enumerate(shots) if shot.size == size]
                drawn = self._draw_alike(gl, size, [shots[i] for i in places])
                pictures |= zip(places, drawn, strict=True)
            opengl.require_no_error()
        return [pictures[i] for i in range(len(shots))]

    def _draw_alike(self, gl: CDLL, size: ImageSize, shots: Sequence[Shot]) -> list[Picture]:
        """Pictures of one size, from the first row down, one below another."""
        target = self._target(size, len(shots))
        height, width = size.height, size.width
        gl.glBindFramebuffer(opengl.FRAMEBUFFER, target.drawn)
        for i, value in enumerate(self._cleared):
            gl.glClearBufferfv(opengl.COLOR, i, pointer(value))
        if self._labels:
            gl.glClearBufferiv(opengl.COLOR, len(self._cleared), pointer(_NO_LABEL))
        gl.glClearBufferfv(opengl.DEPTH, 0, pointer(_FARTHEST))
        gl.glUseProgram(self._scene_program)
        X_WB = np.array([self._pose(body) for body in self._bodies])
        matrices = float_array(X_WB)
        gl.glUniformMatrix4fv(self._X_WB, len(X_WB), 1, pointer(matrices))
        middles_W = (X_WB @ self._middles_B[:, :, None])[:, :, 0]
        for i, shot in enumerate(shots):
            T_DW = _projection(shot)
            visible = _in_view(T_DW, middles_W, self._radii_m)
            counts, offsets = self._counts[visible], self._offsets[visible]
            projection = float_array(T_DW)
            gl.glViewport(0, i * height, width, height)
            gl.glUniformMatrix4fv(self._projection, 1, 1, pointer(projection))
            gl.glMultiDrawElements(
                opengl.TRIANGLES,
                pointer(counts),
                opengl.UNSIGNED_INT,
                pointer(offsets),
                len(counts),
            )
        shape = (len(shots), height, width)
        area = (0, 0, width, len(shots) * height)
        depths, labels = [None] * len(shots), [None] * len(shots)
        if self._depth:
            depths = np.empty(shape, dtype=np.float32)
            gl.glReadBuffer(opengl.COLOR_ATTACHMENT0 + 1)
            gl.glReadPixels(*area, opengl.RED, opengl.FLOAT, pointer(depths))
        if self._labels:
            labels = np.empty(shape, dtype=np.int16)
            gl.glReadBuffer(opengl.COLOR_ATTACHMENT0 + len(self._cleared))
            gl.glReadPixels(*area, opengl.RED_INTEGER, opengl.SHORT, pointer(labels))

        opengl.copy_colours(target.drawn, target.smooth, width, len(shots) * height)
        gl.glBindTexture(opengl.TEXTURE_2D, target.drawn_texture)
        gl.glUseProgram(self._smooth_program)
        for i in range(len(shots)):
            gl.glViewport(0, i * height, width, height)
            gl.glUniform4i(self._view, 0, i * height, width - 1, (i + 1) * height - 1)
            gl.glDrawArrays(opengl.TRIANGLES, 0, 3)
        colours = np.empty((*shape, 3), dtype=np.uint8)
        gl.glReadPixels(*area, opengl.RGB, opengl.UNSIGNED_BYTE, pointer(colours))
        return [Picture(*each) for each in zip(colours, depths, labels, strict=True)]

    def _pose(self, body: Any) -> Array:
        """X_WB (4, 4)."""
        pose: Any = self._plant.EvalBodyPoseInWorld(self._simulated, body)
        return pose.GetAsMatrix4()

    def _target(self, size: ImageSize, num: int) -> _Target:
        """Where so many pictures of a size are drawn; made once."""
        key = (size, num)
        if key not in self._targets:
            whole = (size.width, num * size.height)
            formats = [(opengl.RGBA8, opengl.RGBA, opengl.UNSIGNED_BYTE)]
            if self._depth:
                formats.append((opengl.R32F, opengl.RED, opengl.FLOAT))
            if self._labels:
                formats.append((opengl.R16I, opengl.RED_INTEGER, opengl.SHORT))
            drawn = [opengl.texture(each[0], *whole, layout=each[1:]) for each in formats]
            smooth = opengl.texture(
                opengl.RGBA8, *whole, layout=(opengl.RGBA, opengl.UNSIGNED_BYTE)
            )
            self._targets[key] = _Target(
                drawn=opengl.framebuffer(drawn, depth_of=whole),
                smooth=opengl.framebuffer([smooth]),
                drawn_texture=drawn[0],
            )
        return self._targets[key]


def _vertices(
    inspector: Any, geometry: GeometryId, *, body: int
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The vertices of a geometry in its body's frame, and triangles (M, 3) of their indices."""
    mesh = inspector.GetShape(geometry)
    if not isinstance(mesh, Mesh) or not mesh.source().is_in_memory():
        raise RenderingUnavailableError(
            f"cannot render {inspector.GetName(geometry)!r} with 'own', which draws the project's "
            "own surfaces alone; use renderer 'vtk'"
        )
    source: Any = mesh.source().in_memory()
    shape = _shape(source.mesh_file.contents().decode())
    properties: Any = inspector.GetPerceptionProperties(geometry)
    X_BG: Any = inspector.GetPoseInFrame(geometry).GetAsMatrix4()
    part = np.zeros(len(shape.points), dtype=_VERTEX)
    part["p_BV"] = shape.points @ X_BG[:3, :3].T + X_BG[:3, 3]
    part["normal_B"] = shape.normals @ X_BG[:3, :3].T
    part["colour"] = properties.GetProperty("phong", "diffuse").rgba[:3]
    part["body"] = body
    part["label"] = int(properties.GetProperty("label", "id"))
    return part, shape.triangles


def _upload(gl: CDLL, vertices: npt.NDArray[np.void], triangles: npt.NDArray[np.uint32]) -> None:
    gl.glBindVertexArray(opengl.new_name("glGenVertexArrays"))
    for kind, data in (
        (opengl.ARRAY_BUFFER, vertices),
        (opengl.ELEMENT_ARRAY_BUFFER, triangles),
    ):
        gl.glBindBuffer(kind, opengl.new_name("glGenBuffers"))
        gl.glBufferData(kind, data.nbytes, pointer(data), opengl.STATIC_DRAW)
    size = _VERTEX.itemsize
    for i, offset in enumerate((0, 12, 24)):
        gl.glVertexAttribPointer(i, 3, opengl.FLOAT, 0, size, offset)
    gl.glVertexAttribIPointer(3, 1, opengl.UNSIGNED_SHORT, size, 36)
    gl.glVertexAttribIPointer(4, 1, opengl.SHORT, size, 38)
    for i in range(5):
        gl.glEnableVertexAttribArray(i)


def _in_view(T_DW: Array, middles_W: Array, radii_m: Array) -> npt.NDArray[np.bool_]:
    """Which spheres (N,) reach into what a camera sees; middles_W: (N, 4), homogeneous."""
    # A point is in view where -w <= x, y, z <= w after the projection: six planes.
    planes = np.concatenate([T_DW[3] + T_DW[:3], T_DW[3] - T_DW[:3]])
    planes /= np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
    return (middles_W @ planes.T > -radii_m[:, None]).all(axis=1)


def _projection(shot: Shot) -> Array:
    """T_DW (4, 4) from W to OpenGL's clip space, with the image's first row at the bottom.

    As Drake's engines do, it takes the intrinsics' principal point for a distance from the image's
    corner, which shifts all by half a pixel.
    """
    width, height = shot.size.width, shot.size.height
    focal = 1.0 / tan(shot.vertical_field_of_view_rad / 2.0)
    depth = FAR_M - NEAR_M
    T_DC = np.array(
        [
            [focal * height / width, 0.0, -1.0 / width, 0.0],
            [0.0, focal, -1.0 / height, 0.0],
            [0.0, 0.0, (FAR_M + NEAR_M) / depth, -2.0 * FAR_M * NEAR_M / depth],
            [0.0, 0.0, 1.0, 0.0],
        ]
    )
    return T_DC @ _inverse(shot.X_WC)


def _inverse(X: Array) -> Array:
    """Of a rigid transform (4, 4)."""
    inverse = np.eye(4)
    inverse[:3, :3] = X[:3, :3].T
    inverse[:3, 3] = -X[:3, :3].T @ X[:3, 3]
    return inverse
