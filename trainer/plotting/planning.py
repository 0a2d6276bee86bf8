"""Policies asked to plan on recorded episodes.

Axes: N window, T timestep, A arm, G gripper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy_interface.contract import ContractError, differences
from policy_interface.types import (
    Action,
    CameraView,
    FloatArray,
    Observation,
    Pose,
    RobotState,
)
from trainer.checkpoint import Checkpoint, read_checkpoint
from trainer.data.batches import chunk_window
from trainer.data.formats.catalog import open_dataset
from trainer.data.frame_workers import EpisodeFrames
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import open_robot_data, robot_sources
from trainer.foundry.configuration import FoundryPolicyConfig
from trainer.inference import Policy
from trainer.open_loop import OpenLoopPlans
from trainer.plotting.errors import PlottingError
from trainer.policy_loading import load_policy
from trainer.run_directory import RunDirectory
from trainer.scarce_memory import is_out_of_memory

_MANIFEST = "MANIFEST.json"
# Observations in memory at once.
_TOGETHER = 16


def checkpoint_of(path: Path) -> Path:
    """A checkpoint itself, or the final one of a run. Raises PlottingError for neither."""
    final = RunDirectory(root=path).final_checkpoint
    for folder in (path, final):
        if (folder / _MANIFEST).is_file():
            return folder
    raise PlottingError(f"{path}: neither a checkpoint nor a run that has ended in one")


def name_of_checkpoint(path: Path) -> str:
    """`box` of runs/box and of its final checkpoint, `box/step_000300` of an earlier one."""
    if path.parent.name != "checkpoints":
        return path.name
    run = path.parent.parent.name
    return run if path.name == "final" else f"{run}/{path.name}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A policy beside the recordings that it is to plan on.

    held_out: numbers of episodes that it was not trained on; None where it is not known, since it
    was trained on other data.
    """

    name: str
    checkpoint: Checkpoint
    policy: Policy
    recordings: RobotRecordings
    held_out: frozenset[int] | None

    @staticmethod
    def load(name: str, path: Path, data: str | None, device: str) -> Subject:
        """data: None for that which it was trained on.

        Raises PlottingError, CheckpointError, ConfigurationError, ContractError, DataError.
        """
        folder = checkpoint_of(path)
        checkpoint = read_checkpoint(folder)
        try:
            # Nobody compares bits here, and all together is many times as fast.
            policy = load_policy(folder, device=device, batch_invariant=False)
        except (RuntimeError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise PlottingError(f"--device {device}: {reason}") from error
        contract, config = checkpoint.contract, checkpoint.config
        own_data = None if isinstance(config, FoundryPolicyConfig) else config.data
        where = data or own_data
        if where is None:
            raise PlottingError(
                f"{folder}: a policy that was imported does not know its data; say with --data on "
                "which it is to plan"
            )
        if data is not None or isinstance(config, FoundryPolicyConfig):
            dataset = open_dataset(where)
        else:
            dataset = open_robot_data(config)
        recordings = read_recordings(
            dataset,
            tuple(contract.cameras),
            uses_language=contract.uses_language,
        )
        differing = differences(policy=contract, station=recordings.contract)
        if differing:
            raise ContractError(f"{where} does not fit {folder}: {'; '.join(differing)}")
        held_out = None
        is_own = recordings.digest == checkpoint.provenance.get("data_sha256")
        if is_own and not isinstance(config, FoundryPolicyConfig):
            held_out = frozenset(
                recordings.episodes[place]
                for source in robot_sources(config, recordings)
                for place in source.held_out
            )
        return Subject(
            name=name,
            checkpoint=checkpoint,
            policy=policy,
            recordings=recordings,
            held_out=held_out,
        )

    def plan(self, episodes: Sequence[int]) -> OpenLoopPlans:
        """As if it replanned after each `open_loop_steps` of each episode, by its number."""
        recordings, policy = self.recordings, self.policy
        window = chunk_window(policy.chunk_length)
        numbers, anchors, rows, valid, actions = [], [], [], [], []
        for number in episodes:
            place = recordings.episodes.index(number)
            start, stop = recordings.episode_starts[place : place + 2].tolist()
            anchors_N = np.arange(0, stop - start, policy.open_loop_steps)
            steps_NT, valid_NT = window.steps(anchors_N, stop - start)
            for first in range(0, len(anchors_N), _TOGETHER):
                some = anchors_N[first : first + _TOGETHER].tolist()
                # Of each window its own noise, whatever else is asked for.
                actions += policy.plan(self._histories(place, some), some)
            numbers.append(np.full(len(anchors_N), number))
            anchors.append(anchors_N)
            rows.append(start + steps_NT)
            valid.append(valid_NT)
        contract, rows_NT = recordings.contract, np.concatenate(rows)
        return OpenLoopPlans(
            arms=contract.arms,
            grippers=contract.grippers,
            rate_hz=contract.control_rate_hz,
            open_loop_steps=policy.open_loop_steps,
            episode=np.concatenate(numbers),
            anchor=np.concatenate(anchors),
            poses=np.array([self._poses(plan) for plan in actions]),
            widths_m=np.array([self._widths_m(plan) for plan in actions]),
            taught_poses=recordings.action_poses[rows_NT],
            taught_widths_m=recordings.action_widths_m[rows_NT],
            valid=np.concatenate(valid),
        )

    def _poses(self, plan: Sequence[Action]) -> list[list[np.ndarray]]:
        """(T, A, 4, 4), in the recordings' order of arms."""
        arms = self.recordings.contract.arms
        return [[action.poses[arm].matrix() for arm in arms] for action in plan]

    def _widths_m(self, plan: Sequence[Action]) -> list[list[float]]:
        """(T, G)."""
        grippers = self.recordings.contract.grippers
        return [[action.gripper_widths_m[name] for name in grippers] for action in plan]

    def _histories(self, place: int, anchors: Sequence[int]) -> list[list[Observation]]:
        """The newest observations at each anchor of an episode; before its first there are none,
        and that one stands for them, as when it is served."""
        back = range(self.policy.num_observations - 1, -1, -1)
        steps_of = [[max(0, anchor - each) for each in back] for anchor in anchors]
        steps = sorted({step for each in steps_of for step in each})
        seen = dict(zip(steps, self._observations(place, steps), strict=True))
        return [[seen[step] for step in each] for each in steps_of]

    def _observations(self, place: int, steps: Sequence[int]) -> Iterator[Observation]:
        """Of an episode, by its place in the recordings."""
        recordings = self.recordings
        contract = recordings.contract
        frames = {
            name: np.empty((len(steps), size.height, size.width, 3), np.uint8)
            for name, size in contract.cameras.items()
        }
        reader = EpisodeFrames([recordings.dataset])
        reader.read(0, recordings.episodes[place], list(steps), frames)
        for number, step in enumerate(steps):
            row = int(recordings.episode_starts[place]) + step
            actual = self._state(recordings.actual_poses[row], recordings.actual_widths_m[row])
            yield Observation(
                actual=actual,
                desired=self._state(*recordings.desired(np.array(place), np.array(step))),
                cameras={
                    name: CameraView(rgb=images[number], intrinsics=np.eye(3), X_TC=Pose.identity())
                    for name, images in frames.items()
                },
                language_instruction=self._instruction(place, row),
            )

    def _state(self, poses: FloatArray, widths_m: FloatArray) -> RobotState:
        """Of (A, 4, 4) and (G,)."""
        contract = self.recordings.contract
        return RobotState(
            poses={arm: Pose.from_matrix(poses[i]) for i, arm in enumerate(contract.arms)},
            gripper_widths_m={name: float(widths_m[i]) for i, name in enumerate(contract.grippers)},
        )

    def _instruction(self, place: int, row: int) -> str | None:
        phrasings = self.recordings.instructions[place]
        if not phrasings:
            return None
        # Where any holds, the first.
        return phrasings[max(0, int(self.recordings.instruction_places[row]))]
