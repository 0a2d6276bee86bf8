"""The part of docs/results.md on policies of one task that began with one of all tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from results_ledger import Result
from results_pairs import difference_cells, mean_points, own_evaluations, pairs_of
from results_tables import ALPHA, NOTHING, goals, head, held_out, rate_cells, row
from results_trainings import beginning

from sim_client.tasks.catalog import TASKS

_TASKS = list(TASKS)


def begun_tables(
    results: Sequence[Result],
    alone: Mapping[str, Result],
    together: Sequence[Result],
    others: Sequence[Result],
) -> Iterator[str]:
    """What they came to, beside the others.

    alone: by task, the policy that does only this one and began from nothing. together: of all, as
    it ships; others: of all, before it or tried after it.
    """
    evaluated = [
        (result, training, each)
        for result in results
        if (training := result.training) and (each := held_out(result).get(training.task))
    ]
    if not evaluated:
        yield NOTHING
        return
    # That which was shown the way back, where a task has two: chosen by no success of either.
    evaluated.sort(key=lambda each: (_TASKS.index(each[1].task), _saw_way_back(each[0])))
    begun = {training.task: each for _, training, each in evaluated}
    own = own_evaluations(alone)
    all_of_all = [*together, *others]
    of_all = held_out(together[0]) if together else {}
    begun_with = {
        training.task: held_out(found)[training.task]
        for _, training, _ in evaluated
        if (found := beginning(training, all_of_all)) and training.task in held_out(found)
    }
    either = {**own, **begun}
    yield (
        "**One policy a task, begun so where there is one and otherwise from nothing: "
        f"{len(either)} of {len(TASKS)} tasks: {goals(either)}.** {len(begun)} have begun so."
    )
    gains = list(pairs_of(begun_with, begun))
    if gains:
        yield (
            f"They are {mean_points(gains)} from what they began with, on the episodes that both "
            "have met."
        )
    against_all = list(pairs_of(either, of_all))
    if against_all:
        yield (
            f"The policy for all tasks, as it is now, is {mean_points(against_all)} from the "
            f"policies of one task, so counted, on the {len(against_all)} tasks that have one "
            "(goal of policies for all tasks: at most 5 below)."
        )
    yield ""
    yield from head(
        *("task", "successes", "95 %", "from nothing", "points", "", "what it began with"),
        *("demonstrations", "training"),
    )
    num_pairs = sum(training.task in own for _, training, _ in evaluated)
    for result, training, each in evaluated:
        task = training.task
        pair = next(pairs_of(own, {task: each}), None)
        yield row(
            task,
            *rate_cells(each),
            rate_cells(own[task])[0] if task in own else "",
            *difference_cells(pair, alpha=ALPHA / max(1, num_pairs)),
            rate_cells(begun_with[task])[0] if task in begun_with else "",
            f"{training.num_demonstrations}" + _saw_way_back(result) * ", some of the way back",
            f"{training.training_s / 60:.1f} min",
        )


def _saw_way_back(result: Result) -> bool:
    """As `examples/policies.py` names its folder."""
    return result.name.endswith("way_back")
