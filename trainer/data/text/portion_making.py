"""Processes that make tokens of portions beside a training, in the order in which it asks for them.

They are spawned, not forked, since the trainer has threads; they import no torch. They end with
the process that began them, however that ends.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.text.portion_tokens import PortionTokens


class PortionMakers:
    """A context manager. Of the portions that are asked for each process makes its share."""

    def __init__(self, tokens: PortionTokens, num_processes: int) -> None:
        self._tokens, self._num_processes = tokens, num_processes
        self._pipes: list[multiprocessing.connection.Connection] = []
        self._processes: list[Any] = []
        # By portion that was asked for, the process that makes it, and how that ended.
        self._makers: dict[int, int] = {}
        self._ended: dict[int, Exception | None] = {}

    def __enter__(self) -> PortionMakers:
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
            # What it is in the middle of is made again by whoever goes on.
            process.terminate()
            process.join()

    def ask(self, indices: Iterable[int]) -> None:
        """In this order; what is there or was asked for before is not made again."""
        for index in indices:
            if index in self._makers or self._tokens.path(index).exists():
                continue
            if not self._processes:
                self._begin()
            maker = self._makers[index] = len(self._makers) % self._num_processes
            try:
                self._pipes[maker].send(index)
            except OSError as error:
                raise self._death(maker) from error

    def wait(self, index: int) -> None:
        """Until a portion that was asked for is there; what ends its making is raised here."""
        while index in self._makers and index not in self._ended:
            maker = self._makers[index]
            try:
                ended, error = self._pipes[maker].recv()
            except (EOFError, OSError) as lost:
                raise self._death(maker) from lost
            self._ended[ended] = error
        error = self._ended.get(index)
        if error is not None:
            raise error

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._num_processes):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_make_until_told, args=(theirs, self._tokens), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    def _death(self, maker: int) -> DataError:
        process = self._processes[maker]
        process.join(timeout=1)
        return DataError(
            f"a process that makes tokens of text has died (exit code {process.exitcode}); -9 is "
            "what a machine short of memory does; the same command goes on from the last save"
        )


def _make_until_told(pipe: multiprocessing.connection.Connection, tokens: PortionTokens) -> None:
    # Ctrl-C is for the trainer, which then ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    encoder = None
    while True:
        try:
            index = pipe.recv()
        except (EOFError, OSError):
            return
        error: Exception | None = None
        try:
            encoder = encoder or tokens.encoder()
            tokens.make(index, encoder)
        except (DataError, OSError, MemoryError) as raised:
            error = raised
        # A process's edge: whatever a reader raises is told where it can be seen.
        except Exception as raised:  # noqa: BLE001
            told = f"portion {index}: {raised!r}\n{traceback.format_exc()}"
            error = DataError(told, where=tokens.portions.place)
        try:
            if error is not None:
                # For the other ranks, which wait for the file.
                with atomic_file(tokens.failure(index)) as file:
                    file.write(str(error).encode())
            pipe.send((index, error))
        except OSError:
            return
