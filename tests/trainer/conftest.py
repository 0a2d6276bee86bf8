"""Tiny synthetic demonstrations: a bright square says where the right arm has to go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    Contract,
    ImageSize,
)
from policy_interface.demonstration import (
    CameraTrack,
    Demonstration,
    MotionTrack,
    demonstration_path,
    save_demonstration,
)
from policy_interface.types import CameraView, Observation, Pose, RobotState
from trainer.models.configuration import FlowHeadConfig, ModelConfig, VisionConfig
from trainer.policy_configuration import TrainConfig
from trainer.training_configuration import OptimizerConfig

HEIGHT, WIDTH = 40, 48
CAMERAS = {
    "scene.right": ImageSize(height=HEIGHT, width=WIDTH),
    "wrist": ImageSize(height=HEIGHT, width=HEIGHT),
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def rotation_about_z(angle_rad: float) -> np.ndarray:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def synthetic_demonstration(
    index: int, *, num_steps: int = 14, contract: Contract | None = None, success: bool = True
) -> Demonstration:
    contract = contract or Contract(cameras=CAMERAS, control_rate_hz=10.0)
    rng = np.random.default_rng(index)
    goal = rng.uniform(-0.2, 0.2, 2)
    progress = np.linspace(0, 1, num_steps + 1)
    path = np.tile(np.eye(4), (num_steps + 1, 1, 1))
    path[:, 0, 3], path[:, 1, 3], path[:, 2, 3] = goal[0] * progress, goal[1] * progress, 0.3
    path[:, :3, :3] = [rotation_about_z(a) for a in progress * goal[0]]
    idle = np.tile(np.eye(4), (num_steps, 1, 1))
    idle[:, :3, 3] = [0.0, 0.4, 0.3]
    idle[:, :3, 3] += 1e-5 * rng.standard_normal((num_steps, 3))
    width = np.where(progress < 0.7, 0.08, 0.0)

    def motion(steps: slice) -> MotionTrack:
        return MotionTrack(
            poses={RIGHT_ARM: path[steps], LEFT_ARM: idle},
            gripper_widths_m={RIGHT_GRIPPER: width[steps], LEFT_GRIPPER: np.full(num_steps, 0.08)},
        )

    def images(size: ImageSize) -> np.ndarray:
        rgb = np.full((num_steps, size.height, size.width, 3), 60, np.uint8)
        row = int((0.5 + goal[0]) * (size.height - 8))
        column = int((0.5 + goal[1]) * (size.width - 8))
        rgb[:, row : row + 8, column : column + 8] = (230, 40, 30)
        return rgb

    return Demonstration(
        task="ReachTheSquare",
        instruction="Reach the square.",
        scenario_index=index,
        seed=index + 100,
        success=success,
        teacher="straight line",
        contract=contract,
        time_s=np.arange(num_steps) / 10.0,
        actual=motion(slice(None, -1)),
        desired=motion(slice(None, -1)),
        action=motion(slice(1, None)),
        cameras={
            name: CameraTrack(
                rgb=images(size), intrinsics=np.eye(3), X_TC=np.tile(np.eye(4), (num_steps, 1, 1))
            )
            for name, size in contract.cameras.items()
        },
    )


@pytest.fixture(scope="session")
def make_demonstration() -> Callable[..., Demonstration]:
    return synthetic_demonstration


@pytest.fixture(scope="session")
def demonstration_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten episodes of 14 steps."""
    folder = tmp_path_factory.mktemp("demonstrations")
    for index in range(10):
        save_demonstration(synthetic_demonstration(index), demonstration_path(folder, index))
    return folder


@pytest.fixture(scope="session")
def tiny_config(demonstration_folder: Path) -> TrainConfig:
    """Twelve optimizer steps that take about a second."""
    return TrainConfig(
        data=str(demonstration_folder),
        name="tiny",
        chunk_length=8,
        batch_size=12,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_episodes=2,
        validation_every=6,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=2e-3),
        model=ModelConfig(
            vision=VisionConfig(stem_channels=8, channels=16, num_keypoints=8, pooled_size=2),
            flow_head=FlowHeadConfig(
                width=64,
                depth=2,
                num_heads=2,
                mlp_ratio=2,
                timesteps_per_token=2,
                flow_times_per_image=2,
            ),
        ),
    )


@pytest.fixture(scope="session")
def trained_checkpoint(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The final checkpoint of a short run."""
    from trainer.training_loop import train

    return train(replace(tiny_config, num_steps=6), tmp_path_factory.mktemp("runs") / "short")


@pytest.fixture(scope="session")
def make_observation() -> Callable[..., Observation]:
    def make(seed: int, cameras: dict[str, ImageSize] | None = None) -> Observation:
        rng = np.random.default_rng(seed)

        def state() -> RobotState:
            return RobotState(
                poses={
                    arm: Pose(
                        rotation=rotation_about_z(rng.uniform(-1, 1)),
                        translation_m=rng.uniform(-0.3, 0.3, 3),
                    )
                    for arm in (RIGHT_ARM, LEFT_ARM)
                },
                gripper_widths_m={RIGHT_GRIPPER: 0.05, LEFT_GRIPPER: 0.08},
            )

        return Observation(
            actual=state(),
            desired=state(),
            cameras={
                name: CameraView(
                    rgb=rng.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8),
                    intrinsics=np.eye(3),
                    X_TC=Pose.identity(),
                )
                for name, size in (CAMERAS if cameras is None else cameras).items()
            },
        )

    return make
