"""What a report says, worked out once: the page, the Markdown and the JSON only lay it out."""

import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import NamedTuple

from step_analysis.comparison import Comparison, Count, PairResult, Panel
from step_analysis.differences import newcombe
from step_analysis.findings import Finding, most_severe_first
from step_analysis.intervals import BetaPosterior, Interval, clopper_pearson, wilson
from step_analysis.loading import PolicyRollouts
from step_analysis.posterior import probability_better
from step_analysis.report.wording import headline, pair_sentence
from step_analysis.rollouts import Outcome
from step_analysis.stratified import StratumCounts, mean_difference

CONTENT_VERSION = 2
DEFAULT_TITLE = "Policy evaluation"

_SOFTWARE = ("assay", "numpy", "scipy", "pillow")


@dataclass(frozen=True, kw_only=True)
class RateRow:
    """One policy's success rate in one panel; intervals are None without a counted episode."""

    policy: str
    letters: str
    successes: int
    num_counted: int
    rate: float | None
    clopper_pearson: Interval | None
    wilson: Interval | None
    posterior_mean: float | None
    posterior_interval: Interval | None
    num_timeouts: int
    num_errors: int
    num_missing: int


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One pairwise verdict."""

    arm0: str
    arm1: str
    winner: str | None
    method: str
    time: int
    num_available: int
    n_max: int
    alpha_per_side: float
    successes0: int
    """Of arm 0 among the episodes that the test looked at."""
    successes1: int
    difference: float | None
    """Rate of arm 1 minus that of arm 0 over all counted episodes, each task with the same weight;
    None where one of them has none."""
    difference_interval: Interval | None
    probability_arm1_better: float | None
    """That arm 1's rate is the higher one, by the posteriors of the pooled counts."""
    stopped_because: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PanelContent:
    title: str
    tasks: tuple[str, ...]
    is_overall: bool
    rates: tuple[RateRow, ...]
    pairs: tuple[PairRow, ...]


@dataclass(frozen=True, kw_only=True)
class ErrorRow:
    """An episode without an outcome: its attempts so far all ended in errors."""

    policy: str
    task: str
    scenario_index: int
    attempt: int
    message: str


class Fact(NamedTuple):
    label: str
    value: str


@dataclass(frozen=True, kw_only=True)
class PolicyProvenance:
    policy: str
    sources: tuple[str, ...]
    facts: tuple[Fact, ...]
    """What only this policy has, in reading order."""

    @property
    def source(self) -> str:
        first, more = self.sources[0], len(self.sources) - 1
        return f"{first} and {more} more" if more else first


@dataclass(frozen=True, kw_only=True)
class StudyContent:
    """What a report of a study says besides: what was locked, why its test, what it cost."""

    test: str
    why: str
    guarantee: str
    is_finished: bool
    verdicts: tuple[str, ...]
    """A sentence for each panel, the tasks first."""
    num_rollouts_budget: int
    num_rollouts_used: int
    """That some verdict rests on."""
    num_rollouts_run: int
    interval: str
    """What the intervals of the differences are."""


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    version: int
    title: str
    headline: str
    created_at: str
    alpha: float
    confidence: float
    method: str
    sides: str
    """"two": alpha bounds wrong verdicts of both directions together; "one": each by itself."""
    correction: str
    family: str
    """Which verdicts share alpha: those of a "panel", or of the whole "study"."""
    panels: tuple[PanelContent, ...]
    """The overall panel first, then the tasks by name."""
    findings: tuple[Finding, ...]
    """What the doctor found in the rollouts, the most severe first."""
    errors: tuple[ErrorRow, ...]
    shared_facts: tuple[Fact, ...]
    """What all policies were run with; empty for a single policy."""
    provenance: tuple[PolicyProvenance, ...]
    command: str
    software: tuple[tuple[str, str], ...]
    study: StudyContent | None = None

    @property
    def overall(self) -> PanelContent | None:
        return next((panel for panel in self.panels if panel.is_overall), None)

    @property
    def task_panels(self) -> tuple[PanelContent, ...]:
        return tuple(panel for panel in self.panels if len(panel.tasks) == 1)

    @property
    def policies_by_rate(self) -> tuple[str, ...]:
        """All policies, the best first: by the overall panel, or else by their tasks' mean rate."""
        if self.overall is not None:
            return tuple(row.policy for row in self.overall.rates)
        rates: dict[str, list[float]] = {entry.policy: [] for entry in self.provenance}
        for panel in self.task_panels:
            for row in panel.rates:
                rates[row.policy].append(row.rate or 0.0)
        # A study that has just begun has policies without an episode that counts.
        means = {name: sum(own) / max(len(own), 1) for name, own in rates.items()}
        return tuple(sorted(means, key=lambda name: (-means[name], name)))


