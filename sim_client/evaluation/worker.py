"""A worker process: one station, one connection to the policy, one episode after another.

It reads `EpisodeRequest`s from a pipe and answers each with `Heartbeat`s and then one
`EpisodeReport` or `Halt`. It ends when the pipe does: with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from policy_interface.client import (
    PolicyClient,
    PolicyServerError,
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.contract import Contract, ContractError, ImageSize
from sim_client.evaluation.episode import (
    STATION_IS_SOUND,
    EpisodeReport,
    EpisodeRequest,
    Stopwatch,
    run_episode,
)
from sim_client.evaluation.episode_files import EpisodeFiles, EpisodeName
from sim_client.evaluation.handshake import await_metadata, policy_digest, serving_options
from sim_client.evaluation.likeness import refusal, simulator_differences
from sim_client.evaluation.policy_session import ServedPolicySession
from sim_client.evaluation.recording_options import RecordingOptions
from sim_client.evaluation.server_connection import ServerConnection
from sim_client.evaluation.simulator_facts import machine_facts
from sim_client.evaluation.station import Station, StationOptions, imported_factory
from sim_client.evaluation.worker_process import become_worker
from sim_client.station.headless_gl import RenderingUnavailableError
from step_analysis.rollouts import Outcome

if TYPE_CHECKING:
    from sim_client.evaluation.scene_view import SceneView

_MAX_MESSAGE_LENGTH = 1000


@dataclass(frozen=True, kw_only=True)
class ServedPolicySettings:
    """Where the policy under evaluation is, and how to tell it from another."""

    server: ServerConnection
    policy_digest: str
    serving_options: Mapping[str, str]
    wait_for_server_s: float


@dataclass(frozen=True, kw_only=True)
class LikeSimulators:
    """source: the file that tells of them."""

    source: str
    simulators: Sequence[Mapping[str, str]]
    allowed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(ServedPolicySettings):
    """What a worker needs to know for all its episodes.

    contract_json: what the station must give, as agreed with the policy. film_cameras: those that
    it renders besides, for videos. protocol_json: what all is simulated under.
    station_factory: import string `module:callable` of a StationFactory.
    like: of which evaluation's simulators one that runs here must be, and the names of what may
    differ; None for any.
    """

    contract_json: str
    station_factory: str
    protocol_json: str
    shift: str = ""
    latency_ms: float = 0.0
    film_cameras: Mapping[str, ImageSize] = field(default_factory=dict)
    recordings: RecordingOptions = field(default_factory=RecordingOptions)
    like: LikeSimulators | None = None


@dataclass(frozen=True)
class Heartbeat:
    """The worker is about to do the next piece of work."""


@dataclass(frozen=True)
class Halt:
    """No episode can be run, and trying others would not help; the message says why."""

    message: str


@dataclass(frozen=True)
class Ended:
    """The report of an episode; `worker_is_spent` where the process ends after it."""

    report: EpisodeReport
    worker_is_spent: bool = False


class Channel(Protocol):
    """To whoever submits episodes: a pipe between processes, or what does the same.

    Raises EOFError or another ConnectionError where the other side is gone.
    """

    def recv(self) -> EpisodeRequest: ...

    def send(self, message: Heartbeat | Halt | Ended, /) -> None: ...


def serve_episodes(connection: Connection, settings: WorkerSettings) -> None:
    """The worker's whole life."""
    become_worker()
    serve_requests(connection, settings)


def serve_requests(channel: Channel, settings: WorkerSettings) -> None:
    """Answer requests until the channel ends, or what this process has built is spent."""
    try:
        with settings.server.open() as client:
            worker = EpisodeWorker(channel, settings, client, StationKeeper())
            while not worker.is_spent:
                worker.serve(channel.recv())
    except (EOFError, ConnectionError):
        # The other side has closed the channel, or is gone: nobody is left to tell.
        return


def missing_policy(client: PolicyClient, settings: ServedPolicySettings) -> Halt | None:
    """Why there is no policy to evaluate, or None if it is there and still the same."""
    try:
        metadata = await_metadata(client, timeout_s=settings.wait_for_server_s)
    except PolicyServerUnreachableError as error:
        return Halt(
            f"the policy server has been gone for {settings.wait_for_server_s:g} s: {error}"
        )
    except PolicyServerRefusedError as error:
        return Halt(str(error))
    served = {"digest": policy_digest(metadata), **serving_options(metadata)}
    expected = {"digest": settings.policy_digest, **settings.serving_options}
    if served != expected:
        return Halt(
            f"{settings.server.address} now serves another policy, {served}, than the one "
            f"under evaluation, {expected}; serve that one again, or evaluate the new one "
            "into a new --output"
        )
    return None


