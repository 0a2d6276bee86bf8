"""What the server asks of a policy: plan a chunk of actions for each of several episodes at once.

A policy keeps no state between calls. What an episode needs to remember (its past
observations, its source of noise) comes with each call, so any episodes can share a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from policy_interface.contract import Contract
from policy_interface.types import Action, ChunkGuidance, Observation, PolicyMetadata


class InvalidPolicyError(ValueError):
    """An object that cannot be served; the text lists everything that is wrong with it."""


class Policy(Protocol):
    """A trained, scripted or user-written policy.

    contract: what it expects of the observations and commands in the actions.
    chunk_length: how many actions it plans at once.
    open_loop_steps: how many of these to execute before planning again, at most chunk_length.
    num_observations: how many of the latest observations it looks at, the current one included.
    """

    @property
    def contract(self) -> Contract: ...

    @property
    def metadata(self) -> PolicyMetadata: ...

    @property
    def chunk_length(self) -> int: ...

    @property
    def open_loop_steps(self) -> int: ...

    @property
    def num_observations(self) -> int: ...

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
        /,
    ) -> Sequence[Sequence[Action]]:
        """One chunk for each history, in order; the first action is for the latest observation.

        histories: by episode, num_observations each, the newest last. Where an episode
            has had fewer, its first one is repeated.
        noise: by episode, the only source of randomness that the plan may use.

        Called from one thread, always the same. Whatever it raises fails the step concerned
        and no other episode: a ContractError as the fault of who sent the observation, such as an
        instruction that is too long for the policy, and anything else as the policy's own.
        """
        ...


class GuidedPolicy(Policy, Protocol):
    """A policy whose plans can be made to agree with the chunk that is being executed.

    Real-time chunking (`--execution rtc`) asks for it. guidance: by episode, None where there is
    nothing to agree with: at its first control step.
    """

    def plan_guided(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
        guidance: Sequence[ChunkGuidance | None],
        /,
    ) -> Sequence[Sequence[Action]]: ...


def plans_instantly(policy: Policy) -> bool:
    """Whether the policy's own class says by `is_instant = True` that planning takes microseconds.

    It then plans on the server's event loop, since handing it to a thread and back would take
    longer. It must not block. A class does not inherit this: what it plans with may be its own.
    """
    return vars(type(policy)).get("is_instant") is True


def require_policy(candidate: object) -> None:
    """Raises InvalidPolicyError where `candidate` does not have what a Policy has."""
    name = type(candidate).__name__
    defects = []
    for attribute, expected in (("contract", Contract), ("metadata", PolicyMetadata)):
        value = getattr(candidate, attribute, None)
        if not isinstance(value, expected):
            defects.append(f"{attribute}: expected a {expected.__name__}, got {value!r:.80}")
    for attribute in ("chunk_length", "open_loop_steps", "num_observations"):
        value = getattr(candidate, attribute, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            defects.append(f"{attribute}: expected a positive integer, got {value!r:.80}")
    if not callable(getattr(candidate, "plan", None)):
        defects.append("plan: expected a method plan(histories, noise), got none")
    if defects:
        raise InvalidPolicyError(f"{name} is not a policy: {'; '.join(defects)}")
