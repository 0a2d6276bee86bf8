"""Points in space land on the pixels that the pinhole model says."""

from __future__ import annotations

import numpy as np

from trainer.data.projection import project

INTRINSICS = np.array([[100.0, 0, 50], [0, 120, 40], [0, 0, 1]])


def test_a_point_lands_where_the_pinhole_says() -> None:
    pixels = project(np.array([[0.1, -0.2, 1.0], [0.2, 0.1, 2.0]]), INTRINSICS, np.eye(4))
    np.testing.assert_allclose(pixels, [[60, 16], [60, 46]])


def test_the_camera_pose_places_the_point() -> None:
    # A camera 2 m above the origin that looks straight down, its x along the frame's.
    X_FC = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]])
    pixels = project(np.array([[0.2, 0.4, 0.0]]), INTRINSICS, X_FC)
    np.testing.assert_allclose(pixels, [[60, 16]])


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    assert np.isnan(project(np.array([[0.0, 0.0, -1.0]]), INTRINSICS, np.eye(4))).all()


def test_a_moving_camera_takes_a_pose_a_point() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.1
    points = np.array([[0.1, 0.0, 1.0]] * 2)
    pixels = project(points, np.tile(INTRINSICS, (2, 1, 1)), poses)
    np.testing.assert_allclose(pixels[:, 0], [60, 50])
