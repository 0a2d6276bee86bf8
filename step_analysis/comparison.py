"""Comparing policies: on each task, and over the tasks that all of them have.

Each pair is tested on the scenarios that both were asked for, as far as both have finished them
without a gap; see `evidence`. A panel is one task, or all common tasks together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from step_analysis.compact_letters import compact_letters
from step_analysis.evidence import Arm, PairedOutcomes, arm_of, pair_outcomes
from step_analysis.loading import PolicyRollouts
from step_analysis.methods import Method, Sides, make_test, per_side
from step_analysis.multiplicity import Correction, StudyCorrection
from step_analysis.pair_decisions import PairDecision, decide
from step_analysis.rollouts import Outcome
from step_analysis.sequential.pairwise_test import PairwiseTest, Verdict

Family = Literal["panel", "study"]
"""Which verdicts share one alpha: those of a panel, or of all panels together."""

DEFAULT_ALPHA = 0.05

_MIN_AGGREGATED_TASKS = 2


@dataclass(frozen=True, kw_only=True)
class Count:
    """One policy's outcomes on one task, or pooled over several."""

    policy: str
    successes: int
    num_counted: int
    num_timeouts: int
    num_errors: int
    num_missing: int

    @property
    def rate(self) -> float | None:
        return self.successes / self.num_counted if self.num_counted else None


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """The test of two policies.

    `outcomes0` and `outcomes1` are the 0/1 sequences that the test could look at;
    `stopped_because` says why they end before the budget, None if they do not.
    """

    arm0: str
    arm1: str
    test: PairwiseTest
    outcomes0: tuple[int, ...]
    outcomes1: tuple[int, ...]
    winner: str | None
    time: int
    """Episodes of each arm that the verdict rests on, or all there are."""
    stopped_because: str | None

    @property
    def num_available(self) -> int:
        return len(self.outcomes0)

    @property
    def loser(self) -> str | None:
        if self.winner is None:
            return None
        return self.arm0 if self.winner == self.arm1 else self.arm1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The comparison on one task (`tasks` has one name) or over several common ones."""

    tasks: tuple[str, ...]
    counts: tuple[Count, ...]
    """Best rate first; policies of one rate by name."""
    pairs: tuple[PairResult, ...]
    letters: Mapping[str, str]

    @property
    def title(self) -> str:
        return self.tasks[0] if len(self.tasks) == 1 else f"All {len(self.tasks)} common tasks"

    def count(self, policy: str) -> Count:
        return next(count for count in self.counts if count.policy == policy)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the rollouts say."""

    policies: tuple[PolicyRollouts, ...]
    alpha: float
    method: Method | Literal["betting"]
    task_panels: tuple[Panel, ...]
    aggregate: Panel | None
    """Over the tasks common to all policies; None if there are fewer than two."""
    sides: Sides = "two"
    correction: StudyCorrection = "bonferroni"
    family: Family = "panel"

    @property
    def overall(self) -> Panel | None:
        """The panel that a headline is about; None if no task is common to all policies."""
        if self.aggregate is not None:
            return self.aggregate
        common = _common_tasks(self.policies)
        return next((p for p in self.task_panels if p.tasks == common), None)


def compare(
    policies: Sequence[PolicyRollouts],
    alpha: float = DEFAULT_ALPHA,
    method: Method = "auto",
    *,
    sides: Sides = "two",
    correction: Correction = "bonferroni",
    family: Family = "panel",
) -> Comparison:
    """Compare all policies pairwise.

    Args:
        alpha: bound on the chance of any wrong verdict within the family; with the correction
            "benjamini-hochberg" on the expected share of wrong ones among the verdicts.
        sides: "two" counts wrong verdicts of both directions together; with "one" each direction
            may err with a chance of alpha, as in the published VLA Foundry tables.
        correction: Bonferroni and Holm hold whatever depends; Holm and Benjamini-Hochberg need
            a boundary for each of several levels, made on first use.

    Raises:
        ValueError: alpha outside (0, 1), or of 1/2 and more with sides "one".
    """
    alpha_per_side = per_side(alpha, sides)
    arms = [arm_of(policy) for policy in policies]
    tasks = sorted({task for policy in policies for task in policy.tasks})
    common = _common_tasks(policies)
    drafts = [_draft((task,), policies, arms, method) for task in tasks]
    if len(common) >= _MIN_AGGREGATED_TASKS:
        drafts.append(_draft(common, policies, arms, method))
    families = [drafts] if family == "study" else [[draft] for draft in drafts]
    panels: list[Panel] = []
    for members in families:
        pairs = [pair for draft in members for pair in draft.pairs]
        decisions = iter(decide(pairs, alpha_per_side, correction))
        panels += [_panel(draft, [next(decisions) for _ in draft.pairs]) for draft in members]
    return Comparison(
        policies=tuple(policies),
        alpha=alpha,
        method=method,
        task_panels=tuple(panels[: len(tasks)]),
        aggregate=panels[-1] if len(panels) > len(tasks) else None,
        sides=sides,
        correction=correction,
        family=family,
    )


