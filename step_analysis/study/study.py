"""A study as it goes on: records in, the state of every comparison out.

Why no order of finishing, crash or resume can change the verdict: imagine that every episode of
the budget had its outcome on a tape before the first was run. Each comparison reads its part of
the tape from the beginning, and its test stops at one place of it. Running episodes only uncovers
the tape. `docs/statistics.md` has the argument for each correction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from step_analysis.pair_decisions import PairDecision, alone, decide
from step_analysis.rollouts import RolloutRecord
from step_analysis.study.comparisons import ComparisonStanding, PairComparison, Stage
from step_analysis.study.design import StudyDesign
from step_analysis.study.tape import Tape, num_episodes


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The state of all comparisons: by panel, tasks by name and all together last."""

    design: StudyDesign
    comparisons: tuple[ComparisonStanding, ...]

    @cached_property
    def open(self) -> tuple[ComparisonStanding, ...]:
        return tuple(each for each in self.comparisons if each.stage is Stage.OPEN)

    @cached_property
    def wanted(self) -> frozenset[tuple[str, str]]:
        """The policies and tasks whose rollouts may decide something."""
        return frozenset().union(*(each.cells for each in self.open))

    @property
    def is_finished(self) -> bool:
        """Whether no rollout is asked for any more."""
        return not self.open

    def panel(self, tasks: Sequence[str]) -> tuple[ComparisonStanding, ...]:
        return tuple(each for each in self.comparisons if each.tasks == tuple(tasks))

    def num_used(self, policy: str, task: str) -> int:
        """Leading episodes that some verdict rests on; what was run beyond them changes nothing."""
        return max(
            (
                num_episodes(each.tasks, task, each.time)
                for each in self.comparisons
                if policy in each.arms
            ),
            default=0,
        )

    @property
    def num_rollouts_used(self) -> int:
        return sum(
            self.num_used(policy.name, task)
            for policy in self.design.policies
            for task in self.design.tasks
        )


class Study:
    """The records of a study, and what they decide."""

    def __init__(self, design: StudyDesign, records: Iterable[RolloutRecord] = ()) -> None:
        """Raises FormatError for a record that is not this study's; see `Tape.add`."""
        self.design = design
        self.tape = Tape(design)
        self.comparisons = tuple(
            PairComparison(self.tape, tasks, pair)
            for tasks in design.panels
            for pair in design.pairs
        )
        self._readers: dict[tuple[str, str], list[PairComparison]] = {}
        for comparison in self.comparisons:
            for cell in product(comparison.arms, comparison.tasks):
                self._readers.setdefault(cell, []).append(comparison)
        self._behind: set[PairComparison] = set()
        self._standing: Standing | None = None
        for record in records:
            self.add(record)

    def add(self, record: RolloutRecord) -> None:
        """Raises FormatError as `Tape.add`."""
        if self.tape.add(record):
            self._behind.update(self._readers[record.policy, record.task])

    def standing(self) -> Standing:
        """A function of the records alone, whatever the order in which they came."""
        moved = [each for each in self._behind if each.read()]
        self._behind.clear()
        if self._standing is None or moved:
            states = self._best() if self.design.question == "best" else self._ranking()
            self._standing = Standing(design=self.design, comparisons=tuple(states))
        return self._standing

    def _ranking(self) -> Iterable[ComparisonStanding]:
        """Every comparison reads until it is decided or its budget is spent."""
        design = self.design
        if design.correction == "arrival":
            for comparison in self.comparisons:
                level = design.level(comparison.arms)
                yield _ranked(comparison, alone(comparison, level))
            return
        decisions = decide(self.comparisons, design.alpha / 2.0, design.correction)
        for comparison, decided in zip(self.comparisons, decisions, strict=True):
            yield _ranked(comparison, decided)

    def _best(self) -> Iterable[ComparisonStanding]:
        """Successive elimination in each panel, episode by episode.

        All policies that are left read an episode; who is then beaten by one of them reads no
        more. A panel so goes at the pace of the slowest of those that are left, and what the
        beaten would have done later is never looked at.
        """
        level = self.design.alpha / 2.0 / len(self.comparisons)
        for tasks in self.design.panels:
            panel = [each for each in self.comparisons if each.tasks == tasks]
            ends: dict[PairComparison, ComparisonStanding] = {}
            contested, round_ = panel, 0
            while contested:
                round_ = min(each.num_readable for each in contested)
                stopping = [each for each in contested if each.verdict(level).decision]
                first = min((each.verdict(level).time for each in stopping), default=round_ + 1)
                if first > round_:
                    break
                now = [each for each in stopping if each.verdict(level).time == first]
                for each in now:
                    ends[each] = _ranked(each, alone(each, level))
                beaten = {ends[each].loser for each in now}
                for each in contested:
                    if each not in ends and beaten.intersection(each.arms):
                        ends[each] = each.standing(Stage.SET_ASIDE, first, level)
                contested = [each for each in contested if each not in ends]
            for each in panel:
                yield ends.get(each) or _undecided(each, round_, level)


def _ranked(comparison: PairComparison, decided: PairDecision) -> ComparisonStanding:
    if decided.time is None:
        return _undecided(comparison, comparison.num_readable, decided.level)
    winner = comparison.arms[1] if decided.decision > 0 else comparison.arms[0]
    return comparison.standing(Stage.DECIDED, decided.time, decided.level, winner)


def _undecided(comparison: PairComparison, time: int, level: float) -> ComparisonStanding:
    stage = Stage.UNDECIDED if time == comparison.n_max else Stage.OPEN
    return comparison.standing(stage, time, level)
