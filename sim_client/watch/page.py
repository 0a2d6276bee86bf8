"""An evaluation's standing as a page of text that fits 80 columns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TextIO

from sim_client.watch.standing import Standing, TaskStanding
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.strict_json import shown

WIDTH = 80

_BOLD, _WARN, _PLAIN = "\x1b[1m", "\x1b[1;33m", "\x1b[0m"
# Back to the first line of what was drawn, and nothing below it.
_REDRAW = "\x1b[{num_lines}F\x1b[J"
_NAME_WIDTH = 40
_TAIL_WIDTH = 18
_BAR_WIDTH = 30


def lines(
    standing: Standing,
    *,
    pages: Sequence[str] = (),
    width: int = WIDTH,
    is_colored: bool = False,
) -> list[str]:
    """At most `width` characters each, escape sequences apart. pages: where a browser can watch."""
    width = min(width, WIDTH)
    return [_painted(line[:width], style, is_colored) for style, line in _lines(standing, pages)]


def _lines(standing: Standing, pages: Sequence[str]) -> Iterator[tuple[str, str]]:
    state = "done" if standing.is_complete else "running" if standing.is_running else "not running"
    yield _BOLD, _spread(f"evaluation of {shown(standing.policy, 60)}", state)
    yield "", ""
    yield _BOLD, _row("", "success", "95% interval", "progress", "errors")
    for task in standing.tasks:
        yield _WARN if task.num_errors else "", _task_row(task)
    yield "", ""
    yield "", _pace(standing)
    if standing.latest is not None:
        yield _WARN if standing.latest.outcome is Outcome.ERROR else "", _latest(standing.latest)
    for page in pages:
        yield "", f"live in a browser: {page}"


class Screen:
    """Pages one after the other: on a terminal in the same place, elsewhere with a line between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._num_lines = 0

    def show(self, standing: Standing, *, pages: Sequence[str] = ()) -> None:
        between = "\n" if self._num_lines else ""
        if not self._is_terminal:
            page = lines(standing, pages=pages)
        else:
            size = shutil.get_terminal_size()
            is_colored = "NO_COLOR" not in os.environ
            page = lines(standing, pages=pages, width=size.columns, is_colored=is_colored)
            # The cursor stands below the page, and cannot go back above the terminal's first line.
            page = page[: max(size.lines - 1, 1)]
            if self._num_lines:
                between = _REDRAW.format(num_lines=self._num_lines)
        self._num_lines = len(page)
        self._stream.write(between + "".join(f"{line}\n" for line in page))
        self._stream.flush()


def _task_row(task: TaskStanding) -> str:
    lower, upper = task.interval
    return _row(
        _shortened(task.task),
        f"{task.num_successes}/{task.num_decided}",
        f"{lower:.0%} to {upper:.0%}" if task.num_decided else "-",
        "-" if task.mean_progress is None else f"{task.mean_progress:.2f}",
        str(task.num_errors),
    )


def _row(name: str, success: str, interval: str, progress: str, errors: str) -> str:
    return f"{name:<{_NAME_WIDTH}}{success:>8}{interval:>14}{progress:>10}{errors:>8}"


def _shortened(name: str) -> str:
    """Without its middle: tasks differ in their beginnings and in their ends."""
    if len(name) <= _NAME_WIDTH:
        return name
    return f"{name[: _NAME_WIDTH - _TAIL_WIDTH - 2]}..{name[-_TAIL_WIDTH:]}"


def _pace(standing: Standing) -> str:
    share = standing.num_decided / standing.num_episodes
    full = round(share * _BAR_WIDTH)
    parts = [
        f"[{'#' * full}{'.' * (_BAR_WIDTH - full)}] "
        f"{standing.num_decided}/{standing.num_episodes} episodes"
    ]
    if standing.episodes_per_min is not None:
        parts.append(f"{standing.episodes_per_min:.1f}/min")
    if standing.time_left_s is not None and not standing.is_complete:
        parts.append(f"{timedelta(seconds=round(standing.time_left_s))} left")
    return "   ".join(parts)


def _latest(record: RolloutRecord) -> str:
    message = "" if record.message is None else f": {record.message}"
    text = f"last: {record.task} {record.scenario_index} {record.outcome}{message}"
    return "".join(character if character.isprintable() else "?" for character in text)


def _spread(left: str, right: str) -> str:
    return f"{left:<{WIDTH - len(right)}}{right}"


def _painted(line: str, style: str, is_colored: bool) -> str:
    line = line.rstrip()
    return f"{style}{line}{_PLAIN}" if is_colored and style and line else line