class StationKeeper:
    """The station of the last episode, kept for the next one if that is of the same kind.

    One at a time: a scene with its renderer holds much memory.
    """

    def __init__(self) -> None:
        self._options: StationOptions | None = None
        self._station: Station | None = None

    def station(self, import_string: str, options: StationOptions) -> Station:
        """Raises what the factory of that import string raises."""
        if self._station is None or self._options != options:
            self._station = None
            self._station = imported_factory(import_string)(options)
            self._options = options
        return self._station


class EpisodeWorker:
    """Runs the episodes of one policy, and answers each request on the channel.

    is_spent: whether the process must end, as what it has built can't be trusted any more.
    """

    def __init__(
        self,
        channel: Channel,
        settings: WorkerSettings,
        client: PolicyClient,
        stations: StationKeeper,
    ) -> None:
        self.is_spent = False
        self._channel = channel
        self._settings = settings
        self._client = client
        self._policy = ServedPolicySession(client)
        self._contract = Contract.from_json(settings.contract_json)
        self._stations = stations
        self._view: SceneView | None = None

    def serve(self, request: EpisodeRequest) -> None:
        self._heartbeat()
        obstacle = missing_policy(self._client, self._settings)
        self._channel.send(self._attempt(request) if obstacle is None else obstacle)

    def _heartbeat(self) -> None:
        self._channel.send(Heartbeat())

    def _attempt(self, request: EpisodeRequest) -> Ended | Halt:
        stopwatch = Stopwatch()
        simulator: Mapping[str, str] = {}
        try:
            try:
                station = self._station_of(request.task)
            except (ImportError, ContractError, RenderingUnavailableError) as error:
                return Halt(f"the station of {request.task} can't be built: {error}")
            simulator = {**machine_facts(), "gl_renderer": station.gl_renderer}
            unlike = self._unlike(simulator)
            if unlike is not None:
                return unlike
            report = run_episode(
                request,
                station=station,
                policy=self._policy,
                cameras=self._contract.cameras,
                files=self._files(request),
                heartbeat=self._heartbeat,
            )
        except ConnectionError:
            raise
        # An episode's edge: recorded, never a verdict. Drake's assertions come as SystemExit.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self.is_spent = not isinstance(error, STATION_IS_SOUND)
            report = EpisodeReport(
                outcome=Outcome.ERROR,
                started_at=stopwatch.started_at,
                wall_s=stopwatch.wall_s,
                message=_described(error),
            )
        # The server may be gone; then it has forgotten the episode as well.
        with contextlib.suppress(PolicyServerError):
            self._client.end_episode()
        return Ended(replace(report, simulator=simulator), worker_is_spent=self.is_spent)

    def _unlike(self, simulator: Mapping[str, str]) -> Halt | None:
        like = self._settings.like
        if like is None:
            return None
        lines = simulator_differences(like.simulators, simulator, like.allowed)
        return Halt(refusal(like.source, lines)) if lines else None

    def _station_of(self, task_name: str) -> Station:
        cameras = {**self._settings.film_cameras, **self._contract.cameras}
        station = self._stations.station(
            self._settings.station_factory,
            StationOptions(
                task_name=task_name,
                cameras=cameras,
                shift=self._settings.shift,
                latency_ms=self._settings.latency_ms,
            ),
        )
        expected = replace(self._contract, cameras=cameras)
        if station.contract != expected:
            raise ContractError(
                f"its contract {station.contract} is not the one agreed on with the policy, "
                f"{expected}"
            )
        return station

    def _files(self, request: EpisodeRequest) -> EpisodeFiles:
        if self._settings.recordings.draws and self._view is None:
            from sim_client.evaluation.scene_view import SceneView

            self._view = SceneView(port=self._settings.recordings.meshcat_port)
        name = EpisodeName(
            task=request.task,
            scenario_index=request.scenario_index,
            seed=request.seed,
            protocol_json=self._settings.protocol_json,
        )
        return EpisodeFiles(request.folder, name, self._settings.recordings, self._view)


def _described(error: BaseException) -> str:
    """One line: what, and for an error that is not the server's, where."""
    text = " ".join(str(error).split())[:_MAX_MESSAGE_LENGTH]
    described = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, STATION_IS_SOUND):
        return described
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return described
    return f"{described} ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
