"""Policies of cameras and robot states, trained on demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import Checkpoint, build_network, write_checkpoint
from trainer.configuration import TrainConfig
from trainer.data.batches import Batch, TrainingData
from trainer.data.formats.catalog import open_dataset
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.windows import split_episodes
from trainer.learner import num_threads_of
from trainer.policy_learner import PolicyLearner
from trainer.provenance import describe_data
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.validation import ActionError, Validator


def open_policy_stage(config: TrainConfig) -> Callable[[], PolicyStage]:
    recordings = read_recordings(open_dataset(config.data), config.cameras)
    return partial(PolicyStage, config, recordings)


class PolicyStage(Stage[PolicyLearner, Batch]):
    def __init__(self, config: TrainConfig, recordings: RobotRecordings) -> None:
        self._config, self._recordings = config, recordings
        self.data_digest = recordings.digest
        device = torch.device(config.device)
        training, held_out = split_episodes(recordings.num_episodes, config.validation_episodes)
        self._num_training_episodes = len(training)
        self._data = TrainingData(recordings, training, config, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(config, recordings.contract, self._data.transform)
        self.learner = PolicyLearner(network, config, device, num_threads=num_threads_of(config))
        self._action_error: ActionError | None = None
        self._validator = None
        if held_out:
            self._validator = Validator(
                recordings,
                held_out,
                self._data.transform,
                open_loop_steps=config.serving.open_loop_steps,
                num_flow_steps=config.serving.num_flow_steps,
            )

    def describe(self) -> str:
        recordings = self._recordings
        return (
            f"{self._num_training_episodes} of {recordings.num_episodes} episodes "
            f"({recordings.num_steps} frames, {len(recordings.contract.cameras)} cameras)"
        )

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self._data.batches(start, stop)

    def step(self, batch: Batch, step: int) -> StepReport:
        result = self.learner.step(batch, step, self._data.generator(step))
        return StepReport(result=result, counts={"samples": self._config.batch_size})

    def measure(self) -> Measurement | None:
        if self._validator is None:
            return None
        error = self._validator.measure(self.learner.network, self.learner.ema)
        self._action_error = error
        return Measurement(
            scalars=asdict(error),
            told=(
                f"held-out action error {error.position_mm:.1f} mm, "
                f"{error.rotation_deg:.1f} deg, gripper {error.gripper_mm:.1f} mm"
            ),
        )

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        error = None if self._action_error is None else asdict(self._action_error)
        write_checkpoint(
            Checkpoint(
                weights=self.learner.ema,
                config=self._config,
                transform=self._data.transform,
                contract=self._recordings.contract,
                provenance={
                    **provenance,
                    "held_out_action_error": error,
                    **describe_data(self._recordings, self._num_training_episodes),
                },
            ),
            path,
        )

    def close(self) -> None:
        self._data.close()