def count_outcomes(policies: Sequence[PolicyRollouts], alpha: float = DEFAULT_ALPHA) -> Comparison:
    """The comparison without its tests: counts of each task, no pair and no letter."""
    tasks = sorted({task for policy in policies for task in policy.tasks})
    common = _common_tasks(policies)
    wanted: list[tuple[str, ...]] = [(task,) for task in tasks]
    if len(common) >= _MIN_AGGREGATED_TASKS:
        wanted.append(common)
    panels = []
    for names in wanted:
        present = [policy for policy in policies if all(task in policy.tasks for task in names)]
        counts = _by_rate(count_of(policy, names) for policy in present)
        letters = {count.policy: "" for count in counts}
        panels.append(Panel(tasks=names, counts=counts, pairs=(), letters=letters))
    return Comparison(
        policies=tuple(policies),
        alpha=alpha,
        method="auto",
        task_panels=tuple(panels[: len(tasks)]),
        aggregate=panels[-1] if len(panels) > len(tasks) else None,
    )


class _Pair:
    """A pair to be tested, at whatever level the correction asks for."""

    def __init__(self, arm0: Arm, arm1: Arm, outcomes: PairedOutcomes, method: Method) -> None:
        self.arm0 = arm0.policy
        self.arm1 = arm1.policy
        self.outcomes = outcomes
        self.n_max = outcomes.n_max
        self._method: Method = method
        self._verdicts: dict[float, Verdict] = {}

    def test(self, level: float) -> PairwiseTest:
        return make_test(self._method, self.n_max, level)

    def verdict(self, level: float) -> Verdict:
        if level not in self._verdicts:
            outcomes = self.outcomes
            test = self.test(level)
            self._verdicts[level] = test.run(outcomes.outcomes0, outcomes.outcomes1)
        return self._verdicts[level]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A panel before its pairs are decided."""

    tasks: tuple[str, ...]
    counts: tuple[Count, ...]
    pairs: tuple[_Pair, ...]


def _draft(
    tasks: tuple[str, ...],
    policies: Sequence[PolicyRollouts],
    arms: Sequence[Arm],
    method: Method,
) -> _Draft:
    present = [i for i, arm in enumerate(arms) if all(task in arm.tasks for task in tasks)]
    counts = _by_rate(count_of(policies[i], tasks) for i in present)
    pairs = [
        _Pair(arms[i], arms[j], pair_outcomes(arms[i], arms[j], tasks), method)
        for i, j in combinations(present, 2)
    ]
    return _Draft(tasks=tasks, counts=counts, pairs=tuple(pairs))


def _by_rate(counts: Iterable[Count]) -> tuple[Count, ...]:
    """The best rate first; policies of one rate by name."""
    return tuple(
        sorted(
            counts,
            key=lambda count: (-(count.rate if count.rate is not None else -1.0), count.policy),
        )
    )


def _panel(draft: _Draft, decisions: Sequence[PairDecision]) -> Panel:
    pairs = tuple(_pair_result(*each) for each in zip(draft.pairs, decisions, strict=True))
    different = [(pair.arm0, pair.arm1) for pair in pairs if pair.winner is not None]
    letters = compact_letters([count.policy for count in draft.counts], different)
    return Panel(tasks=draft.tasks, counts=draft.counts, pairs=pairs, letters=letters)


def _pair_result(pair: _Pair, decided: PairDecision) -> PairResult:
    outcomes = pair.outcomes
    num_available = len(outcomes.outcomes0)
    return PairResult(
        arm0=pair.arm0,
        arm1=pair.arm1,
        test=pair.test(decided.level),
        outcomes0=tuple(outcomes.outcomes0.tolist()),
        outcomes1=tuple(outcomes.outcomes1.tolist()),
        winner={1: pair.arm1, -1: pair.arm0}.get(decided.decision),
        time=num_available if decided.time is None else decided.time,
        stopped_because=outcomes.stopped_because,
    )


def _common_tasks(policies: Sequence[PolicyRollouts]) -> tuple[str, ...]:
    if not policies:
        return ()
    return tuple(sorted(set.intersection(*(set(policy.tasks) for policy in policies))))


def count_of(policy: PolicyRollouts, tasks: Sequence[str]) -> Count:
    """One policy's outcomes on some tasks, pooled."""
    rollouts = [policy.tasks[task] for task in tasks]
    return Count(
        policy=policy.policy,
        successes=sum(task.num(Outcome.SUCCESS) for task in rollouts),
        num_counted=sum(len(task.counted) for task in rollouts),
        num_timeouts=sum(task.num(Outcome.TIMEOUT) for task in rollouts),
        num_errors=sum(len(task.errors) for task in rollouts),
        num_missing=sum(task.num_missing for task in rollouts),
    )
