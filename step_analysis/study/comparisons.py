"""One comparison of a study: two policies on one task, or on all tasks together."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from step_analysis.methods import make_test
from step_analysis.sequential.betting import BettingTest
from step_analysis.sequential.pairwise_test import PairwiseTest, Verdict
from step_analysis.study.design import StudyDesign
from step_analysis.study.tape import Tape


class Stage(StrEnum):
    """How far a comparison has come."""

    OPEN = "open"
    """Undecided, and more rollouts may decide it."""
    DECIDED = "decided"
    UNDECIDED = "undecided"
    """The budget is spent, and no difference is shown."""
    SET_ASIDE = "set aside"
    """One of the two is beaten already, and the question is who is best."""


@dataclass(frozen=True, kw_only=True)
class ComparisonStanding:
    """Where a comparison stands."""

    tasks: tuple[str, ...]
    arm0: str
    arm1: str
    stage: Stage
    winner: str | None
    time: int
    """Episodes of each that the verdict rests on; of an open one those that were read."""
    n_max: int
    alpha_per_side: float

    @property
    def arms(self) -> tuple[str, str]:
        return self.arm0, self.arm1

    @property
    def loser(self) -> str | None:
        if self.winner is None:
            return None
        return self.arm0 if self.winner == self.arm1 else self.arm1


@dataclass(eq=False)
class PairComparison:
    """Reads a tape as it fills, and answers at any level.

    A verdict once reached stays: the test stops at the first episode at which it can, and what is
    read later comes after that.
    """

    design: StudyDesign
    tasks: tuple[str, ...]
    arms: tuple[str, str]
    num_readable: int = 0
    outcomes: tuple[np.ndarray, np.ndarray] = field(default=(np.empty(0), np.empty(0)))
    _verdicts: dict[float, Verdict] = field(default_factory=dict)

    @property
    def n_max(self) -> int:
        return self.design.max_episodes * len(self.tasks)

    def read(self, tape: Tape) -> None:
        """Go on reading as far as both policies have their outcomes."""
        readable = tape.num_readable(self.arms, self.tasks)
        if readable == self.num_readable:
            return
        self.num_readable = readable
        arm0, arm1 = (tape.read(arm, self.tasks, readable) for arm in self.arms)
        if self.design.measure == "success":
            arm0, arm1 = arm0.astype(np.int8), arm1.astype(np.int8)
        self.outcomes = arm0, arm1
        self._verdicts = {at: known for at, known in self._verdicts.items() if known.decision}

    def test(self, level: float) -> PairwiseTest:
        if self.design.test == "betting":
            return BettingTest(self.n_max, level)
        return make_test(self.design.test, self.n_max, level)

    def verdict(self, level: float) -> Verdict:
        if level not in self._verdicts:
            self._verdicts[level] = self.test(level).run(*self.outcomes)
        return self._verdicts[level]
