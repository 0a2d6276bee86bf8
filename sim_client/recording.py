"""`sim-client demos`: record demonstrations of a task by its scripted expert.

One file a demonstration (see `policy_interface.demonstration`), written by worker processes. Files
are whole or absent, so that a run that was stopped goes on where it was: valid demonstrations are
kept and only what is missing is recorded. `dataset.json` beside them says what was asked for and
which scenarios the expert did not solve.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any

import tyro
from policy_interface.contract import Contract, ContractError, ImageSize
from policy_interface.demonstration import (
    DemonstrationError,
    list_demonstrations,
    load_demonstration,
)
from tqdm import tqdm

from sim_client.evaluation.interruption import Interruption
from sim_client.experts.expert import CommandNoise
from sim_client.station.headless_gl import RenderingUnavailableError, require_rendering

STATION_CAMERAS = ("scene_right_0", "scene_left_0", "wrist_right_minus", "wrist_left_plus")
DATASET_FILE = "dataset.json"
DATASET_SCHEMA = "assay.dataset/1"

_WORK_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130
# Twice is bad luck (a machine short of memory); three times in one scenario is a defect.
_MAX_DEATHS_PER_SCENARIO = 2
_NUM_PLAIN_LINES = 10
# An expert that fails more often than this is not one.
_MAX_UNSUCCESSFUL_SHARE = 0.5

# Drake keeps threads; forking a process that runs them is undefined.
_CONTEXT = multiprocessing.get_context("spawn")


class RecordingUsageError(ValueError):
    """What was asked for can't be recorded: change the command. Exit code 2."""


class RecordingStoppedError(RuntimeError):
    """Recording can't go on; what is recorded stays. Exit code 1."""


_IMAGE_SIZE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="WIDTHxHEIGHT",
    instance_from_str=lambda words: ImageSize.parse(words[0]),
    is_instance=lambda value: isinstance(value, ImageSize),
    str_from_instance=lambda value: [str(value)],
)


_SMALL = ImageSize(height=96, width=96)


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
    image_size: Annotated[ImageSize, _IMAGE_SIZE] = _SMALL
    """Size of each image in pixels."""
    noise: CommandNoise = field(default_factory=CommandNoise)

    def __post_init__(self) -> None:
        words = [word.strip() for item in self.cameras for word in item.split(",")]
        object.__setattr__(self, "cameras", tuple(word for word in words if word))
        for name in ("num", "workers"):
            if getattr(self, name) < 1:
                raise RecordingUsageError(
                    f"--{name}: expected at least 1, got {getattr(self, name)}"
                )
        unknown = sorted(set(self.cameras) - set(STATION_CAMERAS))
        if unknown or not self.cameras:
            raise RecordingUsageError(
                f"--cameras: {unknown or 'none'} given, expected some of {list(STATION_CAMERAS)}"
            )

    @property
    def camera_sizes(self) -> Mapping[str, ImageSize]:
        return dict.fromkeys(self.cameras, self.image_size)


def record_demonstrations(config: RecordingConfig) -> int:
    """Fill the folder up to `config.num` demonstrations; the exit code of the verb."""
    try:
        require_rendering()
        dataset = _Dataset.open(config)
        with Interruption() as interruption:
            finished = _record_missing(config, dataset, interruption)
    except RecordingUsageError as error:
        return _complain(str(error), _BAD_USAGE)
    except (RecordingStoppedError, RenderingUnavailableError) as error:
        return _complain(str(error), _WORK_FAILED)
    if not finished:
        return _complain(
            f"interrupted with {len(dataset.recorded)} of {config.num} demonstrations in "
            f"{config.output}; run the same command to go on",
            _INTERRUPTED,
        )
    print(
        f"{len(dataset.recorded)} demonstrations of {dataset.task} in {config.output}"
        f" ({len(dataset.unsuccessful)} scenarios without success left out)"
    )
    return 0


def _complain(line: str, exit_code: int) -> int:
    print(f"sim-client demos: {line}", file=sys.stderr)
    return exit_code


@dataclass(kw_only=True)
class _Dataset:
    """The folder: which scenarios are recorded, and which the expert did not solve, and why."""

    folder: Path
    task: str
    request: Mapping[str, Any]
    recorded: set[int]
    unsuccessful: dict[int, str]

    @staticmethod
    def open(config: RecordingConfig) -> _Dataset:
        """Raises RecordingUsageError for a folder that can't be used or holds something else."""
        from sim_client.tasks.catalog import UnknownTaskError, get_task

        try:
            task = get_task(config.task).name
            config.output.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=config.output):
                pass
        except UnknownTaskError as error:
            raise RecordingUsageError(str(error)) from error
        except OSError as error:
            raise RecordingUsageError(f"--output {config.output}: not writable: {error}") from error
        request = {
            "task": task,
            "cameras": {name: str(size) for name, size in config.camera_sizes.items()},
            "noise": asdict(config.noise),
        }
        unsuccessful = _unsuccessful_before(config.output, request)
        expected = Contract(cameras=config.camera_sizes, uses_language=True)
        dataset = _Dataset(
            folder=config.output,
            task=task,
            request=request,
            recorded=_valid_recordings(config.output, task=task, contract=expected),
            unsuccessful=unsuccessful,
        )
        dataset.write()
        return dataset

    def write(self) -> None:
        fields = {
            "schema": DATASET_SCHEMA,
            **self.request,
            "unsuccessful": {str(i): why for i, why in sorted(self.unsuccessful.items())},
        }
        with tempfile.NamedTemporaryFile(
            "w", dir=self.folder, prefix=".dataset.", suffix=".partial", delete=False
        ) as partial:
            json.dump(fields, partial, indent=2)
            partial.flush()
            os.fsync(partial.fileno())
        Path(partial.name).replace(self.folder / DATASET_FILE)

    def missing(self, num: int) -> Iterator[int]:
        """Scenario indices to try next; no more at a time than demonstrations are missing."""
        for index in count():
            if len(self.unsuccessful) > max(10, _MAX_UNSUCCESSFUL_SHARE * num):
                raise RecordingStoppedError(
                    f"the expert failed in {len(self.unsuccessful)} scenarios of {self.task}; the "
                    f"reasons are in {self.folder / DATASET_FILE}"
                )
            if index not in self.recorded and index not in self.unsuccessful:
                yield index


