"""What a policy means to do from a control step on, as a server of ours tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policy_interface.codec import decode_action
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.types import Action, InvalidValueError


@dataclass(frozen=True, kw_only=True)
class ServerTiming:
    """Seconds that a request spent on the server: being decoded, waiting for a forward pass, and
    in it. 0 where the step needed none.
    """

    decoding_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionChunk:
    """The rest of the chunk that is being executed.

    actions: actions[i] is for control step first_control_step + i, at control_rate_hz; the first
        is the one for the observation that was sent.
    planned_from_step: the control step whose observation the plan looked at.
    next_plan_step: the control step whose observation the next plan will look at. The actions from
        there on are what to do if no newer plan arrives.
    """

    actions: Sequence[Action]
    first_control_step: int
    planned_from_step: int
    next_plan_step: int
    control_rate_hz: float
    timing: ServerTiming = ServerTiming()

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))
        if not self.actions:
            raise InvalidValueError("chunk: expected at least one action, got none")
        if not 0 < self.control_rate_hz < math.inf:
            raise InvalidValueError(
                f"chunk: expected a positive control rate, got {self.control_rate_hz} Hz"
            )

    def action_at(self, control_step: int) -> Action | None:
        """What to do at a control step, or None where the chunk says nothing of it."""
        index = control_step - self.first_control_step
        return self.actions[index] if 0 <= index < len(self.actions) else None


def decode_chunk(message: PolicyStep_pb2.ActionChunk) -> ActionChunk:
    """Raises InvalidValueError for anything malformed."""
    return ActionChunk(
        actions=[decode_action(action) for action in message.actions],
        first_control_step=message.first_control_step,
        planned_from_step=message.planned_from_step,
        next_plan_step=message.next_plan_step,
        control_rate_hz=message.control_rate_hz,
        timing=ServerTiming(
            decoding_s=message.decoding_s,
            queue_s=message.queue_s,
            inference_s=message.inference_s,
        ),
    )
