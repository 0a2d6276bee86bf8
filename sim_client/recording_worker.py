"""The process that records demonstrations: one station, one expert, one episode after another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

from policy_interface.contract import ImageSize
from policy_interface.demonstration import Demonstration, demonstration_path, save_demonstration
from sim_client.evaluation.worker_process import become_worker
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, Expert, NoiseInjector, perturbed
from sim_client.roll_in import FirstActor, RollInError, first_actor
from sim_client.roll_in_options import RollIn
from sim_client.station.station import SimulationError, Station
from sim_client.tasks.catalog import get_task
from sim_client.tasks.random_streams import stream

FIRST_SEED = 100
"""As in LBM Eval: the seed of scenario i is i + 100; evaluations lie 100 million higher."""
TEACHER = "scripted expert"


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    task: str
    cameras: Mapping[str, ImageSize]
    noise: CommandNoise
    roll_in: RollIn
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What came of one scenario: a saved demonstration where both reasons are None.

    failure: why the expert did not succeed. obstacle: why nothing can be saved, in any scenario.
    """

    scenario_index: int
    failure: str | None = None
    obstacle: str | None = None


class EpisodeFailedError(RuntimeError):
    """The expert did not succeed; the text says how it ended."""


def record_episode(
    station: Station,
    expert: Expert,
    *,
    scenario_index: int,
    noise: CommandNoise,
    first: FirstActor | None = None,
) -> Demonstration:
    """Let the expert do the task once, under noise, after the policy that begins if there is one.

    What is kept of each step is the observation and the action that the expert intended there; what
    was executed differs during bursts of noise. Raises EpisodeFailedError, and RollInError.
    """
    task = station.task
    seed = scenario_index + FIRST_SEED
    provenance = {"noise": repr(noise), "simulator": f"drake {version('drake')}"}
    if first is None:
        station.reset(seed)
        expert.reset()
    else:
        provenance["roll_in"] = _roll_in(first, station, expert, seed)
    injectors = {
        arm: NoiseInjector(noise, stream(seed, f"noise.{arm}")) for arm in station.contract.arms
    }
    observations, actions = [], []
    status = station.status()
    while not (expert.finished and status.success):
        if station.time_s >= task.time_limit_s:
            raise EpisodeFailedError(f"no success within {task.time_limit_s:g} s")
        observation = station.observe()
        action = expert.act(station.scene_state(), observation.actual, observation.desired)
        observations.append(observation)
        actions.append(action)
        try:
            status = station.step(perturbed(action, injectors, expert.arms))
        except SimulationError as error:
            raise EpisodeFailedError(str(error)) from error
        if status.failed:
            raise EpisodeFailedError(f"unrecoverable at {station.time_s:.1f} s")
    return Demonstration.from_steps(
        observations,
        actions,
        task=task.name,
        scenario_index=scenario_index,
        seed=seed,
        success=True,
        teacher=TEACHER,
        contract=station.contract,
        provenance=provenance,
    )


def _roll_in(first: FirstActor, station: Station, expert: Expert, seed: int) -> str:
    try:
        num_steps = first.take_station(station, expert, seed=seed)
    except SimulationError as error:
        raise EpisodeFailedError(f"while the policy began: {error}") from error
    return f"{num_steps} control steps of {first.name}"


def serve_recordings(connection: Connection, settings: WorkerSettings) -> None:
    """The worker's whole life: scenario indices come in, `Recorded` go out, files are written."""
    become_worker()
    try:
        task = get_task(settings.task)
        station = Station(task, cameras=settings.cameras)
        expert = make_expert(task)
        with ExitStack() as stack:
            first, obstacle = None, None
            try:
                if settings.roll_in.address is not None:
                    first = stack.enter_context(first_actor(settings.roll_in))
            except RollInError as error:
                obstacle = str(error)
            while True:
                index = connection.recv()
                if obstacle is not None:
                    connection.send(Recorded(scenario_index=index, obstacle=obstacle))
                else:
                    connection.send(_record(station, expert, index, settings, first))
    except (EOFError, ConnectionError):
        return


def _record(
    station: Station,
    expert: Expert,
    index: int,
    settings: WorkerSettings,
    first: FirstActor | None,
) -> Recorded:
    try:
        demonstration = record_episode(
            station, expert, scenario_index=index, noise=settings.noise, first=first
        )
    except EpisodeFailedError as error:
        return Recorded(scenario_index=index, failure=str(error))
    except RollInError as error:
        return Recorded(scenario_index=index, obstacle=str(error))
    path = demonstration_path(settings.folder, index)
    try:
        save_demonstration(demonstration, path)
    except OSError as error:
        return Recorded(scenario_index=index, obstacle=f"can't write {path}: {error}")
    return Recorded(scenario_index=index)
