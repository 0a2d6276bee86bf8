"""The Docker executor: simulator containers started, watched, replaced and removed."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sim_client.containers.engine import Engine
from sim_client.containers.messages import (
    POLICY_ADDRESS,
    POLICY_SOCKET,
    Hello,
    message_from,
    request_line,
    settings_line,
)
from sim_client.containers.owner import Owner, labels
from sim_client.containers.relay import Relay
from sim_client.containers.scratch import scratch_folder
from sim_client.containers.simulator import SimulatorContainer, User
from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.running_episode import RunningEpisode, num_running
from sim_client.evaluation.simulator_facts import versions_here
from sim_client.evaluation.worker import Ended, Halt, Heartbeat, WorkerSettings
from sim_client.evaluation.worker_pool import exit_description
from step_analysis.strict_json import FormatError

_START_ALLOWANCE_S = 120.0
_GOODBYE_S = 5.0
# For the engine to say that a container has ended, once it has been killed.
_KILL_S = 20.0

# Where the results belong to root, simulators are somebody without any right on this machine.
_NOBODY = 10001
# What must be the same in a container as in the process that has made the design.
_VERSIONS_OF_THE_DESIGN = ("assay", "assay_source", "drake")


@dataclass(eq=False)
class _Simulator:
    container: SimulatorContainer
    has_said_hello: bool = False
    running: RunningEpisode | None = None


class DockerExecutor:
    """Up to `num_workers` containers, started when first needed; see `Executor` for the promises.

    A container has no network. The policy server is reached through a Unix socket that is mounted
    into it, wherever the server is, and nothing else is. Its other socket leads here, and ends with
    this process: then the container ends, and the engine removes it.
    """

    def __init__(
        self,
        options: DockerOptions,
        settings: WorkerSettings,
        *,
        output: Path,
        num_workers: int,
        stall_timeout_s: float,
    ) -> None:
        """output: the folder that the evaluation's results go to."""
        self._options = options
        self._settings = settings
        self._output = output.resolve()
        self._num_workers = num_workers
        self._stall_timeout_s = stall_timeout_s
        self._simulators: list[_Simulator] = []
        self._num_started = 0
        self._halt: str | None = None
        self._run_id = secrets.token_hex(8)
        self._owner = Owner.this_process()
        self._labels = labels(run_id=self._run_id, owner=self._owner, output=self._output)
        self._user = _user_for(self._output)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._engine = Engine(self._options)
            self._stack.callback(self._engine.close)
            self._greeting = _greeting(self._settings)
            self._engine.remove_orphans(run_id=self._run_id, here=self._owner, output=self._output)
            self._scratch = self._stack.enter_context(
                scratch_folder(self._output, run_id=self._run_id, owner=self._owner)
            )
            # A socket's path is bounded to a hundred characters, and results may lie deeper.
            self._private = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-"))
            )
            self._policy_socket = self._private / POLICY_SOCKET.name
            self._stack.enter_context(Relay(self._policy_socket, self._settings.server.address))
            self._stack.callback(self._end_all)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def is_busy(self) -> bool:
        return num_running(self._simulators) > 0

    @property
    def has_room(self) -> bool:
        return num_running(self._simulators) < self._num_workers

    def submit(self, request: EpisodeRequest) -> None:
        allowance_s = 0.0
        for simulator in [each for each in self._simulators if each.running is None]:
            if simulator.container.end is None:
                break
            # It ended while it had nothing to do; no episode is lost by that.
            self._discard(simulator)
        else:
            simulator = self._start()
            allowance_s = _START_ALLOWANCE_S
        simulator.container.send(request_line(request))
        deadline_s = time.monotonic() + self._stall_timeout_s + allowance_s
        simulator.running = RunningEpisode(request, deadline_s)

    def wait(self, interruption: Interruption) -> list[tuple[EpisodeRequest, EpisodeReport]]:
        ended: list[tuple[EpisodeRequest, EpisodeReport]] = []
        while not ended and not interruption.requested:
            # Only here, so that no episode that ended at the same time is lost.
            if self._halt is not None:
                raise EvaluationStoppedError(self._halt)
            running = [each.running for each in self._simulators if each.running is not None]
            if not running:
                break
            timeout_s = min(each.deadline_s for each in running) - time.monotonic()
            sockets = [s for each in self._simulators for s in each.container.readables]
            ready = wait_for_any([*sockets, interruption.readable], timeout=max(0.0, timeout_s))
            for simulator in list(self._simulators):
                running = simulator.running
                report = self._attend(simulator, ready)
                if running is not None and report is not None:
                    simulator.running = None
                    ended.append((running.request, report))
        return ended

    def _start(self) -> _Simulator:
        self._num_started += 1
        container = SimulatorContainer(
            self._engine,
            private=self._private / str(self._num_started),
            scratch=self._scratch / str(self._num_started),
            policy_socket=self._policy_socket,
            user=self._user,
            labels=self._labels,
            greeting=self._greeting,
        )
        simulator = _Simulator(container)
        self._simulators.append(simulator)
        return simulator

    def _attend(self, simulator: _Simulator, ready: list[Any]) -> EpisodeReport | None:
        """Handle what is new of one simulator; its episode's report, if that has ended."""
        try:
            for value in simulator.container.take(ready):
                report = self._heed(simulator, value)
                if report is not None:
                    return report
        except FormatError as error:
            return self._give_up(simulator, f"the simulator's container talks nonsense: {error}")
        if simulator.container.end is not None:
            return self._after_end(simulator)
        running = simulator.running
        if running is not None and time.monotonic() >= running.deadline_s:
            return self._give_up(
                simulator,
                f"the simulator's container gave no sign of life for {self._stall_timeout_s:g} s: "
                "killed",
            )
        return None

    def _heed(self, simulator: _Simulator, value: dict[str, Any]) -> EpisodeReport | None:
        running = simulator.running
        match message_from(value, None if running is None else running.request):
            case Hello(versions=versions):
                simulator.has_said_hello = True
                self._halt = self._halt or self._misfit(versions)
            case Heartbeat():
                pass
            case Halt(text):
                self._halt = self._in_our_words(text)
            case Ended(report, worker_is_spent):
                assert running is not None
                simulator.container.hand_over(running.request.folder)
                if worker_is_spent:
                    self._discard(simulator)
                return self._completed(report)
        if running is not None:
            running.deadline_s = time.monotonic() + self._stall_timeout_s
        return None

    def _completed(self, report: EpisodeReport) -> EpisodeReport:
        """With what is not known in the container."""
        image = {"image": self._options.image, "image_id": self._engine.image_id}
        if self._engine.image_digests:
            image["image_digests"] = " ".join(self._engine.image_digests)
        return replace(
            report,
            message=report.message and self._in_our_words(report.message),
            simulator={**report.simulator, **image} if report.simulator else {},
        )

    def _misfit(self, versions: Any) -> str | None:
        here = versions_here()
        found = [
            f"{name} {versions.get(name, 'unknown')} there, {here[name]} here"
            for name in _VERSIONS_OF_THE_DESIGN
            if versions.get(name) != here[name]
        ]
        if not found:
            return None
        return (
            f"the image {self._options.image} would simulate something else than this program: "
            f"{'; '.join(found)}; build it from the same state (`docker compose build`)"
        )

    def _after_end(self, simulator: _Simulator) -> EpisodeReport | None:
        """The container has ended without having been told to."""
        end = simulator.container.end
        assert end is not None
        if end.exit_code is None:
            self._halt = (
                "the Docker engine is gone, and its containers with it; start it, and the same "
                "command goes on from here"
            )
            return None
        if end.ran_out_of_memory:
            how = f"ran out of its memory, {self._options.memory} (--docker.memory)"
        else:
            code = end.exit_code
            how = exit_description(128 - code if code > 128 else code)
        if not simulator.has_said_hello and 0 < end.exit_code < 128:
            # Its program can't be run, and no other episode will change that.
            self._halt = (
                f"the image {self._options.image} holds no simulator of ours: its container {how}: "
                f"{end.last_words}"
            )
            return None
        return self._give_up(simulator, f"the simulator's container {how}")

    def _give_up(self, simulator: _Simulator, message: str) -> EpisodeReport | None:
        """The simulator is lost, and the attempt at its episode with it."""
        simulator.container.kill()
        if not simulator.container.await_end(timeout_s=_KILL_S):
            self._halt = (
                f"the Docker engine does not end container {simulator.container.name}: {message}; "
                "see to the engine, and the same command goes on from here"
            )
            return None
        running = simulator.running
        if running is not None:
            simulator.container.hand_over(running.request.folder)
        self._discard(simulator)
        return None if running is None else running.lost(message)

    def _discard(self, simulator: _Simulator) -> None:
        container = simulator.container
        container.let_go()
        if not container.await_end(timeout_s=_GOODBYE_S):
            container.kill()
            container.await_end(timeout_s=_KILL_S)
        container.close()
        self._simulators.remove(simulator)

    def _end_all(self) -> None:
        for simulator in self._simulators:
            simulator.container.let_go()
        deadline_s = time.monotonic() + _GOODBYE_S
        for simulator in self._simulators:
            if not simulator.container.await_end(timeout_s=deadline_s - time.monotonic()):
                simulator.container.kill()
        for simulator in self._simulators:
            simulator.container.await_end(timeout_s=_KILL_S)
            simulator.container.close()
        self._simulators.clear()

    def _in_our_words(self, text: str) -> str:
        return text.replace(POLICY_ADDRESS, self._settings.server.address)


def _greeting(settings: WorkerSettings) -> bytes:
    try:
        return settings_line(settings)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--tls-ca, --token-file: {error}") from error


def _user_for(output: Path) -> User:
    """Who runs this; for root, who owns the results, and nobody in particular if root does."""
    if os.getuid() != 0:
        return User(uid=os.getuid(), gid=os.getgid())
    owner = output.stat()
    if owner.st_uid != 0:
        return User(uid=owner.st_uid, gid=owner.st_gid)
    return User(uid=_NOBODY, gid=_NOBODY)
