"""Following one episode of a task: has it held long enough, how far has it come, is it lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sim_client.tasks.scene_state import SceneState, length
from sim_client.tasks.task import Task

_MOVED_M = 0.02
"""An object this far from where it began has been moved; what settles or is grazed has not."""


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """How a task stands at one instant.

    success: done, and held for the task's hold time. failed: it can no longer be done.
    progress: in [0, 1], never falling; 1 at success alone. predicates: each condition of success,
    each milestone, and the numbers behind them, by name; and of each object that is not fixed
    whether it was ever moved, and when first, as "mug_moved" and "mug_moved_s".
    """

    success: bool
    failed: bool
    progress: float
    predicates: Mapping[str, bool | float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "predicates", MappingProxyType(dict(self.predicates)))


class TaskMonitor:
    """Follows one episode, an instant a control step.

    Progress is the share reached so far of the milestones and of those conditions of success that
    were not met at the beginning, with success itself as one more.
    """

    def __init__(self, task: Task, *, control_period_s: float) -> None:
        self._task = task
        self._control_period_s = control_period_s
        self._num_instants_to_hold = 1 + round(task.hold_time_s / control_period_s)
        self._movable = [item.name for item in task.objects if not item.fixed]

    def begin(self, state: SceneState) -> TaskStatus:
        """The first instant of an episode."""
        self._num_instants = 0
        self._beginnings_m = {name: state.position_m(name).copy() for name in self._movable}
        self._moved_s: dict[str, float] = {}
        self._num_solved_instants = 0
        self._success = False
        self._failed = False
        self._open = {
            label for label, measure in self._task.measure(state).items() if not measure.holds
        }
        self._reached: set[str] = set()
        return self.update(state)

    def update(self, state: SceneState) -> TaskStatus:
        """The next instant, one control step later."""
        measures = self._task.measure(state)
        predicates: dict[str, bool | float] = {}
        for label, measure in measures.items():
            predicates[label] = measure.holds
            predicates |= measure.values
            if measure.holds and label in self._open:
                self._reached.add(label)
        predicates |= self._moved(state)
        solved = all(measures[predicate.label].holds for predicate in self._task.success)
        self._num_solved_instants = self._num_solved_instants + 1 if solved else 0
        self._failed = self._failed or self._task.is_lost(state)
        if self._num_solved_instants >= self._num_instants_to_hold and not self._failed:
            self._success = True
        return TaskStatus(
            success=self._success,
            failed=self._failed,
            progress=1.0 if self._success else len(self._reached) / (len(self._open) + 1),
            predicates=predicates,
        )

    def _moved(self, state: SceneState) -> dict[str, bool | float]:
        time_s = self._num_instants * self._control_period_s
        self._num_instants += 1
        told: dict[str, bool | float] = {}
        for name, beginning_m in self._beginnings_m.items():
            if name not in self._moved_s:
                distance_m = length(state.position_m(name) - beginning_m)
                if distance_m > _MOVED_M:
                    self._moved_s[name] = time_s
            told[f"{name}_moved"] = name in self._moved_s
            if name in self._moved_s:
                told[f"{name}_moved_s"] = self._moved_s[name]
        return told
