"""A request for a plan in numbers, checked against the contract.

Axes: T timestep of the chunk, A numbers an action, P proprioception, S token of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ContractError, action_violations, violations
from policy_interface.types import ChunkGuidance, FloatArray, Observation
from trainer.checkpoint import InstructionPrompts
from trainer.data.errors import DataError
from trainer.data.robot_transform import RobotTransform
from trainer.models.guided_flow import soft_mask
from trainer.observation_reading import ObservationReader, motion_arrays

NoiseSource = np.random.Generator | int


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanRequest:
    """One request in numbers, in the space of the plan that it asks for.

    pictures: (H, W, 3) each, as the network is given them.
    anchor_poses: (arms, 4, 4). proprioception: (P,). noise: (T, A).
    known, weight: (T, A) and (T,), what the plan should agree with and how far; None for a plan
        that is free.
    prompt: (S,) tokens of a policy that is told what to do.
    """

    pictures: Mapping[str, npt.NDArray[np.uint8]]
    anchor_poses: FloatArray
    proprioception: FloatArray
    noise: FloatArray
    known: FloatArray | None
    weight: FloatArray | None
    prompt: npt.NDArray[np.int64] | None

    @property
    def is_guided(self) -> bool:
        return self.known is not None

    @staticmethod
    def of(
        index: int,
        history: Sequence[Observation],
        noise: NoiseSource,
        guidance: ChunkGuidance | None,
        *,
        contract: Contract,
        transform: RobotTransform,
        reader: ObservationReader,
        prompts: InstructionPrompts | None,
    ) -> PlanRequest:
        """Raises ContractError, ValueError, both naming the request."""
        chunk_length = transform.chunk_length
        if len(history) != reader.num_observations:
            raise ValueError(
                f"request {index}: expected {reader.num_observations} observation(s), "
                f"the newest last, got {len(history)}"
            )
        newest = history[-1]
        broken = violations(contract, newest)
        for age, older in enumerate(reversed(history[:-1]), start=1):
            broken += [f"{age} step(s) ago: {it}" for it in violations(contract, older)]
        old = guidance.actions[:chunk_length] if guidance is not None else ()
        for step, action in enumerate(old):
            broken += [f"guidance, step {step}: {it}" for it in action_violations(contract, action)]
        prompt = None
        if prompts is not None and not broken:
            try:
                prompt = prompts.encode(newest.language_instruction or "")
            except DataError as error:
                broken.append(str(error))
        if broken:
            raise ContractError(f"request {index}: {'; '.join(broken)}")
        anchor_poses, _ = motion_arrays(contract, [newest.actual])
        known, weight = None, None
        if guidance is not None and old:
            # The last one fills up what is not known, where it weighs nothing.
            filled = [*old, *[old[-1]] * (chunk_length - len(old))]
            known = transform.encode_actions(anchor_poses[0], *motion_arrays(contract, filled))
            weight = soft_mask(
                num_frozen=min(guidance.num_frozen, len(old)),
                num_known=len(old),
                chunk_length=chunk_length,
            )
        shape = (chunk_length, transform.num_numbers)
        return PlanRequest(
            pictures=reader.pictures(history),
            anchor_poses=anchor_poses[0],
            proprioception=reader.state(history),
            noise=np.random.default_rng(noise).standard_normal(shape),
            known=known,
            weight=weight,
            prompt=prompt,
        )
