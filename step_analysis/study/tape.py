"""The outcomes of a study by the place of their episode, whenever each of them came.

A comparison reads its two policies' outcomes side by side, in an order that was fixed before the
first episode, and only up to the first that either of them lacks.
"""

import math
from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np

from step_analysis.evidence import block_order
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.strict_json import FormatError, shown
from step_analysis.study.design import StudyDesign


class Tape:
    """What is known of every episode of a study: a value in [0, 1] each, or nothing yet.

    1 for a success and 0 for a failure or timeout, or the progress score, as the design measures.
    """

    def __init__(self, design: StudyDesign) -> None:
        self.design = design
        # By policy, (episode, task); a task's values are a column of them.
        self._policy_values = {
            policy.name: np.full((design.max_episodes, len(design.tasks)), np.nan)
            for policy in design.policies
        }
        self._values = {
            (policy.name, task): self._policy_values[policy.name][:, column]
            for column, task in enumerate(design.tasks)
            for policy in design.policies
        }
        self._prefixes = dict.fromkeys(self._values, 0)

    @property
    def cells(self) -> Collection[tuple[str, str]]:
        """Every policy and task, in the order in which rollouts of one place are run."""
        return self._values.keys()

    def add(self, record: RolloutRecord) -> bool:
        """Take note of a record; an error is none.

        Returns whether more can now be read of its policy and task.

        Raises:
            FormatError: it is of no episode of this study, of another seed, has no score where
                the study is about scores, or says otherwise than an earlier one.
        """
        self.check(record)
        if not record.outcome.counts:
            return False
        value = self._value(record)
        values = self._values[record.policy, record.task]
        place = record.scenario_index - self.design.first_episode
        if not math.isnan(values[place]) and values[place] != value:
            raise FormatError(f"{record.key}: two counted records, only one may decide")
        values[place] = value
        prefix = self._prefixes[record.policy, record.task]
        if place != prefix:
            return False
        while prefix < len(values) and not math.isnan(values[prefix]):
            prefix += 1
        self._prefixes[record.policy, record.task] = prefix
        return True

    def check(self, record: RolloutRecord) -> None:
        """Raises FormatError unless the record is of an episode of this study."""
        design = self.design
        if (record.policy, record.task) not in self._values:
            raise FormatError(f"{record.key}: no policy and task of this study")
        place = record.scenario_index - design.first_episode
        if not 0 <= place < design.max_episodes:
            last = design.first_episode + design.max_episodes - 1
            raise FormatError(
                f"{record.key}: beyond the budget of this study, scenarios "
                f"{design.first_episode} to {last}"
            )
        seed = design.seed(record.scenario_index)
        if record.seed != seed:
            raise FormatError(
                f"{record.key}: seed {shown(record.seed)}, but every policy of this study meets "
                f"seed {seed} there"
            )

    def next_missing(self, policy: str, task: str, passed_over: Collection[int]) -> int:
        """The first place without an outcome but those passed over; the budget if there is none."""
        values = self._values[policy, task]
        place = self._prefixes[policy, task]
        while place < len(values) and (place in passed_over or not math.isnan(values[place])):
            place += 1
        return place

    def prefix(self, policy: str, task: str) -> int:
        """How many leading episodes have their outcome."""
        return self._prefixes[policy, task]

    def num_readable(self, arms: tuple[str, str], tasks: Sequence[str]) -> int:
        """How many leading episodes of each a comparison of two policies may read."""
        arm0, arm1 = arms
        prefixes = self._prefixes
        ready = [min(prefixes[arm0, task], prefixes[arm1, task]) for task in tasks]
        blocks = min(ready)
        if len(tasks) == 1 or blocks == self.design.max_episodes:
            return blocks * len(tasks)
        length = blocks * len(tasks)
        for task in block_order(len(tasks), blocks + 1)[blocks].tolist():
            if ready[task] <= blocks:
                break
            length += 1
        return length

    def read(self, policy: str, tasks: Sequence[str], length: int) -> np.ndarray:
        """The first outcomes in the order of comparing, float64 of this length.

        Of one task, or of all together.
        """
        if len(tasks) == 1:
            return self._values[policy, tasks[0]][:length]
        return self._policy_values[policy].take(self._order[:length])

    @cached_property
    def _order(self) -> np.ndarray:
        """Where the outcomes of all tasks stand, in the order of comparing."""
        num_blocks, num_tasks = self.design.max_episodes, len(self.design.tasks)
        first_of_block = num_tasks * np.arange(num_blocks)
        return (first_of_block[:, None] + block_order(num_tasks, num_blocks)).ravel()

    def _value(self, record: RolloutRecord) -> float:
        if self.design.measure == "success":
            return float(record.outcome is Outcome.SUCCESS)
        if record.progress is None:
            raise FormatError(f"{record.key}: no progress score, and the study is about scores")
        return record.progress


def num_episodes(tasks: Sequence[str], task: str, length: int) -> int:
    """How many episodes of one task are among the first `length` in the order of comparing."""
    if task not in tasks:
        return 0
    whole, rest = divmod(length, len(tasks))
    if not rest:
        return whole
    begun = block_order(len(tasks), whole + 1)[whole, :rest]
    return whole + int((begun == tasks.index(task)).sum())
