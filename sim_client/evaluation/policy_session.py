"""The policy as an episode knows it: told a seed, asked for actions, saying when it plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from policy_interface.client import PolicyClient
from policy_interface.client_errors import PolicyFailureError, UnsupportedError
from policy_interface.types import Action, InvalidValueError, Observation

# What our own server says of a plan that is none; see policy_server.refusals.
_INVALID_PLAN = "invalid_plan"


class PolicyFaultError(RuntimeError):
    """The policy answered with something that is no action: NaN, no rotation, a missing arm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """begins_plan: whether it is the first of a plan; None where the server does not say."""

    action: Action
    begins_plan: bool | None = None


class Policy(Protocol):
    """Who acts in an episode.

    `step` raises PolicyFaultError for an answer that is the policy's own fault, and
    PolicyServerError where there is no answer, which is nobody's verdict on it.
    """

    def reset(self, *, seed: int) -> None: ...

    def step(self, observation: Observation) -> Answer: ...


class ServedPolicySession:
    """A policy behind an address, over all episodes of a worker.

    A server of ours tells which plan an action is of, if it is asked for the whole plan. That is
    asked until the first one is there, and not after it: a plan a step is much to send and read.
    """

    def __init__(self, client: PolicyClient) -> None:
        self._client = client
        self._tells_plans = False

    def reset(self, *, seed: int) -> None:
        self._client.reset(seed=seed)
        try:
            self._client.handshake()
        except UnsupportedError:
            self._tells_plans = False
        else:
            self._tells_plans = True

    def step(self, observation: Observation) -> Answer:
        try:
            if not self._tells_plans:
                return Answer(action=self._client.step(observation))
            chunk = self._client.step_chunk(observation)
            self._tells_plans = False
            return Answer(action=chunk.actions[0], begins_plan=True)
        except InvalidValueError as error:
            raise PolicyFaultError(f"the policy's answer is no action: {error}") from error
        except PolicyFailureError as error:
            if error.reason == _INVALID_PLAN:
                raise PolicyFaultError(str(error)) from error
            raise
