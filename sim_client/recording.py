"""`sim-client demos`: record demonstrations of a task by its scripted expert.

One file a demonstration (see `policy_interface.demonstration`), written by worker processes. Files
are whole or absent, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from policy_interface.contract import Contract, ImageSize
from sim_client.demonstration_folder import (
    DATASET_FILE,
    DemonstrationFolder,
    FolderUnusableError,
)
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.worker_process import start_worker
from sim_client.experts.expert import CommandNoise
from sim_client.roll_in_options import RollIn
from sim_client.station.headless_gl import RenderingUnavailableError, require_rendering

STATION_CAMERAS = ("scene_right_0", "scene_left_0", "wrist_right_minus", "wrist_left_plus")

_WORK_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130
# Twice is bad luck (a machine short of memory); three times in one scenario is a defect.
_MAX_DEATHS = 2
# A teacher that fails more often than this is not one.
_MAX_UNSUCCESSFUL_SHARE = 0.5
_NUM_PLAIN_LINES = 10
SMALL_IMAGE = ImageSize(height=96, width=96)
# Seeds from 100 million on are evaluations'.
_MAX_SCENARIO = 90_000_000


class RecordingStoppedError(RuntimeError):
    """Recording can't go on; what is recorded stays. Exit code 1."""


IMAGE_SIZE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="WIDTHxHEIGHT",
    instance_from_str=lambda words: ImageSize.parse(words[0]),
    is_instance=lambda value: isinstance(value, ImageSize),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True, kw_only=True)
