"""A policy at work: observations in, chunks of absolute actions out.

Axes: B request, T timestep of the chunk, A numbers an action, K conditioning token, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from policy_interface.contract import Contract
from policy_interface.types import (
    Action,
    CameraView,
    ChunkGuidance,
    FloatArray,
    Observation,
    PolicyMetadata,
    Pose,
    RobotState,
)
from trainer.batch_invariance import InvariantRows, RowFunction
from trainer.checkpoint import InstructionPrompts
from trainer.data.robot_transform import RobotTransform
from trainer.models.action.configuration import Solver
from trainer.models.chunk_policy import ChunkPolicy, Scene, TellingPolicy, integrate_flow
from trainer.models.guided_flow import integrate_guided_flow
from trainer.models.policy_network import images_to_input
from trainer.observation_reading import ObservationReader
from trainer.plan_request import NoiseSource, PlanRequest

logger = logging.getLogger(__name__)

ServingPrecision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """Plans for any number of episodes at once; it keeps no state between calls.

    chunk_length: actions a plan. open_loop_steps: how many of them to execute before replanning.
    reader: how observations become what the network is given.
    precision: of activations and of the weights they are multiplied with.
    prompts: how an instruction is told, to a policy that is.
    solver: of the flow, in plans that are free.
    batch_invariant: a request's chunk depends on its own observations, noise and guidance alone,
        bit for bit; else its batch mates change float rounding (trainer.batch_invariance).
    """

    contract: Contract
    metadata: PolicyMetadata
    chunk_length: int
    open_loop_steps: int
    num_flow_steps: int
    device: torch.device
    transform: RobotTransform
    network: ChunkPolicy
    reader: ObservationReader
    prompts: InstructionPrompts | None = None
    solver: Solver = "euler"
    precision: ServingPrecision = "float32"
    batch_invariant: bool = True

    @property
    def num_observations(self) -> int:
        """That a plan looks at, the newest last."""
        return self.reader.num_observations

    def plan(
        self, observations: Sequence[Sequence[Observation]], noise: Sequence[NoiseSource]
    ) -> list[list[Action]]:
        """One chunk a request.

        observations: for each request its newest `num_observations`, the newest last.
        noise: for each request a seed, or a generator to draw from.
        Raises ContractError where an observation breaks the contract.
        """
        return self.plan_guided(observations, noise, [None] * len(observations))

    @torch.no_grad()
    def plan_guided(
        self,
        observations: Sequence[Sequence[Observation]],
        noise: Sequence[NoiseSource],
        guidance: Sequence[ChunkGuidance | None],
    ) -> list[list[Action]]:
        """One chunk a request, agreeing with the chunk that is being executed meanwhile.

        guidance: for each request, or None; its frozen actions are where the chunk begins. The
        images are encoded once, as for a free plan; the flow takes about twice as long.
        Raises ContractError where an observation or a guiding action breaks the contract.
        """
        for label, given in (("noise sources", noise), ("guidances", guidance)):
            if len(given) != len(observations):
                raise ValueError(
                    f"expected {len(observations)} {label}, one a request, got {len(given)}"
                )
        requests = [
            PlanRequest.of(
                index,
                *each,
                contract=self.contract,
                transform=self.transform,
                reader=self.reader,
                prompts=self.prompts,
            )
            for index, each in enumerate(zip(observations, noise, guidance, strict=True))
        ]
        chunks = np.zeros((len(requests), self.chunk_length, self.transform.num_numbers))
        scene = self._told(self._encode(requests))
        for is_guided, flow, names in (
            (False, self._free_flow, _FREE),
            (True, self._guided_flow, _GUIDED),
        ):
            rows = [i for i, each in enumerate(requests) if each.is_guided == is_guided]
            if rows:
                inputs = [self._stacked([requests[i] for i in rows], name) for name in names]
                seen = [part[rows] for part in scene]
                chunks[rows] = flow(*inputs, *seen).cpu().double().numpy()
        return [
            self._actions(*self.transform.decode_actions(each.anchor_poses, chunk))
            for each, chunk in zip(requests, chunks, strict=True)
        ]

    def warm_up(self, batch_sizes: Sequence[int] = (1,), *, guided: bool = False) -> None:
        """Plan for black images, so that the first real plan is as fast as any other.

        What runs once is run here: compilation, and the search for sizes of batches that agree.
        guided: guided plans, too.
        """
        state = RobotState(
            poses={arm: Pose.identity() for arm in self.contract.arms},
            gripper_widths_m=dict.fromkeys(self.contract.grippers, 0.0),
        )
        observation = Observation(
            actual=state,
            desired=state,
            cameras={
                name: CameraView(
                    rgb=np.zeros((size.height, size.width, 3), np.uint8),
                    intrinsics=np.eye(3),
                    X_TC=Pose.identity(),
                )
                for name, size in self.contract.cameras.items()
            },
            language_instruction="" if self.contract.uses_language else None,
        )
        history = [observation] * self.num_observations
        for size in batch_sizes:
            chunks = self.plan([history] * size, [0] * size)
            if guided:
                old = [ChunkGuidance(actions=chunk, num_frozen=1) for chunk in chunks]
                self.plan_guided([history] * size, [0] * size, old)

    def _encode(self, requests: Sequence[PlanRequest]) -> Scene:
        """What was seen, by request.

        Convolutions keep a processor busy with one image, so that one by one is the cheap way to
        be invariant: for sixteen small images it took 1.8 times as long as all at once.
        """
        if not requests:
            return ()
        size = 1 if self.batch_invariant else len(requests)
        parts = [requests[start : start + size] for start in range(0, len(requests), size)]
        scenes = [self._encode_together(part) for part in parts]
        return tuple(torch.cat(rows) for rows in zip(*scenes, strict=True))

    def _encode_together(self, requests: Sequence[PlanRequest]) -> Scene:
        images = {
            name: images_to_input(
                torch.from_numpy(np.stack([each.pictures[name] for each in requests])).to(
                    self.device
                )
            )
            for name in requests[0].pictures
        }
        prompt = None
        if self.prompts is not None:
            told = np.stack([each.prompt for each in requests if each.prompt is not None])
            prompt = torch.from_numpy(told).to(self.device)
        with self._autocast():
            return self.network.encode(images, self._stacked(requests, "proprioception"), prompt)

    def _told(self, scene: Scene) -> Scene:
        """Of a policy that tells its chunks in tokens, these chunks."""
        if not (isinstance(self.network, TellingPolicy) and scene):
            return scene
        chunk_BTA, is_whole = self.network.understood(self._telling(*scene))
        if not all(is_whole):
            logger.warning(
                "%d of %d plans were told in tokens that are no whole chunk: cut or filled to one",
                is_whole.count(False),
                len(is_whole),
            )
        return (chunk_BTA,)

    @cached_property
    def _telling(self) -> RowFunction:
        network = self.network
        assert isinstance(network, TellingPolicy)

        def tell(*scene: Tensor, to_the_end: bool = False) -> Tensor:
            with self._autocast():
                return network.tell(*scene, to_the_end=to_the_end)

        if not self.batch_invariant:
            return tell
        return InvariantRows(tell, tried=partial(tell, to_the_end=True))

    def _stacked(self, requests: Sequence[PlanRequest], name: str) -> Tensor:
        numbers = np.stack([getattr(each, name) for each in requests])
        return torch.from_numpy(numbers).float().to(self.device)

    @cached_property
    def _free_flow(self) -> RowFunction:
        def flow(noise_BTA: Tensor, *scene: Tensor) -> Tensor:
            head = self.network.chunk_head
            with self._autocast():
                return integrate_flow(
                    head,
                    head.read(*scene),
                    self.network.start(noise_BTA),
                    self.num_flow_steps,
                    solver=self.solver,
                    bound=self.network.bound,
                )

        return InvariantRows(flow) if self.batch_invariant else flow

    @cached_property
    def _guided_flow(self) -> RowFunction:
        def flow(noise_BTA: Tensor, known_BTA: Tensor, weight_BT: Tensor, *scene: Tensor) -> Tensor:
            head = self.network.chunk_head
            with self._autocast():
                return integrate_guided_flow(
                    head,
                    head.read(*scene),
                    self.network.start(noise_BTA),
                    self.num_flow_steps,
                    known_BTA=known_BTA,
                    weight_BT=weight_BT,
                    bound=self.network.bound,
                )

        return InvariantRows(flow) if self.batch_invariant else flow

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.precision == "bfloat16",
            cache_enabled=False,
        )

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


# The fields of a request that a flow is given before the scene, in order.
_FREE = ("noise",)
_GUIDED = ("noise", "known", "weight")
