"""The ranks of a training on this machine, begun and waited for by a process that trains nothing.

What torchrun does for one node, heard by nobody outside of it: the store in which ranks meet and
what they exchange are on the loopback interface alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, main_thread
from types import FrameType

# torch documents it there, and leaves it out of the names that it says to export.
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

# For the others to notice that a rank has ended: in an exchange at once, but not while they begin.
_GRACE_S = 30.0
_INTERRUPTED = 130
_LOOPBACK = "127.0.0.1"
# Of Linux and of macOS.
_LOOPBACK_INTERFACES = ("lo", "lo0")


class RanksEndedError(RuntimeError):
    """A rank has not done its work. is_told: by itself, in a line."""

    def __init__(self, message: str, exit_code: int, *, is_told: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_told = is_told


def world_size_around() -> int | None:
    """Of the ranks that this process is one of; None where no launcher began it."""
    size = os.environ.get("WORLD_SIZE")
    return int(size) if size is not None and size.isdecimal() else None


def is_first_around() -> bool:
    """Whether this process is alone, or the first of the ranks that it is one of."""
    return world_size_around() in (None, 1) or os.environ.get("RANK", "0") == "0"


def run_ranks(command: Sequence[str], num_ranks: int) -> None:
    """Begin a command so many times, as ranks that `joined_world` joins, and wait for all of them.

    Ctrl-C and SIGTERM are passed on. Raises RanksEndedError where one ends with an error: the
    others are then given half a minute to notice.
    """
    listener = socket.create_server((_LOOPBACK, 0))
    port: int = listener.getsockname()[1]
    # Given a socket, it opens none of its own, which anyone could reach. It is closed with it.
    store = TCPStore(
        _LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        with _passing_signals_on(ranks) as passed:
            for rank in range(num_ranks):
                # In a session of its own: a terminal's Ctrl-C is passed on, once, by us.
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **_environment(rank, num_ranks, port)},
                    start_new_session=True,
                )
                ranks.append(process)
                # It would wait for the others, who have been told before it was there.
                for number in passed:
                    process.send_signal(number)
            _wait(ranks)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
        del store


def _environment(rank: int, num_ranks: int, port: int) -> Mapping[str, str]:
    """As torchrun has it."""
    interfaces = {name for _, name in socket.if_nameindex()}
    own = next((each for each in _LOOPBACK_INTERFACES if each in interfaces), None)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(port),
        # The store is ours, and outlives any rank.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        **({} if own is None else {"GLOO_SOCKET_IFNAME": own, "NCCL_SOCKET_IFNAME": own}),
    }


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    ended: SimpleQueue[int] = SimpleQueue()
    for rank, process in enumerate(ranks):
        Thread(target=_tell_end, args=(process, rank, ended), daemon=True).start()
    first_failed: int | None = None
    for _ in ranks:
        patience_s = None
        if first_failed is not None and ranks[first_failed].returncode != _INTERRUPTED:
            patience_s = _GRACE_S
        try:
            rank = ended.get(timeout=patience_s)
        except Empty:
            break
        if ranks[rank].returncode != 0 and first_failed is None:
            first_failed = rank
    if first_failed is not None:
        raise _failure(first_failed, ranks[first_failed].returncode, len(ranks))


def _tell_end(process: subprocess.Popen[bytes], rank: int, ended: SimpleQueue[int]) -> None:
    process.wait()
    ended.put(rank)


def _failure(rank: int, returncode: int, num_ranks: int) -> RanksEndedError:
    if returncode > 0:
        return RanksEndedError(
            f"rank {rank} of {num_ranks} has ended with {returncode}", returncode, is_told=True
        )
    name = signal.Signals(-returncode).name
    return RanksEndedError(
        f"rank {rank} of {num_ranks} was ended by {name}; the same command goes on from the last "
        "save",
        1,
        is_told=False,
    )


@contextmanager
def _passing_signals_on(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[Sequence[int]]:
    """To those that are there by then; gives what has been passed on so far."""
    passed: list[int] = []
    if current_thread() is not main_thread():
        yield passed
        return

    def pass_on(number: int, _frame: FrameType | None) -> None:
        passed.append(number)
        for process in ranks:
            process.send_signal(number)

    before = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
