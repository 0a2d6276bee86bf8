"""One comparison of a study: two policies on one task, or on all tasks together."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from step_analysis.methods import make_test
from step_analysis.sequential.betting import BettingTest
from step_analysis.sequential.pairwise_test import PairwiseTest, Verdict
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

    @cached_property
    def cells(self) -> frozenset[tuple[str, str]]:
        """The policies and tasks that it reads."""
        return frozenset((arm, task) for arm in self.arms for task in self.tasks)

    @property
    def loser(self) -> str | None:
        if self.winner is None:
            return None
        return self.arm0 if self.winner == self.arm1 else self.arm1


class PairComparison:
    """Reads a tape as it fills, and answers at any level.

    A verdict once reached stays: the test stops at the first episode at which it can, and what is
    read later comes after that.
    """

    def __init__(self, tape: Tape, tasks: tuple[str, ...], arms: tuple[str, str]) -> None:
        self.tasks = tasks
        self.arms = arms
        self.n_max = tape.design.max_episodes * len(tasks)
        self.num_readable = 0
        self._tape = tape
        self._verdicts: dict[float, Verdict] = {}
        self._undecided_until: dict[float, int] = {}
        self._standing: ComparisonStanding | None = None

    def read(self) -> bool:
        """Go on reading as far as both policies have their outcomes; whether there was more."""
        before = self.num_readable
        self.num_readable = self._tape.num_readable(self.arms, self.tasks)
        return self.num_readable > before

    @property
    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """What was read of each policy, in the order of comparing."""
        arm0, arm1 = (self._tape.read(arm, self.tasks, self.num_readable) for arm in self.arms)
        if self._tape.design.measure == "success":
            return arm0.astype(np.int8), arm1.astype(np.int8)
        return arm0, arm1

    def test(self, level: float) -> PairwiseTest:
        test = self._tape.design.test
        if test == "betting":
            return BettingTest(self.n_max, level)
        return make_test(test, self.n_max, level)

    def verdict(self, level: float) -> Verdict:
        known = self._verdicts.get(level)
        if known is not None and (known.decision or known.time == self.num_readable):
            return known
        if self.num_readable < self._undecided_until.get(level, 0):
            verdict = Verdict(0, self.num_readable)
        else:
            test, (arm0, arm1) = self.test(level), self.outcomes
            verdict = test.run(arm0, arm1)
            lead = abs(int(arm1.sum()) - int(arm0.sum()))
            self._undecided_until[level] = self.num_readable + test.least_lead - lead
        self._verdicts[level] = verdict
        return verdict

    def standing(
        self, stage: Stage, time: int, level: float, winner: str | None = None
    ) -> ComparisonStanding:
        """Where it stands, as its study says."""
        last = self._standing
        if last is None or (last.stage, last.time, last.alpha_per_side, last.winner) != (
            stage,
            time,
            level,
            winner,
        ):
            self._standing = last = ComparisonStanding(
                tasks=self.tasks,
                arm0=self.arms[0],
                arm1=self.arms[1],
                stage=stage,
                winner=winner,
                time=time,
                n_max=self.n_max,
                alpha_per_side=level,
            )
        return last
