"""The station's cameras: where they are mounted, what they see, and the pictures they take.

Optical frames as everywhere in the field (and in Drake): z forward, x right, y down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydrake.geometry import (
    ClippingRange,
    ColorRenderCamera,
    LightParameter,
    MakeRenderEngineVtk,
    RenderCameraCore,
    RenderEngine,
    RenderEngineVtkParams,
    Rgba,
)
from pydrake.math import RigidTransform
from pydrake.systems.sensors import CameraInfo

from policy_interface.contract import ImageSize
from sim_client.drake_arrays import drake_array
from sim_client.station.panda_kinematics import Array

RENDERER_NAME = "vtk"
# The pads are nearer to the wrist cameras than 10 cm, the floor's far corner within 8 m.
_NEAR_M, _FAR_M = 0.01, 8.0
Mount = Literal["table", "right", "left"]

BACKGROUND = (0.80, 0.84, 0.88)


def looking_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Array:
    """X_PC (4, 4) of an optical frame at `eye` that looks at `target`, upright in P's z."""
    forward = np.array(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    X = np.eye(4)
    X[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    X[:3, 3] = eye
    return X


def _on_hand(forward_m: float, along_m: float, tilt_rad: float) -> Array:
    """X_HC of a camera beside the hand, at `forward_m` on its x, tilted toward the fingers."""
    c, s = np.cos(tilt_rad), np.sin(tilt_rad)
    side = np.sign(forward_m)
    X = np.eye(4)
    X[:3, :3] = np.column_stack([[0.0, side, 0.0], [-side * c, 0.0, -s], [-side * s, 0.0, c]])
    X[:3, 3] = forward_m, 0.0, along_m
    return X


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraMount:
    """parent: the task frame ("table") or the hand of an arm; X_PC: the optical frame in it."""

    parent: Mount
    X_PC: Array
    vertical_field_of_view_rad: float


_WRIST = _on_hand(0.072, 0.035, np.deg2rad(22.0))

CAMERA_MOUNTS: Mapping[str, CameraMount] = {
    "scene_right_0": CameraMount(
        parent="table",
        X_PC=looking_at((0.46, -0.44, 0.70), (-0.12, -0.10, 0.09)),
        vertical_field_of_view_rad=np.deg2rad(44.0),
    ),
    "scene_left_0": CameraMount(
        parent="table",
        X_PC=looking_at((0.46, 0.44, 0.70), (-0.12, 0.10, 0.09)),
        vertical_field_of_view_rad=np.deg2rad(44.0),
    ),
    "wrist_right_minus": CameraMount(
        parent="right", X_PC=_WRIST, vertical_field_of_view_rad=np.deg2rad(74.0)
    ),
    "wrist_left_plus": CameraMount(
        parent="left", X_PC=_WRIST, vertical_field_of_view_rad=np.deg2rad(74.0)
    ),
}

DEFAULT_CAMERAS: Mapping[str, ImageSize] = {
    name: ImageSize(height=128, width=128) for name in CAMERA_MOUNTS
}


def render_camera(size: ImageSize, vertical_field_of_view_rad: float) -> ColorRenderCamera:
    """A pinhole with square pixels and the principal point at the image's centre."""
    info = CameraInfo(width=size.width, height=size.height, fov_y=vertical_field_of_view_rad)
    core = RenderCameraCore(
        RENDERER_NAME, info, ClippingRange(_NEAR_M, _FAR_M), RigidTransform.Identity()
    )
    return ColorRenderCamera(core, False)


@dataclass(frozen=True, kw_only=True)
class RenderQuality:
    """How much time a picture is worth.

    Shadows cost two to three times the rest, since they are drawn anew whenever something moved.
    num_key_lights: the key light is split into so many around its place, for soft shadows.
    arm_segments: the corners of the arms' round cross-sections.
    """

    shadows: bool = False
    shadow_map_size: int = 4096
    num_key_lights: int = 1
    arm_segments: int = 12


POLICY_QUALITY = RenderQuality()
"""What policies see, in demonstrations and in evaluations alike."""
PICTURE_QUALITY = RenderQuality(shadows=True, num_key_lights=9, arm_segments=56)
"""For people."""

_KEY_POSITION_M = np.array([0.75, -0.85, 2.1])
_KEY_TARGET_M = np.array([-0.10, -0.05, 0.0])
_KEY_INTENSITY = 0.78
_KEY_SPREAD_M = 0.09
# Position (m) and intensity of the lights that soften the key light's shadows.
_FILLS = (((1.9, -1.1, 1.0), 0.40), ((0.0, 2.2, 1.2), 0.34))


def _key_positions(num: int) -> list[Array]:
    """One in the middle, the others on a circle around it."""
    angles = 2.0 * np.pi * np.arange(num - 1) / max(1, num - 1)
    offsets = [np.zeros(3), *(np.array([np.cos(a), np.sin(a), 0.0]) for a in angles)]
    return [_KEY_POSITION_M + _KEY_SPREAD_M * offset for offset in offsets]


def _lights(num_key_lights: int) -> list[LightParameter]:
    """A key light that casts shadows, and fill lights without, so that no side is black.

    VTK's phong shading has no ambient term, and point lights cast no shadows in Drake.
    """
    keys = [
        LightParameter(
            type="spot",
            color=Rgba(1.0, 0.97, 0.92),
            intensity=_KEY_INTENSITY / num_key_lights,
            position=drake_array(position),
            direction=drake_array(_KEY_TARGET_M - position),
            cone_angle=42.0,
            frame="world",
        )
        for position in _key_positions(num_key_lights)
    ]
    fills = [
        LightParameter(
            type="point",
            color=Rgba(0.95, 0.97, 1.0),
            intensity=intensity,
            position=drake_array(position),
            frame="world",
        )
        for position, intensity in _FILLS
    ]
    return [*keys, *fills]


def make_renderer(quality: RenderQuality) -> RenderEngine:
    """Drake's VTK engine, off screen, with the station's lights."""
    params = RenderEngineVtkParams(
        default_clear_color=drake_array(BACKGROUND),
        lights=_lights(quality.num_key_lights),
        cast_shadows=quality.shadows,
        shadow_map_size=quality.shadow_map_size,
    )
    return MakeRenderEngineVtk(params)
