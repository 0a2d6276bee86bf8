"""Policies of convolutions and a flow head, or of a baseline's."""

from __future__ import annotations

from dataclasses import replace

from trainer.models.configuration import (
    DiffusionHeadConfig,
    FlowHeadConfig,
    ModelConfig,
    RegressionHeadConfig,
    VisionConfig,
)
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.training_configuration import OptimizerConfig


def pick_and_place_box() -> TrainConfig:
    """The quickstart: one right-armed task, two cameras, a few minutes on two CPU cores.

    Measured with 100 demonstrations of 96x96 pixels: 50 of 50 unseen episodes after 400 steps and
    49 after 600. By AdamW it took 1200 steps to 48. A step takes some 0.2 CPU-seconds where
    bfloat16 is fast, 0.3 elsewhere.
    """
    return TrainConfig(
        name="pick_and_place_box",
        cameras=("scene_right_0", "wrist_right_minus"),
        num_steps=500,
        checkpoint_steps=(100,),
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def put_mug_on_saucer() -> TrainConfig:
    """Either arm, the one nearer to the mug: the quickstart's network, both hands' cameras.

    Measured with 110 demonstrations of 96x96 pixels: 48 of 50 unseen episodes after 1500 steps. By
    AdamW it took 3000 steps to 42.
    """
    return TrainConfig(
        name="put_mug_on_saucer",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        num_steps=1500,
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def one_task() -> TrainConfig:
    """Any of the simulation's tasks, by one arm or both: some twenty-two minutes of a CPU thread.

    By Muon: after 150 s of one thread the held-out error was 16 mm in place of AdamW's 21 mm.
    """
    return TrainConfig(
        name="one_task",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        batch_size=32,
        num_steps=4000,
        validation_every=500,
        save_state_every=250,
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def one_task_diffusion() -> TrainConfig:
    """A baseline for one_task: the convolutional diffusion policy's head, all else alike."""
    return replace(
        one_task(), name="one_task_diffusion", model=ModelConfig(baseline=DiffusionHeadConfig())
    )


def one_task_act() -> TrainConfig:
    """A baseline for one_task: ACT's head and its L1 loss, all else alike."""
    return replace(
        one_task(),
        name="one_task_act",
        model=ModelConfig(baseline=RegressionHeadConfig()),
        serving=ServingConfig(num_flow_steps=1),
    )


def smoke() -> TrainConfig:
    """Seconds, on whatever was recorded: shows that the machinery runs, and nothing else."""
    return TrainConfig(
        name="smoke",
        num_steps=20,
        batch_size=16,
        checkpoint_steps=(10,),
        validation_episodes=1,
        validation_every=10,
        save_state_every=10,
        optimizer=OptimizerConfig(warmup_steps=5),
        model=ModelConfig(
            vision=VisionConfig(stem_channels=8, channels=16, num_keypoints=8),
            flow_head=FlowHeadConfig(width=64, depth=2, mlp_ratio=2, flow_times_per_image=2),
        ),
    )
