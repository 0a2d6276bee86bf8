"""Points in space to pixels, by a camera whose intrinsics and pose are known.

Axes: N point. A camera C looks along its z, with x to the right and y down, as OpenCV's does.
"""

from __future__ import annotations

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.episode import EpisodeDescription
from trainer.data.field_geometry import has_position

# Nearer than this to the lens, a point's pixel is anywhere.
_NEAREST_M = 0.01


def project(points_F: FloatArray, intrinsics: FloatArray, X_FC: FloatArray) -> FloatArray:
    """(N, 3) points in frame F to (N, 2) pixels, x then y; nan for those behind the camera.

    intrinsics (3, 3) or (N, 3, 3), X_FC (4, 4) or (N, 4, 4).
    """
    R_FC, p_FC = X_FC[..., :3, :3], X_FC[..., :3, 3]
    points_C = np.einsum("...ji,...j->...i", R_FC, points_F - p_FC)
    in_front = points_C[..., 2] > _NEAREST_M
    depths = np.where(in_front, points_C[..., 2], np.nan)
    normalized = points_C / depths[..., None]
    return np.einsum("...ij,...j->...i", intrinsics, normalized)[..., :2]


def visible_fields(description: EpisodeDescription, camera: str) -> list[str]:
    """The fields whose positions the camera can project: those in the frame that it stands in."""
    view = description.cameras[camera]
    if not (view.has_intrinsics and view.has_extrinsics):
        return []
    return [
        name
        for name, field in description.fields.items()
        if field.frame == view.frame and field.unit == "m" and has_position(field)
    ]
