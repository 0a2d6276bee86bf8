"""Who runs a conversion's episodes: this process, several local ones, or a Ray cluster.

Each executor yields an outcome an episode, in any order. Once `stop` is set it begins no new
episode, and ends when those in hand are done.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from trainer.data.conversion_job import ConversionJob, Outcome
from trainer.data.errors import DataError

_WORKER_DIED = (
    "a worker process died, perhaps for want of memory: what is written is whole; "
    "run the same again, with fewer --workers"
)


def run_here(
    job: ConversionJob, indices: Sequence[int], stop: threading.Event
) -> Iterator[Outcome]:
    for index in indices:
        if stop.is_set():
            return
        yield job.run(index)


def run_local(
    job: ConversionJob, indices: Sequence[int], num_workers: int, stop: threading.Event
) -> Iterator[Outcome]:
    """In processes of their own, which end with this one, however it ends."""
    waiting = list(reversed(indices))
    pending: set[Future[Outcome]] = set()
    with ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(job,),
    ) as pool:
        try:
            while pending or (waiting and not stop.is_set()):
                while waiting and len(pending) < 2 * num_workers and not stop.is_set():
                    # The pool starts a process where none is idle.
                    with _without_interrupts():
                        pending.add(pool.submit(_run_in_worker, waiting.pop()))
                if stop.is_set():
                    pending -= {future for future in pending if future.cancel()}
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise DataError(_WORKER_DIED) from error
        finally:
            for future in pending:
                future.cancel()


def run_on_ray(
    job: ConversionJob, indices: Sequence[int], num_workers: int | None, stop: threading.Event
) -> Iterator[Outcome]:
    """On the cluster of RAY_ADDRESS, or a local one where that is not set. None takes all CPUs.

    Source and destination must be the same places on every machine, and this package installed.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise DataError("--executor ray needs ray: pip install ray") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False)
    started: list[Any] = []
    try:
        num_actors = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        actor_class: Any = ray.remote(num_cpus=1, max_restarts=0)(_RayWorker)
        shared = ray.put(job)
        started += [actor_class.remote(shared) for _ in range(min(num_actors, len(indices)))]
        actors = list(started)
        waiting = list(reversed(indices))
        in_hand: dict[Any, Any] = {}
        while in_hand or (waiting and not stop.is_set()):
            while actors and waiting and not stop.is_set():
                actor = actors.pop()
                in_hand[actor.run.remote(waiting.pop())] = actor
            # A wait without an end would keep Ctrl-C waiting too.
            done, _ = ray.wait(list(in_hand), timeout=1.0)
            for reference in done:
                actors.append(in_hand.pop(reference))
                yield ray.get(reference)
    except ray.exceptions.RayActorError as error:
        raise DataError(_WORKER_DIED) from error
    finally:
        # One that still writes would meet whoever goes on with this conversion.
        for actor in started:
            ray.kill(actor)
        if ours:
            ray.shutdown()


class _RayWorker:
    def __init__(self, job: ConversionJob) -> None:
        self._job = job

    def run(self, index: int) -> Outcome:
        return self._job.run(index)


_job: ConversionJob | None = None


def _begin_worker(job: ConversionJob) -> None:
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _run_in_worker(index: int) -> Outcome:
    assert _job is not None
    return _job.run(index)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Workers that are started in here ignore Ctrl-C, which a terminal sends to them too: it is
    for their parent to say when they stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