def build_content(
    comparison: Comparison,
    *,
    title: str = DEFAULT_TITLE,
    confidence: float,
    arguments: Sequence[str],
    findings: Iterable[Finding],
) -> ReportContent:
    """Everything that a report says.

    Args:
        arguments: those of the command that made it, to be repeated.
        findings: what the doctor found in the rollouts.
    """
    panels = [] if comparison.aggregate is None else [comparison.aggregate]
    panels += comparison.task_panels
    overall = comparison.overall
    shared, provenance = _provenance(comparison.policies)
    return ReportContent(
        version=CONTENT_VERSION,
        title=title,
        headline=headline(comparison, confidence),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        alpha=comparison.alpha,
        confidence=confidence,
        method=comparison.method,
        sides=comparison.sides,
        correction=comparison.correction,
        family=comparison.family,
        panels=tuple(
            _panel(panel, confidence, is_overall=panel is overall, comparison=comparison)
            for panel in panels
        ),
        findings=tuple(most_severe_first(findings)),
        errors=tuple(error_rows(comparison.policies)),
        shared_facts=shared,
        provenance=provenance,
        command=shlex.join(["step-analysis", *arguments]),
        software=tuple(_software()),
    )


def _panel(
    panel: Panel, confidence: float, *, is_overall: bool, comparison: Comparison
) -> PanelContent:
    strata = {
        policy.policy: _strata(policy, panel.tasks)
        for policy in comparison.policies
        if panel.letters.get(policy.policy) is not None
    }
    return PanelContent(
        title=panel.title,
        tasks=panel.tasks,
        is_overall=is_overall,
        rates=tuple(
            rate_row(count, panel.letters[count.policy], confidence) for count in panel.counts
        ),
        pairs=tuple(
            _pair(pair, panel, comparison.alpha, confidence, strata) for pair in panel.pairs
        ),
    )


def _strata(policy: PolicyRollouts, tasks: Sequence[str]) -> list[StratumCounts] | None:
    """The policy's counts of each task; None if one has no counted episode."""
    rollouts = [policy.tasks[task] for task in tasks]
    if not all(task.counted for task in rollouts):
        return None
    return [
        StratumCounts(successes=task.num(Outcome.SUCCESS), num_episodes=len(task.counted))
        for task in rollouts
    ]


def rate_row(count: Count, letters: str, confidence: float) -> RateRow:
    """A policy's counts with their intervals."""
    successes, n = count.successes, count.num_counted
    posterior = BetaPosterior(successes=successes, num_episodes=n)
    return RateRow(
        policy=count.policy,
        letters=letters,
        successes=successes,
        num_counted=n,
        rate=count.rate,
        clopper_pearson=clopper_pearson(successes, n, confidence) if n else None,
        wilson=wilson(successes, n, confidence) if n else None,
        posterior_mean=posterior.mean if n else None,
        posterior_interval=posterior.interval(confidence) if n else None,
        num_timeouts=count.num_timeouts,
        num_errors=count.num_errors,
        num_missing=count.num_missing,
    )


def _pair(
    pair: PairResult,
    panel: Panel,
    alpha: float,
    confidence: float,
    strata: Mapping[str, list[StratumCounts] | None],
) -> PairRow:
    difference, interval = _difference(strata[pair.arm0], strata[pair.arm1], confidence)
    probability = None
    if difference is not None:
        posterior0, posterior1 = (
            BetaPosterior(successes=count.successes, num_episodes=count.num_counted)
            for count in (panel.count(pair.arm0), panel.count(pair.arm1))
        )
        probability = probability_better(posterior0, posterior1)
    return PairRow(
        arm0=pair.arm0,
        arm1=pair.arm1,
        winner=pair.winner,
        method=pair.test.name,
        time=pair.time,
        num_available=pair.num_available,
        n_max=pair.test.n_max,
        alpha_per_side=pair.test.alpha_per_side,
        successes0=sum(pair.outcomes0[: pair.time]),
        successes1=sum(pair.outcomes1[: pair.time]),
        difference=difference,
        difference_interval=interval,
        probability_arm1_better=probability,
        stopped_because=pair.stopped_because,
        sentence=pair_sentence(pair, panel, alpha),
    )