def _unsuccessful_before(folder: Path, request: Mapping[str, Any]) -> dict[int, str]:
    path = folder / DATASET_FILE
    try:
        fields = json.loads(path.read_text())
        found = {name: fields[name] for name in request}
        unsuccessful = {int(index): str(why) for index, why in fields["unsuccessful"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingUsageError(f"{path}: not a description of a data set: {error!r}") from error
    for name, value in request.items():
        if found[name] != value:
            raise RecordingUsageError(
                f"{folder} holds demonstrations with {name} {found[name]}, not {value}; "
                "choose another --output, or the same options to go on"
            )
    return unsuccessful


def _valid_recordings(folder: Path, *, task: str, contract: Contract) -> set[int]:
    """Indices of whole demonstrations; a file that is not whole is removed and recorded again."""
    try:
        paths = list_demonstrations(folder)
    except DemonstrationError:
        return set()
    valid = set()
    for path in paths:
        try:
            demonstration = load_demonstration(path)
        except (DemonstrationError, ContractError) as error:
            print(f"sim-client demos: {error}; recorded again", file=sys.stderr)
            path.unlink()
            continue
        if demonstration.task != task or demonstration.contract != contract:
            raise RecordingUsageError(
                f"{path} is a demonstration of {demonstration.task} with other cameras or terms; "
                "choose another --output"
            )
        valid.add(demonstration.scenario_index)
    return valid


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    scenario_index: int


def _record_missing(config: RecordingConfig, dataset: _Dataset, interruption: Interruption) -> bool:
    """Whether all was recorded, or False where it was interrupted."""
    deaths: dict[int, int] = {}
    workers: list[_Worker] = []
    indices = dataset.missing(config.num)
    again: list[int] = []
    with _Progress(total=config.num, initial=len(dataset.recorded)) as progress:
        try:
            while len(dataset.recorded) < config.num:
                while (
                    len(workers) < config.workers
                    and len(dataset.recorded) + len(workers) < config.num
                ):
                    index = again.pop() if again else next(indices)
                    workers.append(_start_worker(config, index))
                readable = [worker.connection for worker in workers]
                ready = wait([*readable, interruption.readable])
                if interruption.requested:
                    return False
                for worker in [worker for worker in workers if worker.connection in ready]:
                    index = worker.scenario_index
                    try:
                        recorded = worker.connection.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        _discard(worker)
                        deaths[index] = deaths.get(index, 0) + 1
                        _note_death(worker, index, deaths[index])
                        again.append(index)
                        continue
                    if recorded.failure is None:
                        dataset.recorded.add(index)
                        progress.advance()
                    else:
                        dataset.unsuccessful[index] = recorded.failure
                        dataset.write()
                    if len(dataset.recorded) + len(workers) <= config.num:
                        worker.scenario_index = again.pop() if again else next(indices)
                        worker.connection.send(worker.scenario_index)
                    else:
                        workers.remove(worker)
                        _discard(worker)
        finally:
            for worker in workers:
                worker.process.kill()
                _discard(worker)
    return True


def _note_death(worker: _Worker, index: int, num_deaths: int) -> None:
    code = worker.process.exitcode
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    line = f"the worker recording scenario {index} ended with {how}"
    if num_deaths > _MAX_DEATHS_PER_SCENARIO:
        raise RecordingStoppedError(f"{line}, {num_deaths} times; see its message above")
    tqdm.write(f"sim-client demos: {line}; trying again", file=sys.stderr)


def _start_worker(config: RecordingConfig, first_index: int) -> _Worker:
    from sim_client.recording_worker import WorkerSettings, serve_recordings

    settings = WorkerSettings(
        task=config.task, cameras=config.camera_sizes, noise=config.noise, folder=config.output
    )
    ours, theirs = _CONTEXT.Pipe(duplex=True)
    process = _CONTEXT.Process(
        target=serve_recordings, args=(theirs, settings), name="demos-worker", daemon=True
    )
    with _one_thread_each(), _signals_blocked():
        process.start()
    theirs.close()
    ours.send(first_index)
    return _Worker(process, ours, first_index)


def _discard(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Mesa's software renderer would start a thread a core in every worker."""
    previous = {name: os.environ.get(name) for name in ("LP_NUM_THREADS", "OMP_NUM_THREADS")}
    os.environ.update(dict.fromkeys(previous, "1"))
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """So that a Ctrl-C finds no child that is still importing and would print a traceback."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class _Progress:
    """A bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, *, total: int, initial: int) -> None:
        self._total = total
        self._done = initial
        self._bar = tqdm(
            total=total, initial=min(initial, total), unit="demo", disable=None, dynamic_ncols=True
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
