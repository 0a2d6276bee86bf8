"""Simulators as actors on a Ray cluster, one episode at a time each.

A simulator that is lost, with its node or alone, makes its episode an error; the scheduler submits
it again, and another simulator takes its place. Whatever Ray has to say comes as an event to one
queue: nothing is asked for over and over but whether those at work are alive.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sim_client.cluster.cluster import ClusterServer, RayCluster, one_line
from sim_client.cluster.simulator import Attempt, Simulator, SimulatorSettings
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest, Stopwatch
from sim_client.evaluation.episode_files import adopt_files
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.plan import Plan
from sim_client.evaluation.running_episode import num_running
from step_analysis.rollouts import Outcome

_GOODBYE_S = 3.0
_MOST_S_BETWEEN_SIGNS = 15.0
# A policy server that ends so often is not a node's fault.
_MAX_LOST_SERVERS = 3


@dataclass(eq=False)
class _Running:
    request: EpisodeRequest
    stopwatch: Stopwatch


@dataclass(eq=False)
class _Simulator:
    """An actor, the place of the server that it asks, and the episode that it runs, if any.

    is_there: it has answered, so that it is not just waiting for a place on the cluster.
    """

    actor: Any
    place: int
    running: _Running | None = None
    is_there: bool = False
    is_asked: bool = False
    seen_s: float = 0.0


@dataclass(frozen=True)
class _Event:
    handle: Callable[[Future[Any]], None]
    future: Future[Any]


class RayExecutor:
    """See sim_client.evaluation.executor.Executor, whose promises it keeps."""

    def __init__(
        self, cluster: RayCluster, plan: Plan, *, num_workers: int, stall_timeout_s: float
    ) -> None:
        self._cluster = cluster
        self._ray = cluster.ray
        self._plan = plan
        self._num_workers = num_workers
        self._stall_timeout_s = stall_timeout_s
        self._simulators: list[_Simulator] = []
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._readable, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._servers: list[ClusterServer | None] = [*cluster.servers]
        self._postponed: list[_Running] = []
        self._ended: list[tuple[EpisodeRequest, EpisodeReport]] = []
        self._halt: str | None = None
        self._num_lost_servers = 0

    def __enter__(self) -> Self:
        for place, server in enumerate(self._cluster.servers):
            self._watch_server(place, server)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closing = [each.actor.close.remote() for each in self._simulators if each.is_there]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_GOODBYE_S)
        for simulator in self._simulators:
            self._kill(simulator)
        self._simulators.clear()
        self._readable.close()
        self._writer.close()

    @property
    def is_busy(self) -> bool:
        """Whether any episode is running, or has ended without having been told."""
        return bool(self._ended) or self._num_running > 0

    @property
    def has_room(self) -> bool:
        """Whether another episode can start now."""
        return self._num_running < self._num_workers

    def submit(self, request: EpisodeRequest) -> None:
        """Start an episode on an idle simulator, or on a new one."""
        self._place(_Running(request, Stopwatch()))

    def wait(self, interruption: Interruption) -> list[tuple[EpisodeRequest, EpisodeReport]]:
        """Block until an episode has ended, or the interruption; what has ended until then."""
        while True:
            self._handle_events()
            if self._ended or interruption.requested:
                ended, self._ended = self._ended, []
                return ended
            if self._halt is not None:
                raise EvaluationStoppedError(self._halt)
            if not self._num_running:
                return []
            self._give_to_idle()
            self._look_after()
            wait([self._readable, interruption.readable], timeout=self._s_between_signs)

    @property
    def _num_running(self) -> int:
        return len(self._postponed) + num_running(self._simulators)

    @property
    def _s_between_signs(self) -> float:
        return min(self._stall_timeout_s / 4.0, _MOST_S_BETWEEN_SIGNS)

    # Simulators

    def _place(self, running: _Running) -> None:
        idle = [each for each in self._simulators if each.running is None]
        if idle:
            self._start(idle[0], running)
        elif self._servers and not any(self._servers):
            # Each is being replaced; the first that is there again takes it.
            self._postponed.append(running)
        else:
            self._start(self._new_simulator(), running)

    def _new_simulator(self) -> _Simulator:
        """On one that asks the policy server with the fewest simulators."""
        places = [place for place, server in enumerate(self._servers) if server] or [0]
        load = Counter(each.place for each in self._simulators)
        place = min(places, key=lambda place: load[place])
        actor_class = self._ray.remote(
            num_cpus=self._cluster.options.cpus, max_restarts=0, max_concurrency=2
        )(Simulator)
        simulator = _Simulator(actor_class.remote(self._settings(place)), place)
        self._simulators.append(simulator)
        self._ask_whether_alive(simulator)
        return simulator

    def _settings(self, place: int) -> SimulatorSettings:
        settings = self._plan.settings
        server = self._servers[place] if self._servers else None
        connection = settings.server
        if server is None:
            tls_ca = None if connection.tls_ca is None else connection.tls_ca.read_bytes()
            token = None if connection.token_file is None else connection.token_file.read_bytes()
        else:
            assert self._cluster.token is not None
            connection = replace(connection, address=server.at.address)
            tls_ca, token = server.at.certificate, self._cluster.token.encode()
        return SimulatorSettings(
            serve=self._plan.serve,
            settings=replace(settings, server=connection),
            stall_timeout_s=self._stall_timeout_s,
            tls_ca=tls_ca,
            token=token,
        )

    def _start(self, simulator: _Simulator, running: _Running) -> None:
        simulator.running = running
        simulator.seen_s = time.monotonic()
        self._when_done(
            simulator.actor.run.remote(running.request).future(),
            lambda future: self._note_end(simulator, running, future),
        )

    def _note_end(self, simulator: _Simulator, running: _Running, future: Future[Any]) -> None:
        if simulator.running is not running:
            # Given up before, or elsewhere by now.
            return
        simulator.running = None
        try:
            attempt: Attempt = future.result()
        except self._ray.exceptions.RayError as error:
            self._discard(simulator)
            self._note_error(running, f"the simulator was lost: {one_line(error)}")
            return
        if attempt.halt is not None:
            self._halt = attempt.halt
            return
        assert attempt.report is not None
        _write_files(attempt.files, running.request.folder)
        self._ended.append((running.request, attempt.report))

    def _note_error(self, running: _Running, message: str) -> None:
        report = EpisodeReport(
            outcome=Outcome.ERROR,
            started_at=running.stopwatch.started_at,
            wall_s=running.stopwatch.wall_s,
            message=message,
        )
        self._ended.append((running.request, report))

    def _give_to_idle(self) -> None:
        """A simulator that waits for a place on a cluster that has shrunk, or is full, would wait
        for those that have nothing left to do: they take its episode."""
        idle = [each for each in self._simulators if each.running is None and each.is_there]
        for waiting in [each for each in self._simulators if not each.is_there]:
            if not idle or waiting.running is None:
                continue
            running = waiting.running
            self._discard(waiting)
            self._start(idle.pop(), running)

    def _look_after(self) -> None:
        """Ask those at work whether they are alive; give up those that have not said so."""
        now_s = time.monotonic()
        for simulator in list(self._simulators):
            running = simulator.running
            if running is None or not simulator.is_there:
                continue
            if now_s - simulator.seen_s > self._stall_timeout_s:
                self._discard(simulator)
                self._note_error(
                    running,
                    f"the simulator's node gave no sign of life for {self._stall_timeout_s:g} s",
                )
            elif not simulator.is_asked and now_s - simulator.seen_s > self._s_between_signs / 2:
                self._ask_whether_alive(simulator)

    def _ask_whether_alive(self, simulator: _Simulator) -> None:
        def note(future: Future[Any]) -> None:
            simulator.is_asked = False
            # Where it is no more, the episode's own end tells.
            if future.exception() is None:
                simulator.is_there = True
                simulator.seen_s = time.monotonic()

        simulator.is_asked = True
        self._when_done(simulator.actor.is_alive.remote().future(), note)

    def _discard(self, simulator: _Simulator) -> None:
        simulator.running = None
        self._simulators.remove(simulator)
        self._kill(simulator)

    def _kill(self, simulator: _Simulator) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(simulator.actor)

    # Policy servers

    def _watch_server(self, place: int, server: ClusterServer) -> None:
        self._when_done(server.ended(), lambda future: self._note_lost_server(place, future))

    def _note_lost_server(self, place: int, future: Future[Any]) -> None:
        """Begin another in its place; those who asked it are lost with it, their episodes too."""
        error = future.exception()
        told = future.result() if error is None else one_line(error)
        self._num_lost_servers += 1
        if self._num_lost_servers > _MAX_LOST_SERVERS:
            self._halt = f"policy servers end again and again, the last one: {told}"
            return
        self._servers[place] = None
        for simulator in [each for each in self._simulators if each.place == place]:
            running = simulator.running
            self._discard(simulator)
            if running is not None:
                self._note_error(running, f"the policy server was lost: {told}")
        actor, starting = self._cluster.begin_server()
        self._when_done(
            starting.future(), lambda future: self._note_new_server(place, actor, future)
        )

    def _note_new_server(self, place: int, actor: Any, future: Future[Any]) -> None:
        try:
            server = ClusterServer(actor=actor, at=future.result())
        except self._ray.exceptions.RayError as error:
            self._halt = f"a policy server was lost, and another does not start: {one_line(error)}"
            return
        self._servers[place] = server
        self._watch_server(place, server)
        postponed, self._postponed = self._postponed, []
        for running in postponed:
            self._place(running)

    # Events

    def _when_done(self, future: Future[Any], handle: Callable[[Future[Any]], None]) -> None:
        """Have `handle` called with it by `wait`, in the one thread that uses this."""

        def note(done: Future[Any]) -> None:
            self._events.put(_Event(handle, done))
            # Full means that it is readable already; closed, that nobody waits any more.
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")

        future.add_done_callback(note)

    def _handle_events(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._readable.recv(4096, socket.MSG_DONTWAIT)
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            event.handle(event.future)


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Put an attempt's files where the evaluation keeps them. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    received = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".received-"))
    try:
        for name, content in files.items():
            # Whatever it is called, it stays in here.
            (received / Path(name).name).write_bytes(content)
        adopt_files(received, folder)
    finally:
        shutil.rmtree(received, ignore_errors=True)
