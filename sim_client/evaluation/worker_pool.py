"""The local executor: worker processes as their parent sees them, started, watched, replaced."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.running_episode import RunningEpisode, num_running
from sim_client.evaluation.worker import Ended, Halt, Heartbeat
from sim_client.evaluation.worker_process import start_worker

# For a new process to import the simulator before its first sign of life, from a cold disk too.
_START_ALLOWANCE_S = 120.0

# A closed pipe ends an idle worker at once; the kill is for one that is stuck in its libraries.
_GOODBYE_S = 5.0


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    running: RunningEpisode | None = None


class WorkerPool:
    """Up to `num_workers` processes, started when first needed.

    A worker that dies, or gives no sign of life for `stall_timeout_s`, makes its episode an
    error; another worker takes its place at the next episode. Leaving the `with` block ends all.

    serve: a worker's whole life, given its end of the pipe and `settings`.
    """

    def __init__(
        self,
        serve: Callable[[Connection, Any], None],
        settings: Any,
        *,
        num_workers: int,
        stall_timeout_s: float,
    ) -> None:
        self._serve = serve
        self._settings = settings
        self._num_workers = num_workers
        self._stall_timeout_s = stall_timeout_s
        self._workers: list[_Worker] = []
        self._halt: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.connection.close()
            if worker.running is not None:
                worker.process.kill()
        deadline = time.monotonic() + _GOODBYE_S
        for worker in self._workers:
            worker.process.join(timeout=max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    @property
    def is_busy(self) -> bool:
        """Whether any episode is running."""
        return num_running(self._workers) > 0

    @property
    def has_room(self) -> bool:
        """Whether another episode can start now."""
        return num_running(self._workers) < self._num_workers

    def submit(self, request: EpisodeRequest) -> None:
        """Start an episode in an idle worker, or in a new one."""
        allowance_s = 0.0
        for worker in [worker for worker in self._workers if worker.running is None]:
            try:
                worker.connection.send(request)
            except OSError:
                # It died while it had nothing to do; no episode is lost by that.
                self._discard(worker)
                continue
            break
        else:
            worker = self._start()
            worker.connection.send(request)
            allowance_s = _START_ALLOWANCE_S
        deadline_s = time.monotonic() + self._stall_timeout_s + allowance_s
        worker.running = RunningEpisode(request, deadline_s)

    def wait(self, interruption: Interruption) -> list[tuple[EpisodeRequest, EpisodeReport]]:
        """Block until an episode has ended, or the interruption; what has ended until then.

        Raises EvaluationStoppedError where a worker finds that no episode can be run.
        """
        ended: list[tuple[EpisodeRequest, EpisodeReport]] = []
        while not ended and not interruption.requested:
            # Only here, so that no episode that ended at the same time is lost.
            if self._halt is not None:
                raise EvaluationStoppedError(self._halt)
            busy = {w.connection: w.running for w in self._workers if w.running is not None}
            if not busy:
                break
            deadline_s = min(running.deadline_s for running in busy.values())
            timeout_s = max(0.0, deadline_s - time.monotonic())
            ready = wait([*busy, interruption.readable], timeout=timeout_s)
            for worker in list(self._workers):
                running = worker.running
                if running is None:
                    continue
                if worker.connection in ready:
                    report = self._read(worker, running)
                else:
                    report = self._stalled(worker, running)
                if report is not None:
                    ended.append((running.request, report))
        return ended

    def _start(self) -> _Worker:
        process, connection = start_worker(self._serve, self._settings, name="sim-worker")
        worker = _Worker(process, connection)
        self._workers.append(worker)
        return worker

    def _read(self, worker: _Worker, running: RunningEpisode) -> EpisodeReport | None:
        """Handle one message; the episode's report, if it has ended."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._discard(worker)
            return running.lost(f"the worker process {exit_description(worker.process.exitcode)}")
        match message:
            case Heartbeat():
                running.deadline_s = time.monotonic() + self._stall_timeout_s
                return None
            case Halt(text):
                self._halt = text
                return None
            case Ended(report, worker_is_spent):
                worker.running = None
                if worker_is_spent:
                    self._discard(worker)
                return report
        raise AssertionError(f"unknown message from a worker: {message!r}")

    def _stalled(self, worker: _Worker, running: RunningEpisode) -> EpisodeReport | None:
        if time.monotonic() < running.deadline_s:
            return None
        # A heartbeat may have come between the wait and now.
        if worker.connection.poll():
            return None
        worker.process.kill()
        self._discard(worker)
        return running.lost(
            f"the worker gave no sign of life for {self._stall_timeout_s:g} s: killed"
        )

    def _discard(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join(timeout=_GOODBYE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        self._workers.remove(worker)


def exit_description(code: int | None) -> str:
    """How a process ended, by its exit code: less than 0 for a signal."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
