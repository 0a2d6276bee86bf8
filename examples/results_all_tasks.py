"""The part of docs/results.md on policies that do every task, told by words which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from results_choices import MEANT, NEITHER, OTHER, meant_objects, other_objects
from results_ledger import CHAIN, Evaluated, Result, Training
from results_pairs import (
    Pair,
    difference_cells,
    mean_points,
    mean_success,
    own_evaluations,
    pairs_of,
)
from results_tables import (
    ALPHA,
    NOTHING,
    head,
    held_out,
    rate_cells,
    row,
    share_cells,
    success_s_cell,
)

from sim_client.tasks.catalog import TASKS

UNSEEN_WORDS = "phrasing=high"
"""As a design keeps the shift `unseen-words`."""

_GOAL, _GOAL_POINTS = 0.85, 5.0
# Trainings that a policy's weights come from, by their kind.
_BEFORE = dict(
    zip(
        CHAIN,
        ("language", "vision and language", "action before"),
        strict=True,
    )
)


def policy_tables(results: Sequence[Result], alone: Mapping[str, Result]) -> Iterator[str]:
    """A policy after the other. alone: by task, the policy that does only this one."""
    evaluated = [each for each in results if held_out(each)]
    if not evaluated:
        yield NOTHING
    for number, result in enumerate(evaluated):
        if number:
            yield ""
        yield from _policy_table(result, alone)


def _policy_table(result: Result, alone: Mapping[str, Result]) -> Iterator[str]:
    seen, unseen = held_out(result), held_out(result, shift=UNSEEN_WORDS)
    singles = own_evaluations(alone)
    pairs = {pair.task: pair for pair in pairs_of(singles, seen)}
    if result.training is not None:
        yield _training(result.name, result.training)
        yield ""
    yield _summary(seen, list(pairs.values()))
    told_anew = list(pairs_of(seen, unseen))
    if told_anew:
        yield _words_summary(told_anew)
    yield ""
    yield from head(
        *("task", "successes", "95 %", "its own policy", "points", "", "median success"),
        "in unseen words",
    )
    for task in TASKS:
        link = f"[{task}](tasks.md#{task.lower()})"
        if task not in seen:
            yield row(link, "not done yet", *[""] * 6)
            continue
        yield row(
            link,
            *rate_cells(seen[task]),
            rate_cells(singles[task])[0] if task in singles else "",
            *difference_cells(pairs.get(task), alpha=ALPHA / max(1, len(pairs))),
            success_s_cell(seen[task]),
            rate_cells(unseen[task])[0] if task in unseen else "",
        )


def _training(name: str, training: Training) -> str:
    before = [kind for kind in _BEFORE if kind in training.seconds]
    after = [stage for stage in training.seconds if stage not in before]
    wall_s = {stage: spent["wall_s"] for stage, spent in training.seconds.items()}
    wall_s["action"] = training.training_s
    hours = (
        f"{_BEFORE.get(stage, stage)} {wall_s[stage] / 3600:.1f}"
        for stage in (*before, "action", *after)
    )
    return (
        f"`{name}`, by the recipe `{training.recipe}`: {training.num_demonstrations:,} "
        f"demonstrations, {training.num_frames:,} frames, {training.num_steps:,} steps of "
        f"{training.batch_size} windows, {training.last_error_mm:.1f} mm of held-out error. "
        f"Hours: {', '.join(hours)}."
    )


def _summary(seen: Mapping[str, Evaluated], pairs: Sequence[Pair]) -> str:
    mean = mean_success([each.successes for each in seen.values()])
    text = f"**{len(seen)} of {len(TASKS)} tasks: {mean} on average (goal: {100 * _GOAL:.0f} %)"
    if pairs:
        within = sum(pair.points >= -_GOAL_POINTS for pair in pairs)
        text += (
            f"; {mean_points(pairs)} from the tasks' own policies on the {len(pairs)} "
            f"tasks that have one (goal: at most {_GOAL_POINTS:.0f} below), at most "
            f"{_GOAL_POINTS:.0f} below on {within} of them"
        )
    return f"{text}.**"


def _words_summary(pairs: Sequence[Pair]) -> str:
    unseen = mean_success([pair.second for pair in pairs])
    num = sum(len(pair.second) for pair in pairs)
    return (
        f"In unseen words {unseen} on average over {len(pairs)} tasks, {num} episodes in "
        f"all; {mean_points(pairs)} from the same episodes in seen words."
    )


def choice_tables(results: Sequence[Result]) -> Iterator[str]:
    """Which object each policy went for, a policy after the other."""
    is_first = True
    for result in results:
        seen, unseen = held_out(result), held_out(result, shift=UNSEEN_WORDS)
        asked = [task for task in TASKS if task in seen and seen[task].choices]
        if not asked:
            continue
        if not is_first:
            yield ""
        is_first = False
        yield f"`{result.name}`:"
        yield ""
        yield from head(
            *("task", "meant", "or", "meant one first", "95 %", "other first", "neither"),
            "in unseen words",
        )
        for task in asked:
            letters = seen[task].choices
            yield row(
                task,
                _words(meant_objects(TASKS[task])),
                _words(other_objects(TASKS[task])),
                *share_cells(letters.count(MEANT), seen[task].num_counted),
                str(letters.count(OTHER)),
                str(letters.count(NEITHER)),
                _choice_cell(unseen.get(task)),
            )
    if is_first:
        yield NOTHING


def _choice_cell(evaluated: Evaluated | None) -> str:
    if evaluated is None or not evaluated.choices:
        return ""
    return share_cells(evaluated.choices.count(MEANT), evaluated.num_counted)[0]


def _words(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
