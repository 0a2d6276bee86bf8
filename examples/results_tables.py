"""What the tables of docs/results.md are made of, and which evaluations they count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from results_ledger import Evaluated, Result

from step_analysis.intervals import clopper_pearson

NOTHING = "Not measured yet."
# The chance of any false letter or mark in a table.
ALPHA = 0.05

# Of policies of one task: what so many of the tasks are to reach, and what each is.
_GOAL, _GOAL_TASKS, _LEAST = 0.90, 10, 0.75

# Episodes on which nothing was ever chosen, and those on which settings were.
HELD_OUT, VALIDATION = 500, 1000


def held_out(result: Result, *, shift: str = "") -> dict[str, Evaluated]:
    """The evaluations that count, by task: on episodes that nothing was chosen on, and each action
    in time; the one of most episodes."""
    found: dict[str, Evaluated] = {}
    for each in result.evaluations:
        counts = (
            HELD_OUT <= each.first_episode < VALIDATION
            and each.shift == shift
            and not each.latency_ms
            and each.execution == "receding"
            and not each.planned_steps
        )
        if counts and (
            each.task not in found or len(each.outcomes) > len(found[each.task].outcomes)
        ):
            found[each.task] = each
    return found


def head(*cells: str) -> Iterator[str]:
    yield row(*cells)
    yield "|---" * len(cells) + "|"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def rate_cells(evaluated: Evaluated) -> tuple[str, str]:
    """Successes, and their interval."""
    return share_cells(evaluated.num_successes, evaluated.num_counted)


def share_cells(num: int, num_all: int) -> tuple[str, str]:
    """How many of all, and the interval of their share."""
    interval = clopper_pearson(num, num_all)
    return (
        f"{num} of {num_all}, {100 * num / num_all:.0f} %",
        f"{100 * interval.lower:.0f} to {100 * interval.upper:.0f} %",
    )


def success_s_cell(evaluated: Evaluated) -> str:
    return "" if evaluated.success_s is None else f"{evaluated.success_s:.1f} s"


def goals(evaluated: Mapping[str, Evaluated]) -> str:
    """How many of the tasks reach what was set out for policies of one task."""
    rates = [each.num_successes / each.num_counted for each in evaluated.values()]
    return (
        f"{sum(rate >= _GOAL for rate in rates)} reach 90 % (goal: {_GOAL_TASKS}), "
        f"{sum(rate >= _LEAST for rate in rates)} reach 75 % (goal: all)"
    )
