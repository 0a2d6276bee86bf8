"""The part of docs/results.md on the trainings behind a policy for all tasks, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from results_ledger import CHAIN, Evaluated, Result, Training
from results_pairs import mean_points, mean_success, pairs_of
from results_tables import NOTHING, VALIDATION, head, held_out, row


def trainings_table(results: Sequence[Result]) -> Iterator[str]:
    """By the hours behind their weights; the averages are of the episodes that all of those have
    met that have met any which are held out."""
    trained = [
        (training, held_out(result), _validation(result))
        for result in results
        if (training := result.training)
    ]
    if not trained:
        yield NOTHING
        return
    trained.sort(key=lambda each: action_s(each[0]))
    all_met = [each for _, seen, _ in trained for each in seen.values()]
    first = max((each.first_episode for each in all_met), default=0)
    stop = min((each.first_episode + len(each.outcomes) for each in all_met), default=0)
    yield from head(
        *("training", "demonstrations", "optimizer steps", "hours", "hours of action so far"),
        *(
            "held-out error",
            "validation",
            f"episodes {first} to {stop - 1}, on average",
            "from the one before",
        ),
    )
    before: Mapping[str, Evaluated] = {}
    for number, (training, seen, validation) in enumerate(trained, start=1):
        common = {task: _cut(each, first, stop) for task, each in seen.items()}
        pairs = list(pairs_of(before, common))
        yield row(
            str(number),
            f"{training.num_demonstrations:,}",
            f"{training.num_steps:,}",
            f"{training.training_s / 3600:.1f}",
            f"{action_s(training) / 3600:.1f}",
            f"{training.last_error_mm:.1f} mm",
            validation,
            mean_success([each.successes for each in common.values()]) if common else "",
            mean_points(pairs) if pairs else "",
        )
        before = common or before


def action_s(training: Training) -> float:
    """Of its optimizer steps, and of those of all trainings of action that its weights had gone
    through before."""
    before = training.seconds.get(CHAIN[-1], {"wall_s": 0.0})
    return before["wall_s"] + training.training_s


def beginning(training: Training, results: Sequence[Result]) -> Result | None:
    """That of the results whose weights a training began with: it has gone through as much."""
    before = training.seconds.get(CHAIN[-1])
    for result in results:
        if before and result.training and abs(action_s(result.training) - before["wall_s"]) < 1.0:
            return result
    return None


def _validation(result: Result) -> str:
    """Successes in the episodes that settings are chosen on."""
    met = [each for each in result.evaluations if each.first_episode >= VALIDATION]
    num = sum(each.num_counted for each in met)
    return f"{sum(each.num_successes for each in met)} of {num}" if num else ""


def _cut(evaluated: Evaluated, first: int, stop: int) -> Evaluated:
    letters = evaluated.outcomes[first - evaluated.first_episode : stop - evaluated.first_episode]
    return replace(evaluated, first_episode=first, outcomes=letters, choices="")
