"""A load's clients, divided among processes that begin to measure together."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any

from policy_server.bench.clients import run_clients
from policy_server.bench.load import Load, LoadError
from policy_server.bench.measurement import Measurement
from policy_server.message_memory import keep_message_memory

# Far longer than the slowest process takes to start and to warm up.
_START_TIMEOUT_S = 120.0


class _OtherFailedError(LoadError):
    """This process's clients were ready, and another's never were."""


def measure(load: Load) -> Measurement:
    """Raises LoadError where the server does not take the load."""
    if load.num_processes == 1:
        return _measured(load, range(load.num_clients), lambda: None)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(load.num_processes)
    pipes: list[Connection] = []
    for index in range(load.num_processes):
        receiver, sender = context.Pipe(duplex=False)
        clients = range(index, load.num_clients, load.num_processes)
        # A daemon, so that none outlives this process.
        context.Process(
            target=_measure_part, args=(load, clients, barrier, sender), daemon=True
        ).start()
        sender.close()
        pipes.append(receiver)
    parts = []
    while len(parts) < load.num_processes:
        for pipe in wait(pipes):
            assert isinstance(pipe, Connection)
            pipes.remove(pipe)
            parts.append(_received(pipe))
            if isinstance(parts[-1], LoadError):
                # Whoever is ready need not wait for one that will never be.
                barrier.abort()
    errors = [part for part in parts if isinstance(part, LoadError)]
    if errors:
        raise next((e for e in errors if not isinstance(e, _OtherFailedError)), errors[0])
    return Measurement.of([part for part in parts if isinstance(part, Measurement)])


def _received(pipe: Connection) -> Measurement | LoadError:
    try:
        return pipe.recv()
    except EOFError:
        return LoadError("a process of the load died")


def _measure_part(load: Load, clients: Sequence[int], barrier: Barrier, sender: Connection) -> None:
    def wait_for_others() -> None:
        try:
            barrier.wait(_START_TIMEOUT_S)
        except BrokenBarrierError as error:
            raise _OtherFailedError("another process of the load was not ready") from error

    try:
        sender.send(_measured(load, clients, wait_for_others))
    except LoadError as error:
        sender.send(error)


def _measured(
    load: Load, clients: Sequence[int], wait_for_others: Callable[[], None]
) -> Measurement:
    # The load is not what is measured, so it is as light as it can be.
    keep_message_memory()
    try:
        return asyncio.run(run_clients(load, clients, wait_for_others))
    except ExceptionGroup as group:
        # The first client that failed took the others with it.
        refused = group.subgroup(LoadError)
        if refused is None:
            raise
        raise _first(refused) from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