def _difference(
    strata0: list[StratumCounts] | None, strata1: list[StratumCounts] | None, confidence: float
) -> tuple[float | None, Interval | None]:
    if strata0 is None or strata1 is None:
        return None, None
    if len(strata0) > 1:
        estimate = mean_difference(strata0, strata1, confidence)
        return estimate.value, estimate.interval
    (only0,), (only1,) = strata0, strata1
    interval = newcombe(
        only0.successes, only0.num_episodes, only1.successes, only1.num_episodes, confidence
    )
    return only1.rate - only0.rate, interval


def error_rows(policies: Sequence[PolicyRollouts]) -> Iterable[ErrorRow]:
    """The episodes that have no outcome for errors."""
    for policy in policies:
        for task in policy.tasks.values():
            for record in task.errors:
                yield ErrorRow(
                    policy=record.policy,
                    task=record.task,
                    scenario_index=record.scenario_index,
                    attempt=record.attempt,
                    message=record.message or "no message",
                )


def _provenance(
    policies: Sequence[PolicyRollouts],
) -> tuple[tuple[Fact, ...], tuple[PolicyProvenance, ...]]:
    """The facts that all policies share, and the others of each: differences then stand out."""
    facts = {policy.policy: list(_facts(policy)) for policy in policies}
    first, *others = facts.values()
    shared = [fact for fact in first if others and all(fact in other for other in others)]
    return tuple(shared), tuple(
        PolicyProvenance(
            policy=policy.policy,
            sources=tuple(map(str, policy.sources)),
            facts=tuple(fact for fact in facts[policy.policy] if fact not in shared),
        )
        for policy in policies
    )


def _facts(policy: PolicyRollouts) -> Iterable[Fact]:
    design = policy.design
    if design is None:
        yield Fact("Tasks", ", ".join(policy.tasks))
        yield Fact("Design", "not recorded with these results")
    else:
        last = design.first_episode + design.num_episodes - 1
        yield Fact("Checkpoint digest", design.policy_digest)
        yield Fact("Tasks", ", ".join(design.tasks))
        yield Fact("Scenarios of each task", f"{design.first_episode} to {last}")
        yield Fact("Budget of each task", f"{design.max_sample_size} episodes, fixed beforehand")
        yield Fact("Seeds", design.seed_range)
        for name, value in design.station.items():
            yield Fact(f"Station: {name}", _fact(value))
        software = sorted(design.software.items())
        yield Fact("Software", ", ".join(f"{name} {version}" for name, version in software))
    yield from _machines(policy)
    records = [r for task in policy.tasks.values() for r in task.outcomes.values()]
    started = [record.started_at for record in records if record.started_at is not None]
    if started:
        yield Fact("Episodes started", f"{min(started)} to {max(started)}")
    wall = [record.wall_s for record in records if record.wall_s is not None]
    if wall:
        yield Fact("Mean wall time of an episode", f"{sum(wall) / len(wall):.1f} s")


def _machines(policy: PolicyRollouts) -> Iterable[Fact]:
    """What served the policy and what simulated, each kind of them once."""
    for label, name in (("Served by", "servers"), ("Simulated by", "simulators")):
        told: dict[str, None] = {}
        for provenance in policy.provenances:
            told |= dict.fromkeys(_fact(dict(facts)) for facts in getattr(provenance, name))
        told.pop("", None)
        for i, text in enumerate(told, start=1):
            yield Fact(label if len(told) == 1 else f"{label}, {i} of {len(told)}", text)


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_fact(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_fact, value))
    return str(value)


def _software() -> Iterable[tuple[str, str]]:
    yield "Python", platform.python_version()
    for name in _SOFTWARE:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
