"""The station's cameras: where they are mounted and how wide they see.

Optical frames as everywhere in the field (and in Drake): z forward, x right, y down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from policy_interface.contract import ImageSize
from sim_client.station.panda_kinematics import Array

Mount = Literal["table", "right", "left"]


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
    """parent: "table" for what stands in the room, whose frame is T unless the table is raised; or
    the hand of an arm.

    X_PC: the optical frame in it.
    """

    parent: Mount
    X_PC: Array
    vertical_field_of_view_rad: float


_FRONT = _on_hand(0.072, 0.035, np.deg2rad(22.0))
_BACK = _on_hand(-0.072, 0.035, np.deg2rad(22.0))
_WRIST_VIEW_RAD = float(np.deg2rad(74.0))
_SCENE_VIEW_RAD = float(np.deg2rad(56.0))

CAMERA_MOUNTS: Mapping[str, CameraMount] = {
    "scene_right_0": CameraMount(
        parent="table",
        X_PC=looking_at((0.46, -0.44, 0.70), (-0.12, -0.10, 0.09)),
        vertical_field_of_view_rad=_SCENE_VIEW_RAD,
    ),
    "scene_left_0": CameraMount(
        parent="table",
        X_PC=looking_at((0.46, 0.44, 0.70), (-0.12, 0.10, 0.09)),
        vertical_field_of_view_rad=_SCENE_VIEW_RAD,
    ),
    "wrist_right_minus": CameraMount(
        parent="right", X_PC=_FRONT, vertical_field_of_view_rad=_WRIST_VIEW_RAD
    ),
    "wrist_left_plus": CameraMount(
        parent="left", X_PC=_FRONT, vertical_field_of_view_rad=_WRIST_VIEW_RAD
    ),
    "wrist_right_plus": CameraMount(
        parent="right", X_PC=_BACK, vertical_field_of_view_rad=_WRIST_VIEW_RAD
    ),
    "wrist_left_minus": CameraMount(
        parent="left", X_PC=_BACK, vertical_field_of_view_rad=_WRIST_VIEW_RAD
    ),
}
"""LBM Eval's six, by their semantic names; each hand has one in front and one behind."""

DEFAULT_CAMERAS: Mapping[str, ImageSize] = {
    name: ImageSize(height=128, width=128)
    for name in ("scene_right_0", "scene_left_0", "wrist_right_minus", "wrist_left_plus")
}
"""The four that both of LBM Eval's stations have."""


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
