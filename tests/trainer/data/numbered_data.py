"""Episodes whose frames show their own numbers, so that a frame out of place is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Episode, Field
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset

_NUM_BARS = 8


def numbered_frame(number: int, height: int = 32, width: int = 64) -> npt.NDArray[np.uint8]:
    """(H, W, 3): eight bars, white where the number's bit is one. Survives any codec."""
    bits = (number >> np.arange(_NUM_BARS)) & 1
    row = np.repeat(np.where(bits, 235, 20), width // _NUM_BARS)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def shown_numbers(frames: npt.NDArray[np.uint8]) -> list[int]:
    """Of frames (N, H, W, 3)."""
    bar = frames.shape[2] // _NUM_BARS
    row = frames[:, frames.shape[1] // 2, bar // 2 :: bar].mean(axis=-1) > 128
    return [int((bits << np.arange(_NUM_BARS)).sum()) for bits in row]


def poses(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T, 4, 4), turning about z and moving along a curve."""
    found = np.tile(np.eye(4), (len(angles), 1, 1))
    found[:, 0, 0] = found[:, 1, 1] = np.cos(angles)
    found[:, 0, 1], found[:, 1, 0] = -np.sin(angles), np.sin(angles)
    found[:, :3, 3] = np.stack([angles, angles**2, -angles], axis=1)
    return found


def robot_episode(
    number: int, num_steps: int, *, first_frame: int = 0, rate_hz: float = 10.0, **facts: Any
) -> ArrayEpisode:
    """One arm and gripper, two cameras of which one is calibrated."""
    random = np.random.default_rng(number)
    angles = np.linspace(0, 1 + number, num_steps)
    arm, hand = "right::panda", "right::panda_hand"
    pose = {"shape": (4, 4), "kind": "pose", "unit": "m", "frame": "table", "part": arm}
    width = {"shape": (), "kind": "gripper", "unit": "m", "part": hand}
    joints = {"shape": (7,), "kind": "joint_position", "unit": "rad", "part": arm}
    told: dict[str, Any] = {
        "instructions": {"original": (f"do task {number % 2}",), "verbose": ("a", "b")},
        "task": f"Task{number % 2}",
        "success": number % 2 == 0,
        "seed": number,
        "provenance": {"robot": "panda", "teacher": "expert"},
        "camera_frame": "table",
    }
    return ArrayEpisode.make(
        f"episode_{number:06d}",
        rate_hz=rate_hz,
        fields={
            f"actual/pose/{arm}": (Field(role="observed", **pose), poses(angles)),
            f"actual/width_m/{hand}": (Field(role="observed", **width), angles / 10),
            f"actual/joint_position_rad/{arm}": (
                Field(role="observed", **joints),
                random.normal(size=(num_steps, 7)),
            ),
            f"action/pose/{arm}": (Field(role="action", **pose), poses(angles + 0.1)),
            f"action/width_m/{hand}": (Field(role="action", **width), angles / 20),
            "contact": (Field(shape=(), dtype="bool"), angles > 0.5),
            "count": (Field(shape=(2,), dtype="int32", names=("a", "b")), _counts(num_steps)),
        },
        images={
            "scene": np.stack([numbered_frame(first_frame + k, 48) for k in range(num_steps)]),
            "wrist": np.stack([numbered_frame(first_frame + 100 + k) for k in range(num_steps)]),
        },
        intrinsics={"scene": np.tile(np.diag([50.0, 51.0, 1.0]), (num_steps, 1, 1))},
        extrinsics={"scene": poses(angles)},
        **{**told, **facts},
    )


def robot_dataset(lengths: Sequence[int] = (12, 7, 20)) -> MemoryDataset:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return MemoryDataset(
        [
            robot_episode(number, length, first_frame=int(starts[number]))
            for number, length in enumerate(lengths)
        ]
    )


def assert_same_numbers(got: Episode, expected: Episode) -> None:
    """Every field, time and calibration, exactly."""
    assert got.description.fields == expected.description.fields
    for name in expected.description.fields:
        values = expected.read(name)
        assert got.read(name).dtype == values.dtype, name
        np.testing.assert_array_equal(got.read(name), values, err_msg=name)
        np.testing.assert_array_equal(got.read(name, 2, 5), values[2:5], err_msg=name)
    np.testing.assert_array_equal(got.times_s(), expected.times_s())
    for name, camera in expected.description.cameras.items():
        if camera.has_intrinsics:
            np.testing.assert_array_equal(got.intrinsics(name), expected.intrinsics(name))
        if camera.has_extrinsics:
            np.testing.assert_array_equal(got.extrinsics(name, 1), expected.extrinsics(name, 1))


def _counts(num_steps: int) -> npt.NDArray[np.int32]:
    return np.arange(2 * num_steps, dtype=np.int32).reshape(num_steps, 2)
