"""Clean episodes of a made-up arm, and a way to plant one fault in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data.episode import Field
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset

RATE_HZ = 10.0
NUM_STEPS = 60
FRAME = "table"
POSE, GRIPPER, JOINTS = "actual/pose", "actual/width", "actual/joints"
ACTION_POSE, ACTION_GRIPPER = "action/pose", "action/width"
HIGH, LOW = "high", "low"

FIELDS = {
    POSE: Field(shape=(4, 4), kind="pose", role="observed", unit="m", frame=FRAME, part="right"),
    GRIPPER: Field(shape=(), kind="gripper", role="observed", unit="m", part="right"),
    JOINTS: Field(shape=(7,), kind="joint_position", role="observed", unit="rad", part="panda"),
    ACTION_POSE: Field(
        shape=(4, 4), kind="pose", role="action", unit="m", frame=FRAME, part="right"
    ),
    ACTION_GRIPPER: Field(shape=(), kind="gripper", role="action", unit="m", part="right"),
}


@dataclass
class Parts:
    """What an episode is made of, to be changed before it is made."""

    episode_id: str
    arrays: dict[str, NDArray[Any]]
    images: dict[str, NDArray[np.uint8]]
    times_s: NDArray[np.float64]
    intrinsics: dict[str, NDArray[np.float64]]
    extrinsics: dict[str, NDArray[np.float64]]
    fields: dict[str, Field] = field(default_factory=lambda: dict(FIELDS))
    facts: dict[str, Any] = field(default_factory=dict)
    rate_hz: float = RATE_HZ


def rotation_about(axis: int, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrices[:, a, a] = matrices[:, b, b] = np.cos(angles)
    matrices[:, a, b], matrices[:, b, a] = -np.sin(angles), np.sin(angles)
    return matrices


def _parts(number: int, num_steps: int = NUM_STEPS) -> Parts:
    """The hand follows its command a step later; two cameras look at it, one of them calibrated."""
    generator = np.random.default_rng(number)
    times = np.arange(num_steps + 1) / RATE_HZ
    phases = generator.uniform(0, 2 * np.pi, (3, 2))
    path = np.stack(
        [
            0.15 * np.sin(2 * np.pi * 0.25 * times + a) + 0.05 * np.sin(2 * np.pi * 0.6 * times + b)
            for a, b in phases
        ],
        axis=1,
    )
    poses = np.tile(np.eye(4), (num_steps + 1, 1, 1))
    poses[:, :3, 3] = path
    # About an axis on which a rotation and its transpose differ by far.
    poses[:, :3, :3] = rotation_about(0, 1.2 + 0.3 * np.sin(times)) @ rotation_about(
        2, 0.8 + 0.2 * np.sin(times + phases[0, 0])
    )
    widths = np.where(np.sin(2 * np.pi * 0.2 * times + phases[1, 0]) > 0, 0.08, 0.02)
    middle = np.array([0.0, 0.0, 0.0, -1.5, 0.0, 1.8, 0.0])
    joints = middle + 0.3 * np.sin(times[:, None] + phases[2, 0] + np.arange(7))
    camera_poses = np.tile(np.eye(4), (num_steps, 1, 1))
    camera_poses[:, :3, 3] = (0, 0, -1)
    return Parts(
        episode_id=f"episode_{number:06d}",
        arrays={
            POSE: poses[:-1],
            GRIPPER: widths[:-1],
            JOINTS: joints[:-1],
            ACTION_POSE: poses[1:],
            ACTION_GRIPPER: widths[1:],
        },
        images={HIGH: _frames(path[:-1], (200, 60, 40)), LOW: _frames(path[:-1], (40, 80, 180))},
        times_s=times[:-1],
        intrinsics={HIGH: np.tile([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]], (num_steps, 1, 1))},
        extrinsics={HIGH: camera_poses},
        facts={
            "task": "wave",
            "instructions": {"original": ("Wave your hand.",)},
            "success": True,
            "seed": number,
        },
    )


def _frames(path: NDArray[np.float64], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The hand is a white square where it is, on a shaded ground."""
    frames = np.empty((len(path), 24, 32, 3), np.uint8)
    shade = np.linspace(0.5, 1, 24)[:, None, None]
    frames[:] = (shade * np.array(background)).astype(np.uint8)
    for frame, (x, y, _) in zip(frames, path, strict=True):
        column, row = int(16 + 50 * x), int(12 + 30 * y)
        frame[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 255
        frame[0, 0] = (int(abs(x) * 900) % 256, int(abs(y) * 900) % 256, 0)
    return frames


MakeDataset = Callable[..., MemoryDataset]


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """Five episodes, with a fault in those that `into` numbers: make(plant, into, numbers)."""
    return _dataset


def _dataset(
    plant: Callable[[Parts], None] | None = None,
    *,
    into: tuple[int, ...] = (0, 1, 2, 3, 4),
    numbers: range = range(5),
) -> MemoryDataset:
    episodes = []
    for index, number in enumerate(numbers):
        made = _parts(number)
        if plant is not None and index in into:
            plant(made)
        episodes.append(
            ArrayEpisode.make(
                made.episode_id,
                rate_hz=made.rate_hz,
                fields={
                    name: (made.fields[name], np.asarray(array, made.fields[name].dtype))
                    for name, array in made.arrays.items()
                },
                images=made.images,
                intrinsics=made.intrinsics,
                extrinsics=made.extrinsics,
                camera_frame=FRAME,
                times_s=made.times_s,
                **made.facts,
            )
        )
    return MemoryDataset(episodes)
