"""One pass over a data set's low-dimensional fields.

Each number of a field is read, copied and sorted once, whatever the window's length. For the step
at offset k from the anchor is, over all anchors of an episode, every step of the episode but a few
at its ends; so the steps that belong to the same offsets are summarised together, and the offsets'
statistics are merged from those few groups. Nearly all steps are in the group of every offset.

Episodes are dealt with in blocks of fixed size, whose summaries are merged in order: the result
does not depend on the number of processes, bit for bit.

Axes: T control step, N window, W step of the window, C column (a number of a field), D number.
"""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Dataset, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.poses import PoseFields
from trainer.data.statistics.field_statistics import (
    DatasetStatistics,
    FieldStatistics,
    StatisticsSource,
)
from trainer.data.statistics.summary import Summary
from trainer.data.vector_components import PoseNumbers
from trainer.data.vector_layout import ResolvedLayout, VectorLayout
from trainer.data.windows import WindowSpec

_EPISODES_A_BLOCK = 32
# Steps that are summarised at once: the sort stays in a core's cache, and calls are few.
_STEPS_AT_ONCE = 16384
_WINDOWS_AT_ONCE = 4096
# Summaries kept before they are merged into one.
_MOST_SUMMARIES = 16

# The offsets that a step belongs to, first and last; None where it is in no window.
_Offsets = tuple[int, int] | None


def relative_poses(fields: Mapping[str, Field]) -> dict[str, VectorLayout]:
    """Every pose that is commanded, relative to where the same part was measured at the anchor."""
    measured = {f.part: n for n, f in fields.items() if f.kind == "pose" and f.role == "observed"}
    return {
        f"{name} relative to {measured[each.part]}": VectorLayout(
            components=(
                PoseNumbers(
                    name=each.part or name,
                    pose=PoseFields(pose=name),
                    relative_to=PoseFields(pose=measured[each.part]),
                ),
            )
        )
        for name, each in fields.items()
        if each.kind == "pose" and each.role == "action" and each.part in measured
    }


