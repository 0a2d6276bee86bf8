"""How the actions of one episode come out of its chunks: when to plan, and what to execute.

Control steps count from 0. A plan looks at the observation of one of them, its start, and holds
actions from there on. It takes effect some steps later where planning is asynchronous: until then
the chunk before it goes on. The schedule depends on control steps alone, never on how fast a plan
was made, so an episode can be repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from policy_interface.types import Action, ChunkGuidance, FloatArray, Pose
from policy_server.policy import InvalidPolicyError, Policy

Strategy = Literal["receding", "ensemble", "rtc"]

# The weight's decay a plan in ACT's temporal ensembling (Zhao et al. 2023, arXiv 2304.13705).
_ENSEMBLE_DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How chunks are executed.

    strategy: `receding` executes the newest chunk. `ensemble` averages what all chunks that reach
        a control step say of it, older ones weighing slightly more. `rtc`, real-time chunking,
        executes the newest chunk, which was planned to agree with the one before it.
    num_execute_steps: control steps from one plan's start to the next one's.
    planned_latency_steps: control steps from a plan's start until it takes effect. 0 waits for the
        plan; with more, the step that starts it is answered at once, from the chunk before.
    """

    strategy: Strategy
    num_execute_steps: int
    planned_latency_steps: int

    @staticmethod
    def resolve(
        policy: Policy,
        *,
        strategy: Strategy = "receding",
        num_execute_steps: int | None = None,
        planned_latency_steps: int = 0,
    ) -> Execution:
        """num_execute_steps: None takes the policy's own, and 1 for an ensemble.

        Raises InvalidPolicyError where the policy's chunks are too short for it, or it cannot be
        guided.
        """
        if num_execute_steps is None:
            own = min(policy.open_loop_steps, policy.chunk_length - planned_latency_steps)
            num_execute_steps = 1 if strategy == "ensemble" else max(own, 1)
        length = policy.chunk_length
        if not 1 <= num_execute_steps <= length:
            raise InvalidPolicyError(
                f"open-loop steps: expected 1 to {length} (the policy's chunk length), "
                f"got {num_execute_steps}"
            )
        # More than num_execute_steps would need two plans under way at once.
        most = min(num_execute_steps, length - num_execute_steps)
        if not 0 <= planned_latency_steps <= most:
            raise InvalidPolicyError(
                f"planned latency: expected 0 to {most} steps (with chunks of {length}, of which "
                f"{num_execute_steps} are executed), got {planned_latency_steps}"
            )
        if strategy == "rtc" and not callable(getattr(policy, "plan_guided", None)):
            raise InvalidPolicyError(
                f"{type(policy).__name__} has no plan_guided, which real-time chunking asks for; "
                "choose another --execution"
            )
        return Execution(
            strategy=strategy,
            num_execute_steps=num_execute_steps,
            planned_latency_steps=planned_latency_steps,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """A plan's actions: actions[i] is for control step start + i."""

    start: int
    actions: Sequence[Action]

    @property
    def end(self) -> int:
        """The first control step that it says nothing of."""
        return self.start + len(self.actions)


class ChunkExecutor:
    """One episode's chunks: which of them holds at a control step, and what it says."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._chunks: list[Chunk] = []
        self._next_start = 0

    @property
    def next_start(self) -> int:
        """The control step whose observation the next plan looks at."""
        return self._next_start

    def is_plan_due(self, control_step: int) -> bool:
        return control_step >= self._next_start

    def covers(self, control_step: int) -> bool:
        """Whether some chunk says what to do then."""
        return bool(self._chunks) and control_step < self._chunks[-1].end

    def takes_effect(self, start: int) -> int:
        """The control step from which a plan that starts at `start` is executed."""
        return start + (self._execution.planned_latency_steps if self._chunks else 0)

    def guidance(self, start: int) -> ChunkGuidance | None:
        """What a plan that starts at `start` should agree with."""
        if self._execution.strategy != "rtc" or not self.covers(start):
            return None
        newest = self._chunks[-1]
        actions = newest.actions[start - newest.start :]
        return ChunkGuidance(
            actions=actions,
            num_frozen=min(self._execution.planned_latency_steps, len(actions)),
        )

    def note_start(self, start: int) -> None:
        """A plan is being made from the observation of control step `start`."""
        self._next_start = start + self._execution.num_execute_steps

    def retract_start(self, start: int) -> None:
        """That plan is not made after all."""
        self._next_start = start

    def add(self, chunk: Chunk) -> None:
        """The plan takes effect."""
        if self._execution.strategy != "ensemble":
            self._chunks.clear()
        self._chunks.append(chunk)

    def planned_from(self) -> int:
        """The start of the newest chunk."""
        return self._chunks[-1].start

    def action(self, control_step: int) -> Action:
        """What to do. The step must be covered."""
        reaching = [
            chunk.actions[control_step - chunk.start]
            for chunk in self._chunks
            if chunk.end > control_step
        ]
        return reaching[0] if len(reaching) == 1 else mean_action(reaching)

    def actions_from(self, control_step: int) -> list[Action]:
        """What to do then and after it, as far as the newest chunk reaches."""
        return [self.action(step) for step in range(control_step, self._chunks[-1].end)]

    def forget_before(self, control_step: int) -> None:
        """No earlier step is asked about any more."""
        if len(self._chunks) > 1:
            self._chunks = [chunk for chunk in self._chunks if chunk.end > control_step]


def mean_action(actions: Sequence[Action]) -> Action:
    """Several plans' actions for one control step as one, the oldest plan's first.

    Weights fall by exp(-0.01) from one to the next, as ACT has it. Rotations are averaged in the
    chordal metric: the rotation nearest to the mean of the matrices.
    """
    weights = np.exp(-_ENSEMBLE_DECAY * np.arange(len(actions)))
    weights /= weights.sum()
    first = actions[0]
    return Action(
        poses={
            arm: _mean_pose([action.poses[arm] for action in actions], weights)
            for arm in first.poses
        },
        gripper_widths_m=_mean_widths([action.gripper_widths_m for action in actions], weights),
    )


def _mean_pose(poses: Sequence[Pose], weights: FloatArray) -> Pose:
    mean = np.einsum("n,nij->ij", weights, np.stack([pose.rotation for pose in poses]))
    left, _, right = np.linalg.svd(mean)
    # A reflection is nearer where the rotations are far apart; turn its weakest axis around.
    left[:, 2] *= math.copysign(1.0, float(np.linalg.det(left @ right)))
    return Pose(
        rotation=left @ right,
        translation_m=weights @ np.stack([pose.translation_m for pose in poses]),
    )


def _mean_widths(widths: Sequence[Mapping[str, float]], weights: FloatArray) -> dict[str, float]:
    return {
        gripper: float(weights @ np.array([each[gripper] for each in widths]))
        for gripper in widths[0]
    }
