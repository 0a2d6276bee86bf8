"""Processes that decode frames into memory that they share with the trainer.

A ring of slots, each as large as a batch's images, is made once. Processes decode into the slots
ahead of the trainer, which looks at a slot without copying it and then gives it back. So nothing is
allocated, pickled or copied however long a run is, and its memory stays flat. Each batch is cut in
as many parts as there are processes, so that one batch is ready soon, not several late.

A batch's frames depend on what is asked for alone, whatever the number of processes. They are
spawned, not forked, since the trainer has threads; they import no torch.

Axes: B sample, F frame of a window, H W image.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import signal
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Dataset, Episode
from trainer.data.errors import DataError
from trainer.data.windows import IntArray

_OPEN_EPISODES = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameRequest:
    """dataset, episode: (B,). steps: (B, F)."""

    dataset: IntArray
    episode: IntArray
    steps: IntArray


Frames = Mapping[str, npt.NDArray[np.uint8]]


class EpisodeFrames:
    """Reads frames of several data sets, with the last episodes kept open."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets
        self._episode = functools.lru_cache(_OPEN_EPISODES)(self._open)
        # Where a format has a quicker way than an episode's, it keeps its files open itself.
        self._is_quick = [type(d).read_frames is not Dataset.read_frames for d in datasets]

    def _open(self, dataset: int, episode: int) -> Episode:
        return self._datasets[dataset].episode(episode)

    def read(self, dataset: int, episode: int, steps: Sequence[int], out: Frames) -> None:
        """Fills (F, H, W, 3) by camera. Raises DataError."""
        if self._is_quick[dataset]:
            self._datasets[dataset].read_frames(episode, steps, out)
            return
        opened = self._episode(dataset, episode)
        for camera, frames in out.items():
            read = opened.frames(camera, steps)
            if read.shape != frames.shape:
                raise DataError(
                    f"camera {camera!r}: expected frames of {frames.shape[1:]}, "
                    f"got {read.shape[1:]}",
                    episode=opened.description.episode_id,
                )
            frames[...] = read


class FrameWorkers:
    """A context manager. num_slots: batches in memory, the one being looked at included."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        image_sizes: Mapping[str, tuple[int, int]],
        *,
        batch_size: int,
        num_frames: int,
        num_workers: int,
        num_slots: int,
    ) -> None:
        """image_sizes: (H, W) by camera."""
        context = multiprocessing.get_context("spawn")
        self._shapes = {
            name: (num_slots, batch_size, num_frames, height, width, 3)
            for name, (height, width) in image_sizes.items()
        }
        memory = {
            name: context.RawArray(ctypes.c_uint8, int(np.prod(shape, dtype=np.int64)))
            for name, shape in self._shapes.items()
        }
        self._slots = _as_arrays(memory, self._shapes)
        self._num_slots = num_slots
        self._pipes: list[multiprocessing.connection.Connection] = []
        self._processes: list[Any] = []
        for _ in range(num_workers):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_decode_until_told,
                args=(theirs, list(datasets), memory, self._shapes),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    @property
    def num_bytes(self) -> int:
        """Of the ring."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self._shapes.values())

    def __enter__(self) -> FrameWorkers:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=1)
            if process.is_alive():
                # In the middle of a frame: it holds nothing that must be put away.
                process.terminate()
                process.join()

    def batches(self, requests: Iterable[FrameRequest]) -> Iterator[Frames]:
        """(B, F, H, W, 3) by camera for each request, in order; views that hold until the next.

        Raises DataError where a frame cannot be read or a process has died. Once it was left
        before its end, these workers are of no more use.
        """
        waiting = iter(requests)
        sizes: list[int] = []  # of batches asked for and not given yet, oldest first
        missing = [0] * self._num_slots
        asked = given = 0
        # One slot is being looked at while the others fill.
        for request in itertools.islice(waiting, self._num_slots - 1):
            self._ask(request, asked % self._num_slots, missing)
            sizes.append(len(request.episode))
            asked += 1
        while given < asked:
            slot = given % self._num_slots
            while missing[slot]:
                self._receive(missing)
            request = next(waiting, None)
            if request is not None:
                self._ask(request, asked % self._num_slots, missing)
                sizes.append(len(request.episode))
                asked += 1
            size = sizes.pop(0)
            yield {name: array[slot, :size] for name, array in self._slots.items()}
            given += 1

    def _ask(self, request: FrameRequest, slot: int, missing: list[int]) -> None:
        size, workers = len(request.episode), len(self._pipes)
        for worker, pipe in enumerate(self._pipes):
            rows = range(size * worker // workers, size * (worker + 1) // workers)
            if rows:
                missing[slot] += 1
                part = slice(rows.start, rows.stop)
                self._send(
                    pipe,
                    (
                        slot,
                        rows.start,
                        request.dataset[part].tolist(),
                        request.episode[part].tolist(),
                        request.steps[part].tolist(),
                    ),
                )

    def _send(self, pipe: multiprocessing.connection.Connection, task: Any) -> None:
        try:
            pipe.send(task)
        except OSError as error:
            raise self._death() from error

    def _receive(self, missing: list[int]) -> None:
        for ready in multiprocessing.connection.wait(self._pipes):
            assert isinstance(ready, multiprocessing.connection.Connection)
            try:
                answer = ready.recv()
            except (EOFError, OSError) as error:
                raise self._death() from error
            if isinstance(answer, BaseException):
                raise answer
            missing[answer] -= 1

    def _death(self) -> DataError:
        for process in self._processes:
            process.join(timeout=1)
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        return DataError(
            f"a process that decodes frames has died (exit code {codes}); "
            "-9 is what a machine short of memory does: lower loader.num_workers"
        )


def _as_arrays(
    memory: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[np.uint8]]:
    return {
        name: np.frombuffer(memory[name], np.uint8).reshape(shape) for name, shape in shapes.items()
    }


def _decode_until_told(
    pipe: multiprocessing.connection.Connection,
    datasets: Sequence[Dataset],
    memory: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    # Ctrl-C is for the trainer, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    slots, frames = _as_arrays(memory, shapes), EpisodeFrames(datasets)
    while True:
        try:
            slot, first_row, *columns = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            rows = zip(*columns, strict=True)
            for row, (dataset, episode, steps) in enumerate(rows, start=first_row):
                out = {name: array[slot, row] for name, array in slots.items()}
                frames.read(dataset, episode, steps, out)
            answer: object = slot
        except DataError as error:
            answer = DataError(str(error))
        # A process's edge: whatever a decoder raises is told where it can be seen.
        except Exception as error:  # noqa: BLE001
            answer = DataError(f"a frame could not be decoded: {error!r}\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except OSError:
            return