def collect_statistics(
    dataset: Dataset,
    window: WindowSpec,
    *,
    vectors: Mapping[str, VectorLayout] | None = None,
    num_processes: int = 1,
    on_episodes: Callable[[int], object] = lambda _: None,
) -> DatasetStatistics:
    """Of every numeric field, and of the vectors given by name.

    on_episodes: called with how many more episodes are done. Raises DataError for an empty data
    set, for an episode whose fields differ from the first one's, and for what cannot be read.
    """
    if len(dataset) == 0:
        raise DataError("no episode to take statistics of", where=dataset.where)
    first = dataset.episode(0).description
    # A stride thins the windows out, and changes nothing about how they are distributed.
    plan = _Plan.make(
        first.fields,
        replace(window, stride=1),
        vectors or {},
        # A format that keeps checksums has a digest already.
        hashes=type(dataset).digest is Dataset.digest,
    )
    total = _Groups()
    digest, num_steps = hashlib.sha256(), 0
    for block in _blocks(dataset, plan, num_processes):
        total.add(block.groups)
        num_steps += block.num_steps
        for each in block.episode_digests:
            digest.update(each)
        on_episodes(block.num_episodes)
    source = StatisticsSource(
        where=dataset.where,
        format_name=dataset.format_name,
        num_episodes=len(dataset),
        num_steps=num_steps,
        digest=digest.hexdigest() if plan.hashes else dataset.digest,
    )
    return DatasetStatistics(
        past=window.past,
        future=window.future,
        sources=(source,),
        fields=plan.field_statistics(total),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """described: all fields. fields: numeric ones, in the order of their columns."""

    window: WindowSpec
    described: Mapping[str, Field]
    fields: Mapping[str, Field]
    vectors: Mapping[str, ResolvedLayout]
    hashes: bool

    @staticmethod
    def make(
        fields: Mapping[str, Field],
        window: WindowSpec,
        vectors: Mapping[str, VectorLayout],
        *,
        hashes: bool,
    ) -> _Plan:
        numeric = _numeric(fields)
        if not numeric:
            raise DataError(f"no field of numbers; there are {sorted(fields)}")
        return _Plan(
            window=window,
            described=dict(fields),
            fields=numeric,
            vectors={name: layout.resolve(numeric) for name, layout in vectors.items()},
            hashes=hashes,
        )

    def field_statistics(self, groups: _Groups) -> dict[str, FieldStatistics]:
        past = self.window.past
        steps = {offsets: Summary.merged(parts) for offsets, parts in groups.steps.items()}
        overall = Summary.merged(list(steps.values()))
        per_step = _by_offset(steps, -past, self.window.future, overall.num_columns)
        found: dict[str, FieldStatistics] = {}
        start = 0
        for name, each in self.fields.items():
            columns = slice(start, start + each.size)
            start += each.size
            found[name] = FieldStatistics(
                shape=each.shape,
                names=each.names,
                overall=overall.columns(columns),
                per_step=tuple(summary.columns(columns) for summary in per_step),
                past=past,
            )
        for name, layout in self.vectors.items():
            summaries = [Summary.merged(groups.vectors[name, k]) for k in range(self.window.length)]
            found[name] = FieldStatistics(
                shape=(layout.size,),
                names=layout.names,
                overall=Summary.merged(summaries),
                per_step=tuple(summaries),
                past=past,
            )
        return found


def _by_offset(
    groups: Mapping[_Offsets, Summary], first: int, last: int, num_columns: int
) -> list[Summary]:
    """Of each offset's steps. The groups near the beginnings of episodes belong to all offsets up
    to some, those near the ends to all from some on: what is common is merged once, going down
    and going up."""
    nothing = Summary.of(np.empty((0, num_columns)))

    def merged(parts: Iterable[Summary]) -> Summary:
        some = [each for each in parts if each is not nothing]
        return Summary.merged(some) if some else nothing

    offsets = range(first, last + 1)
    from_first = {o[1]: s for o, s in groups.items() if o and o[0] == first and o[1] != last}
    to_last = {o[0]: s for o, s in groups.items() if o and o[1] == last and o[0] != first}
    downwards = {last + 1: nothing}
    for k in reversed(offsets):
        downwards[k] = merged([downwards[k + 1], from_first.get(k, nothing)])
    upwards = {first - 1: nothing}
    for k in offsets:
        upwards[k] = merged([upwards[k - 1], to_last.get(k, nothing)])
    # In every offset: or, of episodes shorter than the window, in a few in its middle.
    others = {
        o: s
        for o, s in groups.items()
        if o and (o == (first, last) or (first < o[0] and o[1] < last))
    }
    return [
        merged(
            [
                downwards[k],
                upwards[k],
                *(s for o, s in others.items() if o is not None and o[0] <= k <= o[1]),
            ]
        )
        for k in offsets
    ]


@dataclass(kw_only=True, eq=False)
class _Groups:
    """Summaries of all fields' columns by the offsets of their steps, and of vectors by name and
    step of the window; each a list of parts that are yet to be merged."""

    steps: dict[_Offsets, list[Summary]] = field(default_factory=dict)
    vectors: dict[tuple[str, int], list[Summary]] = field(default_factory=dict)

    def add(self, other: _Groups) -> None:
        for mine, theirs in ((self.steps, other.steps), (self.vectors, other.vectors)):
            for key, parts in theirs.items():
                _append(mine, key, parts)


def _append(lists: dict[Any, list[Summary]], key: Any, parts: Sequence[Summary]) -> None:
    kept = lists.setdefault(key, [])
    kept += parts
    if len(kept) > _MOST_SUMMARIES:
        kept[:] = [Summary.merged(kept)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    groups: _Groups
    num_episodes: int
    num_steps: int
    episode_digests: list[bytes]


def _blocks(dataset: Dataset, plan: _Plan, num_processes: int) -> Iterator[_Block]:
    starts = range(0, len(dataset), _EPISODES_A_BLOCK)
    if num_processes == 1 or len(starts) == 1:
        yield from (_summarise(dataset, plan, start) for start in starts)
        return
    # Not forked: the caller may have threads, whose locks a child would inherit.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(num_processes, len(starts)), context, _start_worker, (dataset, plan)
    ) as pool:
        yield from pool.map(_summarise_in_worker, starts)


_work: dict[str, Any] = {}


def _start_worker(dataset: Dataset, plan: _Plan) -> None:
    _work["dataset"], _work["plan"] = dataset, plan


def _summarise_in_worker(start: int) -> _Block:
    return _summarise(_work["dataset"], _work["plan"], start)


def _summarise(dataset: Dataset, plan: _Plan, start: int) -> _Block:
    groups = _Groups()
    rows: dict[_Offsets, list[npt.NDArray[Any]]] = {}
    windows = _WindowRows(plan, groups)
    digests: list[bytes] = []
    waiting = num_steps = 0
    indices = range(start, min(start + _EPISODES_A_BLOCK, len(dataset)))
    for index in indices:
        episode = dataset.episode(index)
        description = episode.description
        _check_fields(description, plan)
        length = description.num_steps
        values = episode.read_fields(list(plan.fields))
        table_TC = _table(values, description)
        if plan.hashes:
            hasher = hashlib.sha256(f"{description.episode_id} {length}\n".encode())
            hasher.update(np.ascontiguousarray(table_TC).data)
            digests.append(hasher.digest())
        for offsets, steps in _groups_of_steps(plan.window, length):
            rows.setdefault(offsets, []).append(table_TC[steps])
        windows.add(values, length)
        num_steps += length
        waiting += length
        if waiting >= _STEPS_AT_ONCE:
            _flush(rows, groups)
            waiting = 0
    _flush(rows, groups)
    windows.flush()
    return _Block(
        groups=groups,
        num_episodes=len(indices),
        num_steps=num_steps,
        episode_digests=digests,
    )


def _check_fields(description: EpisodeDescription, plan: _Plan) -> None:
    # Nearly always the very same.
    if description.fields == plan.described:
        return
    here = _numeric(description.fields)
    differing = sorted(
        n
        for n in here.keys() | plan.fields.keys()
        if n not in here or n not in plan.fields or here[n].shape != plan.fields[n].shape
    )
    if differing:
        raise DataError(
            f"fields differ from the first episode's: {differing}",
            episode=description.episode_id,
        )


def _table(values: Mapping[str, npt.NDArray[Any]], description: EpisodeDescription) -> FloatArray:
    """(T, C), all fields side by side, each column in one piece as it will be sorted."""
    length = description.num_steps
    for name, array in values.items():
        if len(array) != length:
            raise DataError(
                f"expected {length} steps, got {len(array)}",
                episode=description.episode_id,
                field=name,
            )
    fields = [array.reshape(length, -1) for array in values.values()]
    table_CT, start = np.empty((sum(each.shape[1] for each in fields), length)), 0
    for each in fields:
        table_CT[start : start + each.shape[1]] = each.T
        start += each.shape[1]
    return table_CT.T


def _numeric(fields: Mapping[str, Field]) -> dict[str, Field]:
    return {name: each for name, each in fields.items() if np.dtype(each.dtype).kind in "biuf"}


@functools.lru_cache(maxsize=1024)
def _groups_of_steps(window: WindowSpec, length: int) -> Sequence[tuple[_Offsets, slice]]:
    """Runs of an episode's steps that belong to the same offsets."""
    first, stop = window.anchor_range(length)
    if first == stop:
        return [(None, slice(0, length))]
    # Where the offsets of successive steps differ: near the first and the last anchors.
    edges = sorted(
        {0, length}
        | {
            edge
            for edge in (
                *range(first - window.past, first + window.future + 1),
                *range(stop - window.past, stop + window.future + 1),
            )
            if 0 < edge < length
        }
    )
    groups: list[tuple[_Offsets, slice]] = []
    for begin, end in pairwise(edges):
        low = max(-window.past, begin - stop + 1)
        high = min(window.future, begin - first)
        groups.append(((low, high) if low <= high else None, slice(begin, end)))
    return groups


def _flush(rows: dict[_Offsets, list[npt.NDArray[Any]]], groups: _Groups) -> None:
    for offsets, tables in rows.items():
        num_columns, num_steps = tables[0].shape[1], sum(map(len, tables))
        columns_CN, start = np.empty((num_columns, num_steps)), 0
        for table_TC in tables:
            columns_CN[:, start : start + len(table_TC)] = table_TC.T
            start += len(table_TC)
        _append(groups.steps, offsets, [Summary.of_columns(columns_CN)])
    rows.clear()


class _WindowRows:
    """Vectors' numbers at each step of the windows, collected and summarised many at a time."""

    def __init__(self, plan: _Plan, groups: _Groups) -> None:
        self._plan, self._groups = plan, groups
        self._numbers: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in plan.vectors}
        self._valid: list[npt.NDArray[np.bool_]] = []
        self._waiting = 0

    def add(self, values: Mapping[str, npt.NDArray[Any]], length: int) -> None:
        if not self._plan.vectors:
            return
        anchors_N = self._plan.window.anchors(length)
        steps_NW, valid_NW = self._plan.window.steps(anchors_N, length)
        self._valid.append(valid_NW)
        for name, layout in self._plan.vectors.items():
            numbers_NWD = layout.encode(
                {n: values[n][steps_NW] for n in layout.layout.source_fields},
                {n: values[n][anchors_N] for n in layout.layout.reference_fields},
            )
            self._numbers[name].append(numbers_NWD)
        self._waiting += len(anchors_N)
        if self._waiting >= _WINDOWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self._valid:
            return
        valid_NW = np.concatenate(self._valid)
        for name, parts in self._numbers.items():
            numbers_NWD = np.concatenate(parts)
            for k in range(self._plan.window.length):
                summary = Summary.of(numbers_NWD[valid_NW[:, k], k])
                _append(self._groups.vectors, (name, k), [summary])
            parts.clear()
        self._valid.clear()
        self._waiting = 0
