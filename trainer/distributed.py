"""The processes that train one network together, as torchrun starts them.

Each rank learns from its rows of every batch. What the ranks compute is added up for each optimizer
step, so all of them take the same step, and only the first one writes. Each holds the whole
network, or a part of it (`trainer.sharding`); then all write their parts of what a resume needs.

A process that torchrun did not start is a world of its own, in which nothing here costs anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from trainer.requirements import ConfigurationError

# For the others' part of an optimizer step, their data included.
_STEP_TIMEOUT, _DEFAULT_STEP_TIMEOUT_S = "ASSAY_STEP_TIMEOUT_S", 600
# For what the first rank does alone: text made to tokens, a measurement, a checkpoint.
_WAIT_TIMEOUT, _DEFAULT_WAIT_TIMEOUT_S = "ASSAY_WAIT_TIMEOUT_S", 7200

# For the first rank's account of an error that others have, too.
_TELLING_TIMEOUT = timedelta(seconds=5)
_ERROR = "error"
_UNMADE = "unmade"
_IS_TOLD = "_is_told_by_first_rank"

# Large enough that a bucket's start does not count, small beside the gradients themselves.
_BUCKET_NUMBERS = 2**24


_Made = TypeVar("_Made")


class RankLostError(RuntimeError):
    """Another process of this run is dead, did not come in time, or has other weights."""


class RanksDifferError(RankLostError):
    """The processes of this run have other weights than one another."""


class World:
    """All ranks call the same methods in the same order. rank: this process's, of `size`, of which
    `num_local` are on this machine.

    mesh: all ranks in a row; None where there is but one. saving: a group for another thread.
    What needs the others raises RankLostError where one of them is dead or late.

    exchanged_s: seconds of a step's exchanges so far, most of them spent waiting for the slowest.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        *,
        num_local: int = 1,
        store: Store | None = None,
        waiting: dist.ProcessGroup | int | None = None,
        saving: Any = None,
        mesh: DeviceMesh | None = None,
    ) -> None:
        self.rank, self.size, self.num_local = rank, size, num_local
        self.saving, self.mesh = saving, mesh
        self._store, self._waiting = store, waiting
        self._num_meetings = 0
        self.exchanged_s = 0.0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def rows(self, num_rows: int) -> slice:
        """This rank's of so many rows of the whole batch, which the world's size divides."""
        share = num_rows // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up all ranks' tensors, in place, to the same bits on each; of one dtype and device.

        Of as many ranks on the same machines the order of the additions is the same each time.
        """
        if self.size == 1 or not tensors:
            return
        with self.timing_exchange(tensors[0].device):
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                self._meet(lambda flat=flat: dist.all_reduce(flat))
                parts = flat.split([tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))

    @contextmanager
    def timing_exchange(self, device: torch.device) -> Iterator[None]:
        """Adds what happens within to exchanged_s."""
        # What a GPU has yet to compute is this rank's own work, and no part of the exchange.
        _finish(device)
        begun = time.perf_counter()
        yield
        _finish(device)
        self.exchanged_s += time.perf_counter() - begun

    def total(self, counts: Sequence[int], device: torch.device) -> list[int]:
        """Of each count, over all ranks."""
        if self.size == 1:
            return list(counts)
        totals = torch.tensor(counts, device=device)
        self.sum([totals])
        return totals.tolist()

    def each(self, number: float) -> list[float]:
        """The numbers of all ranks, in their order; waits as long as `wait`."""
        numbers = torch.zeros(self.size, dtype=torch.float64)
        numbers[self.rank] = number
        if self.size > 1:
            self._meet(lambda: dist.all_reduce(numbers, group=self._waiting))
        return numbers.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank; waits as long as `wait`."""
        return self._greatest([int(flag)])[0] > 0

    def wait(self) -> None:
        """Until every rank is here: as long as what the first one does alone may take."""
        self._greatest([0])

    def of_first(self, make: Callable[[], _Made]) -> _Made | None:
        """What the first rank makes, None on the others.

        A ConfigurationError of it is every rank's, in the same words.
        """
        made, failure = None, None
        if self.is_first:
            try:
                made = make()
            except ConfigurationError as error:
                failure = error
                if self._store is not None:
                    self._store.set(_UNMADE, str(error))
        if not self.any(failure is not None):
            return made
        if failure is None:
            assert self._store is not None
            failure = ConfigurationError(self._store.get(_UNMADE).decode())
        raise failure

    def require_same(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises RanksDifferError where a rank's tensors are others than another's, by a sum."""
        if self.size == 1:
            return
        digest = _digest(tensors.values())
        greatest, least = self._greatest([digest, -digest])
        if greatest != -least:
            raise RanksDifferError(
                f"the weights of the {self.size} ranks differ, expected the same bits on each; "
                "the same command goes on from the last save"
            )

    def tell_once(self, error: Exception) -> None:
        """Of an error that ends the first rank with the same words, the others' is marked as told.

        Called last, so that the first rank's words are out before torchrun ends it for another's
        end. A lost rank is told at once: whoever remains is ended soon.
        """
        lost = isinstance(error, RankLostError) and not isinstance(error, RanksDifferError)
        if self._store is None or lost:
            return
        try:
            if self.is_first:
                self._store.set(_ERROR, str(error))
                return
            self._store.wait([_ERROR], _TELLING_TIMEOUT)
            same = self._store.get(_ERROR).decode() == str(error)
        except RuntimeError:
            # The first rank has no error, or nobody is left to ask.
            return
        setattr(error, _IS_TOLD, same)

    def _greatest(self, numbers: Sequence[int]) -> list[int]:
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers)
        self._meet(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._waiting))
        return tensor.tolist()

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Around what others' code has the ranks exchange, among other things that may fail."""
        try:
            yield
        except RuntimeError as error:
            # gloo has no error of its own, but names its files.
            if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise self._lost(error) from error

    def _meet(self, exchange: Callable[[], object]) -> None:
        assert self._store is not None
        self._num_meetings += 1
        try:
            # Kept by torchrun, so that it can still be asked when a rank is dead.
            self._store.set(_meetings_of(self.rank), str(self._num_meetings))
            exchange()
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> RankLostError:
        reason = str(error).partition("\n")[0]
        return RankLostError(
            f"rank {self.rank} of {self.size}: {self._missing()} ({reason}); the same command "
            "goes on from the last save"
        )

    def _missing(self) -> str:
        """Who has not come to the exchange that failed."""
        try:
            ranks = [r for r in range(self.size) if self._meetings(r) < self._num_meetings]
        except RuntimeError:
            return "the node that torchrun keeps its store on is lost"
        if not ranks:
            return "a rank ended in the midst of an exchange; torchrun says which"
        if len(ranks) == 1:
            return f"rank {ranks[0]} is dead or hangs"
        return f"of ranks {', '.join(map(str, ranks))} at least one is dead or hangs"

    def _meetings(self, rank: int) -> int:
        assert self._store is not None
        key = _meetings_of(rank)
        # Asked for before it is there, it would be waited for.
        return int(self._store.get(key)) if self._store.check([key]) else 0


def is_told_by_first_rank(error: BaseException) -> bool:
    """Whether an error that ended `joined_world` need not be told by this rank, too."""
    return getattr(error, _IS_TOLD, False)


_current = World()
_runs = count()


def current_world() -> World:
    """This process's, as torch's own group of processes is."""
    return _current


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the ranks that torchrun started, if it did; `current_world` until the block ends.

    device: cpu, where ranks speak through gloo, or cuda, through NCCL, a GPU each. Raises
    ConfigurationError for environment variables or a device that do not fit; RankLostError where
    the others do not come. Of what all ranks raise alike, see `is_told_by_first_rank`.
    """
    global _current
    rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if size == 1:
        yield _current
        return
    backend = "gloo"
    if device != "cpu":
        backend = "nccl"
        _take_own_gpu(device)
    step_timeout = timedelta(seconds=_number(_STEP_TIMEOUT, _DEFAULT_STEP_TIMEOUT_S))
    wait_timeout = timedelta(seconds=_number(_WAIT_TIMEOUT, _DEFAULT_WAIT_TIMEOUT_S))
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=step_timeout))
        # Of an earlier run in these processes it still knows where ranks could be reached.
        store = PrefixStore(f"run_{next(_runs)}", store)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=step_timeout
        )
        waiting = dist.new_group(backend="gloo", timeout=wait_timeout)
        saving = dist.new_group(backend="gloo", timeout=wait_timeout)
        mesh = init_device_mesh("cpu" if backend == "gloo" else "cuda", (size,))
    except (dist.DistError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RankLostError(f"rank {rank} of {size}: cannot join the others: {reason}") from error
    before = _current
    _current = World(
        rank,
        size,
        num_local=max(1, _number("LOCAL_WORLD_SIZE", 1)),
        store=PrefixStore("meetings", store),
        waiting=waiting,
        saving=saving,
        mesh=mesh,
    )
    failure: Exception | None = None
    world = _current
    try:
        yield world
    except Exception as error:
        failure = error
        raise
    finally:
        _current = before
        dist.destroy_process_group()
        if failure is not None:
            world.tell_once(failure)


def _take_own_gpu(device: str) -> None:
    if device != "cuda":
        raise ConfigurationError(
            f"device: expected cuda where several ranks train, each on a GPU of its own, "
            f"got {device!r}"
        )
    local_rank = _number("LOCAL_RANK", 0)
    if local_rank >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device: expected a GPU for each rank of this node, got {torch.cuda.device_count()}, "
            f"and none for LOCAL_RANK {local_rank}; lower torchrun's --nproc-per-node"
        )
    torch.cuda.set_device(local_rank)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise ConfigurationError(f"{name}: expected a whole number, got {value!r}")
    return int(value)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _meetings_of(rank: int) -> str:
    return f"rank_{rank}"


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > _BUCKET_NUMBERS:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def _digest(tensors: Iterable[Tensor]) -> int:
    """Of the bits of float32 tensors; cheap, and no proof against malice."""
    digest = 0
    for tensor in tensors:
        digest = (1_000_003 * digest + int(tensor.view(torch.int32).sum())) % 2**62
    return digest
