"""A checkpoint as a policy: observations in, chunks of absolute actions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from policy_interface.contract import (
    CHECKPOINT_DIGEST_KEY,
    CONTRACT_KEY,
    RUNTIME_PREFIX,
    Contract,
    ContractError,
    violations,
)
from policy_interface.types import Action, FloatArray, Observation, PolicyMetadata, Pose
from trainer.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from trainer.configuration_json import config_to_json
from trainer.data.robot_transform import RobotTransform
from trainer.models.policy_network import PolicyNetwork, images_to_input

NoiseSource = np.random.Generator | int


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """Plans for any number of episodes at once; it keeps no state between calls.

    chunk_length: actions a plan. open_loop_steps: how many of them to execute before replanning.
    num_observations: observations that a plan looks at, the newest last.
    """

    contract: Contract
    metadata: PolicyMetadata
    chunk_length: int
    open_loop_steps: int
    num_flow_steps: int
    device: torch.device
    transform: RobotTransform
    network: PolicyNetwork
    num_observations: int = 1

    def plan(
        self, observations: Sequence[Sequence[Observation]], noise: Sequence[NoiseSource]
    ) -> list[list[Action]]:
        """One chunk a request, all in one forward pass.

        observations: for each request its newest `num_observations`, the newest last.
        noise: for each request a seed, or a generator to draw from. A request's chunk depends
        on its own observations and noise alone; its batch mates change float rounding at most.
        Raises ContractError where an observation breaks the contract.
        """
        if len(observations) != len(noise):
            raise ValueError(
                f"expected {len(observations)} noise sources, one a request, got {len(noise)}"
            )
        if not observations:
            return []
        newest = [self._newest(index, history) for index, history in enumerate(observations)]
        anchor_poses = np.stack(
            [[o.actual.poses[arm].matrix() for arm in self.contract.arms] for o in newest]
        )
        anchor_widths_m = np.array(
            [
                [o.actual.gripper_widths_m[gripper] for gripper in self.contract.grippers]
                for o in newest
            ]
        ).reshape(len(newest), len(self.contract.grippers))
        chunk_shape = (self.chunk_length, self.transform.num_numbers)
        noise_BTA = np.stack(
            [np.random.default_rng(source).standard_normal(chunk_shape) for source in noise]
        )
        images = {
            name: images_to_input(
                torch.from_numpy(np.stack([o.cameras[name].rgb for o in newest])).to(self.device)
            )
            for name in self.contract.cameras
        }
        proprioception = self.transform.encode_proprioception(anchor_poses, anchor_widths_m)
        with torch.inference_mode():
            chunk_BTA = self.network(
                images,
                torch.from_numpy(proprioception).float().to(self.device),
                torch.from_numpy(noise_BTA).float().to(self.device),
                self.num_flow_steps,
            )
        poses, widths_m = self.transform.decode_actions(
            anchor_poses, chunk_BTA.cpu().double().numpy()
        )
        return [self._actions(poses[i], widths_m[i]) for i in range(len(newest))]

    def _newest(self, index: int, history: Sequence[Observation]) -> Observation:
        if len(history) != self.num_observations:
            raise ValueError(
                f"request {index}: expected {self.num_observations} observation(s), "
                f"the newest last, got {len(history)}"
            )
        broken = violations(self.contract, history[-1])
        if broken:
            raise ContractError(f"request {index}: {'; '.join(broken)}")
        return history[-1]

    def _actions(self, poses: FloatArray, widths_m: FloatArray) -> list[Action]:
        """From (T, A, 4, 4) and (T, G)."""
        return [
            Action(
                poses={
                    arm: Pose.from_matrix(poses[t, i]) for i, arm in enumerate(self.contract.arms)
                },
                gripper_widths_m={
                    gripper: float(widths_m[t, i])
                    for i, gripper in enumerate(self.contract.grippers)
                },
            )
            for t in range(len(poses))
        ]


def load_policy(
    path: str | Path, *, device: str = "cpu", num_flow_steps: int | None = None
) -> Policy:
    """From a checkpoint's directory alone. num_flow_steps: None takes the checkpoint's own.

    Raises CheckpointError for anything but a whole checkpoint.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    steps = checkpoint.config.serving.num_flow_steps if num_flow_steps is None else num_flow_steps
    if steps < 1:
        raise ValueError(f"num_flow_steps: expected at least 1, got {steps}")
    try:
        network = checkpoint.build_network()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Policy(
        contract=checkpoint.contract,
        metadata=_metadata(checkpoint, path, num_flow_steps=steps),
        chunk_length=checkpoint.transform.chunk_length,
        open_loop_steps=checkpoint.config.serving.open_loop_steps,
        num_flow_steps=steps,
        device=torch.device(device),
        transform=checkpoint.transform,
        network=network.to(torch.device(device)),
    )


def _metadata(checkpoint: Checkpoint, path: Path, *, num_flow_steps: int) -> PolicyMetadata:
    provenance = checkpoint.provenance
    step = provenance.get("optimizer_step")
    return PolicyMetadata(
        name=checkpoint.config.name if step is None else f"{checkpoint.config.name}@{step}",
        skill_type=", ".join(provenance.get("tasks", [])) or "Undefined",
        checkpoint_path=str(path),
        git_sha=provenance.get("git_sha") or "",
        raw_policy_config=config_to_json(checkpoint.config),
        is_language_conditioned=checkpoint.contract.uses_language,
        runtime_information={
            CONTRACT_KEY: checkpoint.contract.to_json(),
            CHECKPOINT_DIGEST_KEY: checkpoint.digest or "",
            f"{RUNTIME_PREFIX}num_flow_steps": str(num_flow_steps),
        },
    )
