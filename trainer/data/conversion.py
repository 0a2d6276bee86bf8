"""From any format to one that is written: `trainer data convert`, and the same from Python.

convert(Source.at("demos/PickAndPlaceBox"), NativeWriter(destination=Path("data/box")))

Episodes are converted one by one, each whole or not at all. A conversion that was stopped, by
Ctrl-C, a full disk or a killed machine, goes on when the same is asked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from trainer.data.conversion_executors import run_here, run_local, run_on_ray
from trainer.data.conversion_job import ConversionJob, Outcome, writing_failed
from trainer.data.conversion_ledger import ConversionLedger, open_ledger
from trainer.data.description_json import cameras_to_json, fields_to_json
from trainer.data.episode import Dataset, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.writer import DatasetWriter, Origin, Receipt
from trainer.data.selection import Selection

Executor = Literal["local", "ray"]

# How often an unfinished data set is made openable, in seconds.
_CHECKPOINT_PERIOD_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """open: opens the data set, in every process anew. place, format_name: as they are noted."""

    open: Callable[[], Dataset]
    place: str
    format_name: str

    @staticmethod
    def at(place: str | Path, format_name: str | None = None) -> Source:
        """Raises DataError where there is no data set."""
        dataset = open_dataset(place, format_name)
        return Source(
            open=partial(open_dataset, dataset.where, dataset.format_name),
            place=dataset.where,
            format_name=dataset.format_name,
        )

    @staticmethod
    def of(dataset: Dataset) -> Source:
        """A data set at hand, such as one in memory; it is pickled where there are workers."""
        return Source(
            open=partial(_itself, dataset), place=dataset.where, format_name=dataset.format_name
        )


def _itself(dataset: Dataset) -> Dataset:
    return dataset


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """num_workers: processes; 0 or None is this one, or all CPUs of a Ray cluster.

    max_bad: how many episodes that cannot be read are skipped before the conversion is refused.
    """

    selection: Selection = field(default_factory=Selection)
    executor: Executor = "local"
    num_workers: int | None = 0
    max_bad: int = 0


@dataclass(frozen=True, kw_only=True)
class ConversionSummary:
    """num_converted: now; num_kept: by an earlier run of the same conversion.

    left_out: how many, by reason. skipped: what could not be read, by place in the source.
    """

    destination: str
    num_converted: int
    num_kept: int
    num_steps: int
    num_bytes: int
    left_out: dict[str, int]
    skipped: dict[int, str]

    @property
    def num_episodes(self) -> int:
        return self.num_converted + self.num_kept


def convert(
    source: Source,
    writer: DatasetWriter,
    options: ConversionOptions | None = None,
    progress: Callable[[int, int, Outcome | None], None] = lambda done, total, outcome: None,
) -> ConversionSummary:
    """Write the source's episodes with `writer`, going on where an earlier run stopped.

    progress: told how many of how many episodes are done, first with no outcome. Raises DataError
    for data that cannot be converted, OSError for a destination that cannot be written, and
    KeyboardInterrupt after Ctrl-C, once the episodes in hand are done.
    """
    options = options or ConversionOptions()
    dataset = source.open()
    indices = options.selection.indices(_checked_length(dataset))
    first = _first_episode(dataset, indices, options)
    plan = {
        "source": source.place,
        "source_format": source.format_name,
        "source_episodes": len(dataset),
        "source_schema_sha256": _schema_digest(first),
        "selection": options.selection.to_json(),
        "to": writer.format_name,
        "settings": writer.settings(),
    }
    with open_ledger(writer.destination, plan) as ledger, _stop_on_interrupt() as stop:
        writer.begin(first)
        for receipt in [r for r in ledger.receipts.values() if not writer.is_whole(r)]:
            ledger.forget(receipt.index)
        work = _Work(source, writer, options, ledger, first)
        remaining = [i for i in indices if i not in ledger.receipts and i not in ledger.left_out]
        num_done = len(indices) - len(remaining)
        progress(num_done, len(indices), None)
        job = ConversionJob(source.open, writer, options.selection, first)
        try:
            for outcome in _run(job, remaining, options, stop):
                num_done += 1
                # First, so that what stops the conversion is still seen.
                progress(num_done, len(indices), outcome)
                work.take(outcome)
            if stop.is_set():
                raise KeyboardInterrupt
            return work.finish()
        except BaseException:
            # A full disk may refuse this too; the ledger has what is needed to go on.
            with contextlib.suppress(OSError):
                work.checkpoint()
            raise


class _Work:
    """The ledger, kept as outcomes come in."""

    def __init__(
        self,
        source: Source,
        writer: DatasetWriter,
        options: ConversionOptions,
        ledger: ConversionLedger,
        first: EpisodeDescription,
    ) -> None:
        self._source, self._writer, self._options = source, writer, options
        self._ledger, self._first = ledger, first
        self._num_kept = len(ledger.receipts)
        self._skipped: dict[int, str] = {}
        self._indices_by_id = {r.episode_id: r.index for r in ledger.receipts.values()}
        self._next_checkpoint_s = time.monotonic() + _CHECKPOINT_PERIOD_S

    def take(self, outcome: Outcome) -> None:
        """Raises DataError where more episodes are bad than may be."""
        receipt = outcome.receipt
        if receipt is not None and receipt.episode_id in self._indices_by_id:
            twin = self._indices_by_id[receipt.episode_id]
            self._skip(
                outcome.index, f"episode {receipt.episode_id}: number {twin} has the same name"
            )
        elif receipt is not None:
            self._indices_by_id[receipt.episode_id] = receipt.index
            self._ledger.add_receipt(receipt)
        elif outcome.left_out is not None:
            self._ledger.add_left_out(outcome.index, outcome.left_out)
        else:
            self._skip(outcome.index, outcome.bad or "")
        if time.monotonic() > self._next_checkpoint_s:
            self.checkpoint()
            self._next_checkpoint_s = time.monotonic() + _CHECKPOINT_PERIOD_S

    def _skip(self, index: int, reason: str) -> None:
        self._skipped[index] = reason
        _check_limit(self._skipped, self._options.max_bad)

    def checkpoint(self) -> None:
        receipts = self._receipts()
        if receipts:
            self._writer.checkpoint(receipts, self._origin())

    def finish(self) -> ConversionSummary:
        receipts = self._receipts()
        if not receipts:
            raise DataError(
                f"nothing was converted: {len(self._ledger.left_out)} episodes left out, "
                f"{len(self._skipped)} bad",
                where=self._source.place,
            )
        try:
            self._writer.finish(receipts, self._origin())
        except OSError as error:
            raise writing_failed("putting the episodes together", error) from error
        return ConversionSummary(
            destination=str(self._writer.destination),
            num_converted=len(receipts) - self._num_kept,
            num_kept=self._num_kept,
            num_steps=sum(receipt.num_steps for receipt in receipts),
            num_bytes=sum(receipt.num_bytes for receipt in receipts),
            left_out=dict(Counter(self._ledger.left_out.values())),
            skipped=dict(sorted(self._skipped.items())),
        )

    def _receipts(self) -> Sequence[Receipt]:
        return [receipt for _, receipt in sorted(self._ledger.receipts.items())]

    def _origin(self) -> Origin:
        return Origin(
            place=self._source.place,
            format_name=self._source.format_name,
            first=self._first,
            left_out=len(self._ledger.left_out),
            skipped=dict(sorted(self._skipped.items())),
        )


def _checked_length(dataset: Dataset) -> int:
    if not len(dataset):
        raise DataError("holds no episode", where=dataset.where)
    return len(dataset)


def _first_episode(
    dataset: Dataset, indices: range, options: ConversionOptions
) -> EpisodeDescription:
    """The first that can be read and is wanted; how it is made up holds for all."""
    left_out: Counter[str] = Counter()
    bad: dict[int, str] = {}
    for index in indices:
        try:
            description = dataset.episode(index).description
        except DataError as error:
            bad[index] = str(error)
            _check_limit(bad, options.max_bad)
            continue
        reason = options.selection.leaves_out(description)
        if reason is None:
            return description
        left_out[reason] += 1
    reasons = [f"{count} left out because {reason}" for reason, count in left_out.items()]
    reasons += [f"number {index} is bad: {told}" for index, told in bad.items()]
    raise DataError(
        f"none of {len(indices)} episodes is left to convert: {'; '.join(reasons)}",
        where=dataset.where,
    )


def _check_limit(bad: Mapping[int, str], limit: int) -> None:
    """Raises DataError where more episodes are bad than may be."""
    if len(bad) <= limit:
        return
    listed = "; ".join(f"number {index}: {told}" for index, told in sorted(bad.items()))
    if limit == 0:
        raise DataError(f"bad episode, {listed}; --skip-bad goes on without such")
    raise DataError(f"{len(bad)} bad episodes, more than the {limit} of --max-bad: {listed}")


def _run(
    job: ConversionJob, remaining: Sequence[int], options: ConversionOptions, stop: threading.Event
) -> Iterator[Outcome]:
    if not remaining:
        return iter(())
    if options.executor == "ray":
        return run_on_ray(job, remaining, options.num_workers, stop)
    if not options.num_workers:
        return run_here(job, remaining, stop)
    return run_local(job, remaining, min(options.num_workers, len(remaining)), stop)


def _schema_digest(first: EpisodeDescription) -> str:
    told: Any = [fields_to_json(first.fields), cameras_to_json(first.cameras)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: object) -> None:
        del number, frame
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