class RecordingConfig:
    """Record demonstrations of a task by its scripted expert; run again to go on."""

    task: str = "PickAndPlaceBox"
    """`sim-client tasks` lists them."""
    num: int = 100
    """How many demonstrations the folder should hold."""
    output: Path = Path("demonstrations")
    """Folder for the demonstrations, one file each."""
    workers: int = 2
    """Simulator processes."""
    cameras: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAMERA[,CAMERA]")] = STATION_CAMERAS
    """Cameras to record, separated by commas."""
    image_size: Annotated[ImageSize, IMAGE_SIZE] = SMALL_IMAGE
    """Size of each image in pixels."""
    noise: CommandNoise = field(default_factory=CommandNoise)
    roll_in: RollIn = field(default_factory=RollIn)
    first: int = 0
    """The first scenario. Of those that a policy has learnt from it goes wrong less often."""

    def __post_init__(self) -> None:
        words = [word.strip() for item in self.cameras for word in item.split(",")]
        object.__setattr__(self, "cameras", tuple(word for word in words if word))
        for name in ("num", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.first < _MAX_SCENARIO:
            raise ValueError(f"--first: expected 0 to {_MAX_SCENARIO - 1:,}, got {self.first}")
        unknown = sorted(set(self.cameras) - set(STATION_CAMERAS))
        if unknown or not self.cameras:
            raise ValueError(
                f"--cameras: expected some of {', '.join(STATION_CAMERAS)}; "
                f"got {', '.join(unknown) or 'none'}"
            )

    @property
    def camera_sizes(self) -> Mapping[str, ImageSize]:
        return dict.fromkeys(self.cameras, self.image_size)


def record_demonstrations(config: RecordingConfig) -> int:
    """Fill the folder up to `config.num` demonstrations; returns the verb's exit code."""
    try:
        require_rendering()
        # Imports Drake, which is worth a second: after the cheap checks.
        from sim_client.roll_in import RollInError, meet
        from sim_client.tasks.catalog import UnknownTaskError, get_task

        try:
            task = get_task(config.task).name
        except UnknownTaskError as error:
            return _complain(f"--task: {error}", _BAD_USAGE)
        contract = Contract(cameras=config.camera_sizes, uses_language=True)
        try:
            before = None if config.roll_in.address is None else meet(config.roll_in, contract)
        except RollInError as error:
            return _complain(str(error), _WORK_FAILED)
        folder = DemonstrationFolder.open(
            config.output,
            task=task,
            contract=contract,
            noise=asdict(config.noise),
            roll_in=before,
            first=config.first,
        )
        with Interruption() as interruption:
            is_complete = _record_missing(config, folder, interruption)
    except FolderUnusableError as error:
        return _complain(f"--output: {error}", _BAD_USAGE)
    except (RecordingStoppedError, RenderingUnavailableError) as error:
        return _complain(str(error), _WORK_FAILED)
    if not is_complete:
        return _complain(
            f"interrupted with {len(folder.recorded)} of {config.num} demonstrations in "
            f"{config.output}; run the same command to go on",
            _INTERRUPTED,
        )
    print(
        f"{len(folder.recorded)} demonstrations of {task} in {config.output}; "
        f"{len(folder.unsuccessful)} scenarios without success were left out"
    )
    return 0


def _complain(line: str, exit_code: int) -> int:
    print(f"sim-client demos: {line}", file=sys.stderr)
    return exit_code


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    scenario_index: int

    def give(self, scenario_index: int) -> None:
        """A worker that has died is noticed when its answer is read, not here."""
        self.scenario_index = scenario_index
        try:
            self.connection.send(scenario_index)
        except OSError:
            return


class _Scenarios:
    """What to record next, until the folder is full."""

    def __init__(self, config: RecordingConfig, folder: DemonstrationFolder) -> None:
        self._num = config.num
        self._folder = folder
        self._new = folder.unknown_scenarios()
        self._again: list[int] = []
        self._num_deaths: dict[int, int] = {}

    def next(self, *, num_running: int) -> int | None:
        """A scenario, or None where those that run will do if they succeed."""
        if len(self._folder.recorded) + num_running >= self._num:
            return None
        return self._again.pop() if self._again else next(self._new)

    def note_failure(self, index: int, reason: str) -> None:
        """Raises RecordingStoppedError where the expert fails too often to be one."""
        self._folder.note_unsuccessful(index, reason)
        if len(self._folder.unsuccessful) > max(10, _MAX_UNSUCCESSFUL_SHARE * self._num):
            raise RecordingStoppedError(
                f"the expert failed in {len(self._folder.unsuccessful)} scenarios; the reasons are "
                f"in {self._folder.path / DATASET_FILE}"
            )

    def note_death(self, index: int, process: BaseProcess) -> None:
        """Raises RecordingStoppedError where the same scenario ended too many workers."""
        code = process.exitcode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        line = f"the worker that recorded scenario {index} ended with {how}"
        self._num_deaths[index] = self._num_deaths.get(index, 0) + 1
        if self._num_deaths[index] > _MAX_DEATHS:
            raise RecordingStoppedError(f"{line}, {self._num_deaths[index]} times")
        tqdm.write(f"sim-client demos: {line}; it is recorded again", file=sys.stderr)
        self._again.append(index)


def _record_missing(
    config: RecordingConfig, folder: DemonstrationFolder, interruption: Interruption
) -> bool:
    """Whether all was recorded, or False where it was interrupted."""
    scenarios = _Scenarios(config, folder)
    workers: list[_Worker] = []
    with _Progress(total=config.num, done=len(folder.recorded)) as progress:
        try:
            while len(folder.recorded) < config.num:
                while len(workers) < config.workers:
                    index = scenarios.next(num_running=len(workers))
                    if index is None:
                        break
                    workers.append(_start(config, index))
                ready = wait([interruption.readable, *(worker.connection for worker in workers)])
                if interruption.requested:
                    return False
                for worker in [worker for worker in workers if worker.connection in ready]:
                    try:
                        recorded = worker.connection.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        _dismiss(worker)
                        scenarios.note_death(worker.scenario_index, worker.process)
                        continue
                    if recorded.obstacle is not None:
                        raise RecordingStoppedError(recorded.obstacle)
                    if recorded.failure is None:
                        folder.recorded.add(recorded.scenario_index)
                        progress.advance()
                    else:
                        scenarios.note_failure(recorded.scenario_index, recorded.failure)
                    index = scenarios.next(num_running=len(workers) - 1)
                    if index is None:
                        workers.remove(worker)
                        _dismiss(worker)
                    else:
                        worker.give(index)
        finally:
            for worker in workers:
                worker.process.kill()
                _dismiss(worker)
    return True


def _start(config: RecordingConfig, scenario_index: int) -> _Worker:
    from sim_client.recording_worker import WorkerSettings, serve_recordings

    settings = WorkerSettings(
        task=config.task,
        cameras=config.camera_sizes,
        noise=config.noise,
        roll_in=config.roll_in,
        folder=config.output,
    )
    process, connection = start_worker(serve_recordings, settings, name="demos-worker")
    worker = _Worker(process, connection, scenario_index)
    worker.give(scenario_index)
    return worker


def _dismiss(worker: _Worker) -> None:
    """A worker ends when its pipe does."""
    worker.connection.close()
    worker.process.join()


class _Progress:
    """A bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, *, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._bar = tqdm(
            total=total, initial=min(done, total), unit="demo", disable=None, dynamic_ncols=True
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        self._done += 1
        self._bar.update()
        if self._bar.disable and self._done % max(1, self._total // _NUM_PLAIN_LINES) == 0:
            print(f"{self._done} of {self._total} demonstrations", file=sys.stderr)
