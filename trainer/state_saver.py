"""Saves of a training state that go on beside the training."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from trainer.distributed import World
from trainer.run_directory import RunDirectory, TrainingState
from trainer.state_files import snapshot


class StateSaver:
    """One save at a time. is_sharded: whether each rank saves a part; otherwise the first does."""

    def __init__(self, run: RunDirectory, world: World, *, is_sharded: bool) -> None:
        self._run, self._world, self._is_sharded = run, world, is_sharded
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._running: Future[None] | None = None

    def save(self, state: TrainingState) -> None:
        """Returns when the state is copied; what fails then is raised by the next `wait`.

        All ranks call it. Raises OSError, RankLostError of the save before.
        """
        self.wait()
        is_first = self._world.is_first
        if is_first:
            self._run.remove_partial_states()
        # Before one begins to write, the first has made room.
        if self._world.any(is_first and self._run.has_state_of(state.step)):
            return
        if is_first or self._is_sharded:
            copied = replace(state, tensors=snapshot(state.tensors))
            self._running = self._thread.submit(self._write, copied)

    def _write(self, state: TrainingState) -> None:
        with self._world.exchanging():
            self._run.save_state(state, self._world if self._is_sharded else None)

    def wait(self) -> None:
        """Until what was saved is whole, on the disk."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """The last save is whole when the block ends, however it ends."""
        try:
            yield
        except BaseException:
            # What ended the block is what is told.
            if self._running is not None:
                self._running.exception()
            raise
        else:
            self.wait()
        finally:
            self._thread.shutdown()
