"""Where episodes are run, as the scheduler knows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.plan import Plan
from sim_client.evaluation.worker import WorkerSettings
from sim_client.evaluation.worker_pool import WorkerPool

if TYPE_CHECKING:
    from sim_client.cluster.cluster import RayCluster


class Executor(Protocol):
    """Simulators somewhere: processes of this machine, containers, tasks of a cluster.

    Used within a `with` block, by one thread. What it promises:

    - **Each submitted request comes back from `wait` once**, with one report, unless the block
      is left or `wait` raises. An executor runs nothing again by itself and writes no ledger:
      the scheduler claims an episode, submits it, records what came of it, and submits it
      again where that is to be, with the same seed; so it is counted once whatever becomes of
      simulators.
    - **What is lost is an error, never a verdict.** A simulator that dies, is killed for want of
      memory, hangs for longer than `--stall-timeout-s` or vanishes with its machine makes its
      episode's report an `Outcome.ERROR` that says so in one line. A report that arrives after
      its episode was given up is dropped.
    - **Where an episode runs does not show in it**: the outcome and `state_digest` of a request
      are those of any other executor, bit for bit, and its files are in `request.folder` when
      its report is returned. So the plan's own `settings` and worker code run everywhere.
    - **Nothing outlives it.** Leaving the block ends all that it started, within seconds, episodes
      in mid-run too. If this process is killed, they end by themselves.
    - It touches nothing that it did not start.

    Entering raises UsageError where this executor can't be had at all, and `wait`
    EvaluationStoppedError where going on is in vain: one line, with what to do.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @property
    def is_busy(self) -> bool:
        """Whether any episode is running."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether another episode can start now; at most `--workers` run at once."""
        ...

    def submit(self, request: EpisodeRequest) -> None:
        """Start an episode. Only where there is room; returns without waiting for its end."""
        ...

    def wait(self, interruption: Interruption) -> list[tuple[EpisodeRequest, EpisodeReport]]:
        """Block until an episode has ended, or the interruption; what has ended until then.

        Returns at once where nothing runs. Never loses a report to the interruption.
        """
        ...


def require_executor(config: EvaluationConfig) -> None:
    """Before the policy is even asked for. Raises UsageError where the executor can't be had."""
    if config.executor == "docker":
        from sim_client.containers.engine import Engine

        Engine(config.docker).close()


@contextlib.contextmanager
def cluster_for(config: EvaluationConfig) -> Iterator[tuple[RayCluster | None, EvaluationConfig]]:
    """A cluster, where one was asked for, and the evaluation of the policy that is served there.

    Before the policy is asked for anything. Raises as RayCluster does.
    """
    if config.executor != "ray":
        yield None, config
        return
    from sim_client.cluster.cluster import RayCluster

    if config.ray.serve is not None and (config.tls_ca or config.token_file):
        raise UsageError(
            "--ray.serve: not with --tls-ca or --token-file: its servers get a token of their own"
        )
    with RayCluster(config.ray) as cluster, cluster.pointed_at(config) as pointed:
        yield cluster, pointed


def executor_for(
    config: EvaluationConfig, plan: Plan, output: Path, cluster: RayCluster | None
) -> Executor:
    """The one that was asked for, not yet entered. output: where the policy's results go."""
    match config.executor:
        case "local":
            return WorkerPool(
                plan.serve,
                plan.settings,
                num_workers=config.workers,
                stall_timeout_s=config.stall_timeout_s,
            )
        case "docker":
            # Here, not above: nobody else needs Docker's SDK.
            from sim_client.containers.executor import DockerExecutor

            assert isinstance(plan.settings, WorkerSettings)
            return DockerExecutor(
                config.docker,
                plan.settings,
                output=output,
                num_workers=config.workers,
                stall_timeout_s=config.stall_timeout_s,
            )
        case "ray":
            from sim_client.cluster.executor import RayExecutor

            assert cluster is not None
            return RayExecutor(
                cluster,
                plan,
                num_workers=config.workers,
                stall_timeout_s=config.stall_timeout_s,
            )
