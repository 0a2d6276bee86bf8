"""Observations for load: images that compress as a camera's do, and differ from step to step.

Noise does not compress and a flat colour compresses to nothing, so a scene is drawn: a shaded table
before a wall, a few objects on it that move, and the little noise that every sensor has.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER, ImageSize
from policy_interface.types import CameraView, Observation, Pose, RobotState

_CONTROL_PERIOD_S = 0.1
_NUM_OBJECTS = 6
_NOISE_LEVELS = 1.5

_Plane = npt.NDArray[np.float64]


def scene_observations(
    *, num_cameras: int, size: ImageSize, num_steps: int, seed: int = 0
) -> list[Observation]:
    """Consecutive control steps of a two-armed station."""
    generator = np.random.default_rng(seed)
    scenes = [_Scene(generator, size) for _ in range(num_cameras)]
    focal_px = float(size.width)
    intrinsics = np.array(
        [[focal_px, 0, size.width / 2], [0, focal_px, size.height / 2], [0, 0, 1]]
    )
    return [
        Observation(
            actual=_state(step),
            desired=_state(step + 1),
            cameras={
                f"camera_{index}": CameraView(
                    rgb=scene.image(step, generator),
                    intrinsics=intrinsics,
                    X_TC=Pose.identity(),
                )
                for index, scene in enumerate(scenes)
            },
            language_instruction="put the mug on the plate",
            time_s=step * _CONTROL_PERIOD_S,
        )
        for step in range(num_steps)
    ]


def _state(step: int) -> RobotState:
    sway_m = 0.05 * np.sin(0.2 * step)
    joints_rad = np.linspace(-1.0, 1.0, 7) + 0.01 * step
    return RobotState(
        poses={
            RIGHT_ARM: Pose(rotation=np.eye(3), translation_m=np.array([0.4, -0.2, 0.3 + sway_m])),
            LEFT_ARM: Pose(rotation=np.eye(3), translation_m=np.array([0.4, 0.2, 0.3 - sway_m])),
        },
        gripper_widths_m={RIGHT_GRIPPER: 0.04, LEFT_GRIPPER: 0.04},
        joint_positions_rad={RIGHT_ARM: joints_rad, LEFT_ARM: -joints_rad},
    )


class _Scene:
    """What one camera sees."""

    def __init__(self, generator: np.random.Generator, size: ImageSize) -> None:
        self._size = size
        # Both from 0 to 1, x to the right and y downwards.
        self._y, self._x = np.mgrid[0 : 1 : size.height * 1j, 0 : 1 : size.width * 1j]
        self._background = self._shaded(generator)
        self._centres = generator.uniform(0.15, 0.85, (_NUM_OBJECTS, 2))
        self._radii = generator.uniform(0.04, 0.14, _NUM_OBJECTS)
        self._colours = generator.uniform(30, 230, (_NUM_OBJECTS, 3))
        self._phases = generator.uniform(0, 2 * np.pi, _NUM_OBJECTS)

    def _shaded(self, generator: np.random.Generator) -> npt.NDArray[np.float64]:
        """(H, W, 3): a wall above a table of planks, lit from one side."""
        wall, table = generator.uniform(120, 200, 3), generator.uniform(80, 160, 3)
        horizon = generator.uniform(0.25, 0.4)
        planks = 6 * np.sin(40 * self._x / (self._y + 0.6)) * (self._y > horizon)
        light = 1.1 - 0.4 * self._x - 0.2 * np.abs(self._y - horizon)
        colour = np.where((self._y > horizon)[..., None], table, wall)
        return colour * light[..., None] + planks[..., None]

    def image(self, step: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
        """(H, W, 3)."""
        image = self._background.copy()
        drift = 0.02 * np.stack(
            [np.sin(0.3 * step + self._phases), np.cos(0.3 * step + self._phases)], axis=1
        )
        for (x, y), radius, colour in zip(
            self._centres + drift, self._radii, self._colours, strict=True
        ):
            distance = np.hypot(self._x - x, self._y - y) / radius
            inside = distance < 1
            # Lit like a ball.
            shade = np.sqrt(np.clip(1 - distance[inside] ** 2, 0.1, 1))
            image[inside] = colour * shade[:, None]
        image += generator.normal(0, _NOISE_LEVELS, image.shape)
        return np.clip(image, 0, 255).astype(np.uint8)
