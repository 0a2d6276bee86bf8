"""Episodes that look like a simulation's: smooth shading, a textured table, things that move.

JPEG's size and speed depend on what is in an image, and noise would be neither small nor like a
camera's picture. An episode draws its frames when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ImageSize
from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Dataset, Episode, EpisodeDescription, Field, FieldRole
from trainer.data.poses import make_poses

CAMERAS = ("scene_right_0", "wrist_right_minus")
ROLES: tuple[tuple[FieldRole, str], ...] = (
    ("observed", "actual"),
    ("desired", "desired"),
    ("action", "action"),
)


class SceneDataset(Dataset):
    format_name = "rendered"

    def __init__(self, num_episodes: int, num_steps: int, side: int) -> None:
        self.where = "rendered scenes"
        self._size = num_episodes, num_steps, side

    def __len__(self) -> int:
        return self._size[0]

    def episode(self, index: int) -> Episode:
        return SceneEpisode(index, self._size[1], self._size[2])


class SceneEpisode(Episode):
    """Two arms, their grippers and joints, and two cameras."""

    def __init__(self, index: int, num_steps: int, side: int) -> None:
        self._index, self._num_steps, self._side = index, num_steps, side
        size = ImageSize(height=side, width=side)
        self._contract = Contract(cameras=dict.fromkeys(CAMERAS, size))

    @cached_property
    def _values(self) -> dict[str, tuple[Field, npt.NDArray[Any]]]:
        rng = np.random.default_rng(self._index)
        steps = self._num_steps
        frame = self._contract.frame

        def path(size: int, scale: float) -> FloatArray:
            return scale * np.cumsum(rng.standard_normal((steps, size)), axis=0) / np.sqrt(steps)

        values: dict[str, tuple[Field, npt.NDArray[Any]]] = {}
        for role, name in ROLES:
            for arm in self._contract.arms:
                angle = path(1, 0.5)[:, 0]
                rotation = np.zeros((steps, 3, 3))
                rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(angle)
                rotation[:, 1, 0], rotation[:, 0, 1] = np.sin(angle), -np.sin(angle)
                rotation[:, 2, 2] = 1
                pose = Field(shape=(4, 4), kind="pose", role=role, unit="m", frame=frame, part=arm)
                values[f"{name}/pose/{arm}"] = (pose, make_poses(rotation, path(3, 0.3)))
            for gripper in self._contract.grippers:
                width = Field(shape=(), kind="gripper", role=role, unit="m", part=gripper)
                opening = 0.04 + 0.04 * np.tanh(path(1, 2.0)[:, 0])
                values[f"{name}/width_m/{gripper}"] = (width, opening)
        for arm in self._contract.arms:
            joints = Field(shape=(7,), kind="joint_position", role="observed", unit="rad", part=arm)
            values[f"actual/joint_position_rad/{arm}"] = (joints, path(7, 1.0))
        return values

    @property
    def description(self) -> EpisodeDescription:
        camera = Camera(height=self._side, width=self._side, encoding="raw")
        return EpisodeDescription(
            episode_id=f"episode_{self._index:06d}",
            num_steps=self._num_steps,
            rate_hz=self._contract.control_rate_hz,
            fields={name: field for name, (field, _) in self._values.items()},
            cameras=dict.fromkeys(CAMERAS, camera),
            instructions={"original": ("Put the box on the shelf.",)},
            success=True,
            provenance={"contract": self._contract.to_json()},
        )

    def times_s(self) -> FloatArray:
        return np.arange(self._num_steps) / self._contract.control_rate_hz

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        return self._values[name][1][start:stop]

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        self.check_steps(camera, steps)
        side = self._side
        rng = np.random.default_rng([self._index, CAMERAS.index(camera)])
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
        # A wall that is lit from one side, above a table whose grain runs in waves.
        grain = np.sin(40 * x + 6 * np.sin(7 * y + rng.uniform(0, 6))) * 6
        fibres = 4 * np.sin(90 * y + 9 * np.sin(23 * x + rng.uniform(0, 6)))
        shade = 90 + 80 * x + 40 * y
        scene = np.stack([shade, shade * 0.9 + 10, shade * 0.8 + 20], axis=-1)
        table = y > 0.45
        scene[table] = scene[table] * 0.5 + np.array([90, 60, 35])
        scene += np.where(table, grain + fibres, 0)[..., None]
        colours = rng.uniform(20, 240, (6, 3))
        centres, radii = rng.uniform(0.15, 0.85, (6, 2)), rng.uniform(0.03, 0.12, 6)
        speeds = rng.uniform(-0.15, 0.15, (6, 2))
        images = np.empty((len(steps), side, side, 3), np.uint8)
        for place, step in enumerate(steps):
            image = scene.copy()
            for colour, centre, radius, speed in zip(colours, centres, radii, speeds, strict=True):
                now = centre + speed * np.sin(step / 15)
                distance = np.hypot(x - now[0], y - now[1]) / radius
                inside = distance < 1
                lit = np.sqrt(1 - distance[inside] ** 2)
                image[inside] = colour * (0.35 + 0.65 * lit[:, None])
            images[place] = np.clip(image, 0, 255)
        return images
