"""Which rollout comes next: those that an open comparison waits for, episode by episode."""

from collections.abc import Collection

from step_analysis.rollouts import RolloutKey
from step_analysis.study.study import Study


def next_rollout(
    study: Study, *, busy: Collection[RolloutKey] = (), given_up: Collection[RolloutKey] = ()
) -> RolloutKey | None:
    """The episode to run next, or None where all that are asked for are running or done.

    All policies of a task are taken through one seed before the next, so that they advance
    together. A policy is asked for a task while one of its comparisons there is open: what is
    decided gets no more rollouts.

    Args:
        busy: running now.
        given_up: those that no further attempt is made at in this run. A comparison that would
            have to read one of them gets no more rollouts, as they could not be read either.
    """
    design = study.design
    stuck = {(key.policy, key.task) for key in given_up}
    wanted: set[tuple[str, str]] = set()
    for each in study.standing().open:
        pairs = {(policy, task) for policy in each.arms for task in each.tasks}
        if not pairs & stuck:
            wanted |= pairs
    unavailable = {*busy, *given_up}
    best: tuple[int, int, int] | None = None
    chosen: RolloutKey | None = None
    for task_place, task in enumerate(design.tasks):
        for policy_place, policy in enumerate(design.policies):
            if (policy.name, task) not in wanted:
                continue
            for place in range(study.tape.prefix(policy.name, task), design.max_episodes):
                rank = (place, task_place, policy_place)
                if best is not None and rank >= best:
                    break
                key = RolloutKey(policy.name, task, design.first_episode + place)
                if key not in unavailable and not study.tape.has(key):
                    best, chosen = rank, key
                    break
    return chosen
