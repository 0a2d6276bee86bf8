"""Which rollout comes next: those that an open comparison waits for, episode by episode."""

from collections.abc import Collection
from itertools import product

from step_analysis.rollouts import RolloutKey
from step_analysis.study.study import Study


def next_rollout(
    study: Study,
    *,
    busy: Collection[RolloutKey] = (),
    given_up: Collection[RolloutKey] = (),
    absent: Collection[str] = (),
) -> RolloutKey | None:
    """The episode to run next, or None where all that are asked for are running or done.

    All policies of a task are taken through one seed before the next, so that they advance
    together. A policy is asked for a task while one of its comparisons there is open: what is
    decided gets no more rollouts.

    Args:
        busy: running now.
        given_up: those that no further attempt is made at in this run. A comparison that would
            have to read one of them gets no more rollouts, as they could not be read either.
        absent: policies that can't be run now; their comparisons get no more rollouts.
    """
    standing, tape, first = study.standing(), study.tape, study.design.first_episode
    wanted = standing.wanted
    if given_up or absent:
        stuck = {(key.policy, key.task) for key in given_up}
        stuck.update(product(absent, study.design.tasks))
        free = [each.cells for each in standing.open if stuck.isdisjoint(each.cells)]
        wanted = frozenset().union(*free)
    unavailable: dict[tuple[str, str], set[int]] = {}
    for policy, task, scenario_index in (*busy, *given_up):
        unavailable.setdefault((policy, task), set()).add(scenario_index - first)
    best, chosen = study.design.max_episodes, None
    for cell in tape.cells:
        if cell in wanted:
            place = tape.next_missing(*cell, unavailable.get(cell, ()))
            # Strictly: of one place, the first task and policy are taken.
            if place < best:
                best, chosen = place, cell
    return None if chosen is None else RolloutKey(*chosen, first + best)
