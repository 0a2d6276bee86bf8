"""A server's activity as a page of text that fits 80 columns."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import TextIO

from policy_interface.printable import printable
from policy_server.activity import Activity, Latency

WIDTH = 80

_BAR_WIDTH = 20
_BOLD, _WARN, _PLAIN = "\x1b[1m", "\x1b[1;33m", "\x1b[0m"
# Back to the first line of what was drawn, and nothing below it.
_REDRAW = "\x1b[{num_lines}F\x1b[J"

_PHASE_NAMES = {"total": "all of a step"}


def lines(
    shown: Activity, *, address: str, width: int = WIDTH, is_colored: bool = False
) -> list[str]:
    """At most WIDTH characters each, and at most `width`, escape sequences apart."""
    width = min(width, WIDTH)
    return [_painted(line[:width], style, is_colored) for style, line in _lines(shown, address)]


def _lines(shown: Activity, address: str) -> Iterator[tuple[str, str]]:
    """Each line, and in what style."""
    over = "since its start" if shown.is_whole_life else f"last {shown.over_s:.0f} s"
    yield _BOLD, _spread(f"policy server {printable(address)}", f"up {_duration(shown.uptime_s)}")
    yield (
        "",
        _spread(
            f"{_whole(shown.sessions)} sessions   {_whole(shown.in_flight)} in flight   "
            f"{_whole(shown.queue_depth)} queued",
            f"{_megabytes(shown.resident_bytes)}   {_whole(shown.open_descriptors)} descriptors",
        ),
    )
    yield "", ""
    yield _BOLD, _row(over, "per s", "p50 ms", "p95 ms", "p99 ms")
    yield "", _latency("steps that waited for a plan", shown.steps["planned"])
    yield "", _latency("steps from a chunk at hand", shown.steps["cached"])
    yield "", _latency("forward passes", shown.passes)
    for phase, latency in shown.phases.items():
        yield "", _latency(f"  {_PHASE_NAMES.get(phase, printable(phase))}", latency)
    yield "", ""
    mean, most = _number(shown.mean_batch_size), _whole(shown.max_batch_size)
    yield "", f"batches   {mean} of {most} on average  {_bar(shown.batch_fill)}"
    ended = ", ".join(
        f"{count} {reason}" for reason, count in shown.episodes_ended.items() if count
    )
    yield "", f"episodes  {shown.episodes_begun} begun{'; ' if ended else ''}{ended}"
    yield (
        _WARN if shown.new_stale_chunks else "",
        f"stale     {shown.stale_chunks} chunks that came late"
        f"{_new(shown.new_stale_chunks, shown.is_whole_life)}",
    )
    if shown.reloads:
        yield "", f"reloads   {shown.reloads}"
    if not shown.refusals:
        yield "", "refusals  none"
    for index, refusal in enumerate(shown.refusals):
        yield (
            _WARN if refusal.new and not shown.is_whole_life else "",
            f"{'refusals' if index == 0 else '':10}{refusal.total} {printable(refusal.code)} of "
            f"{printable(refusal.method)}{_new(refusal.new, shown.is_whole_life)}",
        )


class Screen:
    """Pages one after the other: on a terminal in the same place, elsewhere with a line between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._num_lines = 0

    def show(self, shown: Activity, *, address: str) -> None:
        between = "\n" if self._num_lines else ""
        if not self._is_terminal:
            page = lines(shown, address=address)
        else:
            size = shutil.get_terminal_size()
            page = lines(
                shown, address=address, width=size.columns, is_colored="NO_COLOR" not in os.environ
            )
            # The cursor stands below the page, and cannot go back above the terminal's first line.
            page = page[: max(size.lines - 1, 1)]
            if self._num_lines:
                between = _REDRAW.format(num_lines=self._num_lines)
        self._num_lines = len(page)
        self._stream.write(between + "".join(f"{line}\n" for line in page))
        self._stream.flush()


def _painted(line: str, style: str, is_colored: bool) -> str:
    line = line.rstrip()
    return f"{style}{line}{_PLAIN}" if is_colored and style and line else line


def _spread(left: str, right: str) -> str:
    return f"{left:<{WIDTH - len(right)}}{right}"


def _row(name: str, *cells: str) -> str:
    return f"{name:<36}" + "".join(f"{cell:>11}" for cell in cells)


def _latency(name: str, latency: Latency) -> str:
    return _row(
        name,
        _number(latency.per_s),
        *(_milliseconds(ms) for ms in (latency.p50_ms, latency.p95_ms, latency.p99_ms)),
    )


def _milliseconds(value: float) -> str:
    return "> 10 s" if math.isinf(value) else _number(value)


def _number(value: float) -> str:
    """Three digits or more."""
    if math.isnan(value):
        return "-"
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{decimals}f}"


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _megabytes(value: float) -> str:
    return "-" if math.isnan(value) else f"{value / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    return "-" if math.isnan(seconds) else str(timedelta(seconds=round(seconds)))


def _new(count: int, is_whole_life: bool) -> str:
    return "" if is_whole_life or not count else f", {count} of them now"


def _bar(ratio: float) -> str:
    if math.isnan(ratio):
        return ""
    full = round(min(max(ratio, 0), 1) * _BAR_WIDTH)
    return f"[{'#' * full}{'.' * (_BAR_WIDTH - full)}] {ratio:4.0%}"
