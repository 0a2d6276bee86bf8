"""The policies that a server has loaded: several under one address, each replaceable while it runs.

A deployment is one policy as it was loaded once. A reload puts a new one in its place for the
episodes to come; the old one stays until its last episode and its last forward pass have ended, and
then goes with its thread.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence

from policy_interface.contract import CONTRACT_KEY, HOST_KEY, RUNTIME_PREFIX, Contract
from policy_interface.types import PolicyMetadata
from policy_server.batching import Batcher, Replica
from policy_server.execution import Execution, Strategy
from policy_server.host_facts import host_facts
from policy_server.policy import Policy
from policy_server.refusals import UnknownPolicyError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """How a policy is executed and batched; see ServerOptions."""

    strategy: Strategy = "receding"
    open_loop_steps: int | None = None
    planned_latency_steps: int = 0
    max_batch_size: int = 16
    max_wait_s: float = 0.05
    max_waiting: int = 256


class Deployment:
    """A loaded policy, ready to plan in threads of its own, and what clients are told of it."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        name: str | None,
        options: DeploymentOptions,
        on_batch: Callable[[int, float], None],
    ) -> None:
        """name: what clients call it; None takes the policy's own.

        Raises InvalidPolicyError where the policy can't be executed like that.
        """
        policy = replicas[0].policy
        self.contract: Contract = policy.contract
        self.execution = Execution.resolve(
            policy,
            strategy=options.strategy,
            num_execute_steps=options.open_loop_steps,
            planned_latency_steps=options.planned_latency_steps,
        )
        self.num_observations = policy.num_observations
        self.metadata = _stated(policy, name, self.execution, options, len(replicas))
        self._replicas = replicas
        self._num_episodes = 0
        self._is_retired = False
        self._is_over = False
        self.batcher = Batcher(
            replicas,
            min_actions=self.execution.num_execute_steps + self.execution.planned_latency_steps,
            max_batch_size=options.max_batch_size,
            max_wait_s=options.max_wait_s,
            max_waiting=options.max_waiting,
            on_batch=on_batch,
            on_idle=self._end_if_unused,
        )

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def is_over(self) -> bool:
        """Whether it was replaced, its last episode has ended and its threads are let go."""
        return self._is_over

    def acquire(self) -> None:
        """An episode begins."""
        self._num_episodes += 1

    def release(self) -> None:
        """An episode ended."""
        self._num_episodes -= 1
        self._end_if_unused()

    def retire(self) -> None:
        """No more episodes begin here."""
        self._is_retired = True
        self._end_if_unused()

    def shutdown(self, *, wait: bool) -> None:
        """End the threads. wait: until their forward passes have ended."""
        for replica in self._replicas:
            replica.worker.shutdown(wait=wait, cancel_futures=True)

    def _end_if_unused(self) -> None:
        """A forward pass may outlast the episode that it is for: until it ends, others that wait
        for their answers need the thread, and who stops the server must know of it."""
        is_unused = self._is_retired and self._num_episodes == 0 and self.batcher.is_idle
        if is_unused and not self._is_over:
            self._is_over = True
            logger.info("the former %s is let go: its last episode has ended", self.name)
            self.shutdown(wait=False)


def _stated(
    policy: Policy,
    name: str | None,
    execution: Execution,
    options: DeploymentOptions,
    num_replicas: int,
) -> PolicyMetadata:
    metadata = policy.metadata
    stated = {
        CONTRACT_KEY: policy.contract.to_json(),
        HOST_KEY: json.dumps(host_facts(policy)),
        f"{RUNTIME_PREFIX}open_loop_steps": str(execution.num_execute_steps),
        f"{RUNTIME_PREFIX}chunk_length": str(policy.chunk_length),
        f"{RUNTIME_PREFIX}max_batch_size": str(options.max_batch_size),
    }
    if num_replicas > 1:
        stated[f"{RUNTIME_PREFIX}replicas"] = str(num_replicas)
    if execution.strategy != "receding":
        stated[f"{RUNTIME_PREFIX}execution"] = execution.strategy
    if execution.planned_latency_steps:
        stated[f"{RUNTIME_PREFIX}planned_latency_steps"] = str(execution.planned_latency_steps)
    return dataclasses.replace(
        metadata,
        name=name or metadata.name,
        runtime_information={**metadata.runtime_information, **stated},
    )


class Deployments:
    """The current deployment of each policy, by name; the first is what clients get by default."""

    def __init__(self) -> None:
        self._current: dict[str, Deployment] = {}
        self._former: list[Deployment] = []

    @property
    def names(self) -> list[str]:
        return list(self._current)

    @property
    def current(self) -> list[Deployment]:
        """What new episodes get, the default first."""
        return list(self._current.values())

    @property
    def all(self) -> list[Deployment]:
        """These, and those that still serve what began before a reload."""
        self._former = [deployment for deployment in self._former if not deployment.is_over]
        return [*self._current.values(), *self._former]

    def find(self, name: str) -> Deployment:
        """name: empty for the first. Raises UnknownPolicyError."""
        if not name:
            return next(iter(self._current.values()))
        deployment = self._current.get(name)
        if deployment is None:
            raise UnknownPolicyError(f"policy {name!r}: this server has {sorted(self._current)}")
        return deployment

    def put(self, deployment: Deployment) -> None:
        """For the episodes that begin from now on; its predecessor is let go when unused."""
        former = self._current.get(deployment.name)
        self._current[deployment.name] = deployment
        if former is not None:
            former.retire()
            self._former.append(former)
