"""Which object a policy went for, where the words of another task would have meant another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sim_client.tasks.catalog import TASKS
from sim_client.tasks.predicates import Grasped
from sim_client.tasks.task import Task
from step_analysis.rollouts import Outcome, RolloutRecord

# Of an episode: what was moved first. One that ended in an error says nothing.
MEANT, OTHER, NEITHER, ERROR = "M", "O", "N", "E"


def meant_objects(task: Task) -> frozenset[str]:
    """Those that the task has a hand touch."""
    return frozenset(each.item for each in task.milestones if isinstance(each, Grasped))


def other_objects(task: Task) -> frozenset[str]:
    """Those that other tasks mean in the same scene, where this one does not."""
    same = (
        meant_objects(other)
        for other in TASKS.values()
        if other.objects == task.objects and other.placements == task.placements
    )
    return frozenset[str]().union(*same) - meant_objects(task)


def choices(task: Task, records: Sequence[RolloutRecord]) -> str:
    """A letter a record; none at all where nothing else could be meant, or nothing was recorded."""
    meant, others = meant_objects(task), other_objects(task)
    counted = [each for each in records if each.outcome is not Outcome.ERROR]
    told = {f"{name}_moved" for name in meant | others}
    if not others or not all(told <= each.detail.keys() for each in counted):
        return ""
    return "".join(
        ERROR if each.outcome is Outcome.ERROR else _choice(each.detail, meant, others)
        for each in records
    )


def _choice(detail: Mapping[str, object], meant: frozenset[str], others: frozenset[str]) -> str:
    first_meant, first_other = (_first_move_s(detail, names) for names in (meant, others))
    if first_meant == first_other == float("inf"):
        return NEITHER
    # Both within the same control step: not shown to be the right one.
    return MEANT if first_meant < first_other else OTHER


def _first_move_s(detail: Mapping[str, object], names: frozenset[str]) -> float:
    """Infinite where none of them was moved."""
    times_s = (detail.get(f"{name}_moved_s") for name in names)
    return min((each for each in times_s if isinstance(each, (int, float))), default=float("inf"))
