"""The part of docs/results.md on policies of one task that began with one of all tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from results_ledger import Result
from results_pairs import difference_cells, mean_points, own_evaluations, pairs_of
from results_tables import ALPHA, NOTHING, goals, head, held_out, rate_cells, row

from sim_client.tasks.catalog import TASKS


def begun_tables(
    results: Sequence[Result], alone: Mapping[str, Result], together: Sequence[Result]
) -> Iterator[str]:
    """What they came to, beside the others.

    alone: by task, the policy that does only this one and began from nothing. together: of all.
    """
    trainings = {each.training.task: each.training for each in results if each.training}
    begun = own_evaluations({each.training.task: each for each in results if each.training})
    if not begun:
        yield NOTHING
        return
    own = own_evaluations(alone)
    of_all = held_out(together[0]) if together else {}
    yield f"**{len(begun)} of {len(TASKS)} tasks: {goals(begun)}.**"
    # Whatever it came to: of two policies of a task it isn't the better one that counts.
    either = {**own, **begun}
    yield (
        "One policy a task, that which has begun so and otherwise that from nothing: "
        f"{len(either)} of {len(TASKS)} tasks, {goals(either)}."
    )
    against_all = list(pairs_of(begun, of_all))
    if against_all:
        yield (
            f"The policy for all tasks has {mean_points(against_all)} from those that began with "
            "it, on the episodes that both have met."
        )
    yield ""
    pairs = {pair.task: pair for pair in pairs_of(own, begun)}
    yield from head(
        *("task", "successes", "95 %", "from nothing", "points", "", "of all tasks"),
        *("demonstrations", "training"),
    )
    for task in filter(begun.__contains__, TASKS):
        yield row(
            task,
            *rate_cells(begun[task]),
            rate_cells(own[task])[0] if task in own else "",
            *difference_cells(pairs.get(task), alpha=ALPHA / max(1, len(pairs))),
            rate_cells(of_all[task])[0] if task in of_all else "",
            f"{trainings[task].num_demonstrations}",
            f"{trainings[task].training_s / 60:.1f} min",
        )
