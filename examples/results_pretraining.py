"""The part of docs/results.md on what the stages before action are good for, and its ledgers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results_ledger import Training, made, names_of, read_kept
from results_tables import NOTHING, head, row

from step_analysis.strict_json import FormatError, check_keys, parse_object

SCHEMA = "assay.pretraining-result/1"

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two policies on some tasks together, up to the episode at which the verdict came.

    policies: two of them. successes: of each, in `episodes` episodes of each. winner: one of them;
    None where the budget was spent without a verdict. points: the second's rate minus the first's,
    in percentage points; lower, upper: a 95 % interval that holds wherever one stops.
    """

    tasks: Sequence[str]
    policies: Sequence[str]
    successes: Sequence[int]
    episodes: int
    winner: str | None
    points: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class PretrainingResult:
    """A study of policies that differ in what their training began with, and in nothing else.

    max_episodes: the budget of each policy and task. alpha: of any wrong verdict in the study.
    trainings: by policy.
    """

    name: str
    shift: str
    max_episodes: int
    alpha: float
    trainings: Mapping[str, Training]
    comparisons: Sequence[Comparison]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> PretrainingResult:
        """Raises FormatError for a field too many or too few."""
        value: dict[str, Any] = parse_object(text, "result")
        check_keys(value, ("schema", *names_of(cls)), "result")
        if value.pop("schema") != SCHEMA:
            raise FormatError(f"result: schema {SCHEMA!r} expected")
        return cls(
            **value
            | {
                "trainings": {
                    name: made(Training, each) for name, each in value["trainings"].items()
                },
                "comparisons": [made(Comparison, each) for each in value["comparisons"]],
            }
        )


def read_pretraining(folder: Path) -> list[PretrainingResult]:
    return read_kept(folder, PretrainingResult.from_json)


def pretraining_tables(results: Sequence[PretrainingResult]) -> Iterator[str]:
    """The verdicts by pair, how each policy was trained, then what each study came to: all tasks
    together, and each."""
    if not results:
        yield NOTHING
        return
    ordered = sorted(results, key=lambda each: (each.shift != "nominal", each.shift, each.name))
    pairs = list(dict.fromkeys(_pair(each) for result in ordered for each in result.comparisons))
    yield from _verdicts(ordered, pairs)
    yield ""
    yield from _trainings(ordered)
    yield ""
    yield from head("", "seed", *map(_versus, pairs))
    for result in ordered:
        yield row(result.shift, _seeds(result), *_cells(list(_overall(result)), pairs))
    several = [result for result in ordered if len(_tasks(result)) > 1]
    if not several:
        return
    yield ""
    yield from head("", "task", "seed", *map(_versus, pairs))
    for result in several:
        for task in sorted(_tasks(result)):
            compared = [each for each in _of_one_task(result) if each.tasks[0] == task]
            yield row(result.shift, task, _seeds(result), *_cells(compared, pairs))


def _verdicts(results: Sequence[PretrainingResult], pairs: Sequence[Pair]) -> Iterator[str]:
    yield from head("", "verdicts over all tasks", "on each task")
    for pair in pairs:
        overall = [each for result in results for each in _overall(result) if _pair(each) == pair]
        single = [
            each for result in results for each in _of_one_task(result) if _pair(each) == pair
        ]
        yield row(_versus(pair), _counted(overall), _counted(single))


def _counted(comparisons: Sequence[Comparison]) -> str:
    """Nothing where there is none."""
    winners = Counter(each.winner for each in comparisons)
    undecided = winners.pop(None, 0)
    told = [f"{num} for {_words(name)}" for name, num in winners.most_common() if name is not None]
    return ", ".join(told + ([f"{undecided} not decided"] if undecided else []))


def _overall(result: PretrainingResult) -> Iterator[Comparison]:
    """The comparisons over all of its tasks; of one task, those on it."""
    for each in result.comparisons:
        if len(each.tasks) > 1 or len(_tasks(result)) == 1:
            yield each


def _of_one_task(result: PretrainingResult) -> Iterator[Comparison]:
    """Of a study of several tasks."""
    for each in result.comparisons:
        if len(each.tasks) == 1 < len(_tasks(result)):
            yield each


def _trainings(results: Sequence[PretrainingResult]) -> Iterator[str]:
    yield from head("begun", "seed", "optimizer steps", "minutes", "held-out error")
    shown: set[tuple[str, int]] = set()
    for result in results:
        for name, training in result.trainings.items():
            if (name, training.seed) in shown:
                continue
            shown.add((name, training.seed))
            yield row(
                _words(name),
                str(training.seed),
                f"{training.num_steps:,} of {training.batch_size} windows",
                f"{training.training_s / 60:.1f}",
                f"{training.last_error_mm:.1f} mm",
            )


def _tasks(result: PretrainingResult) -> set[str]:
    return {task for each in result.comparisons for task in each.tasks}


def _seeds(result: PretrainingResult) -> str:
    return ", ".join(sorted({str(training.seed) for training in result.trainings.values()}))


def _cells(comparisons: Sequence[Comparison], pairs: Sequence[Pair]) -> Iterator[str]:
    """Of each pair what it came to, in one cell."""
    by_pair = {_pair(each): each for each in comparisons}
    for pair in pairs:
        each = by_pair.get(pair)
        if each is None:
            yield ""
            continue
        first, second = each.successes
        verdict = "" if each.winner is None else f", **{_words(each.winner)}**"
        interval = f"{each.points:+.0f} ({each.lower:+.0f} to {each.upper:+.0f})"
        yield f"{first}, {second} of {each.episodes}: {interval}{verdict}"


def _pair(each: Comparison) -> Pair:
    first, second = each.policies
    return first, second


def _versus(pair: Pair) -> str:
    return ", ".join(map(_words, pair))


def _words(name: str) -> str:
    return {"smollm2": "SmolLM2"}.get(name, name.replace("_", " "))
