"""A study as the report knows comparisons: cut off where its verdicts were reached.

What was run beyond a decision depends on how many episodes ran at a time, so a report that counted
it would differ from run to run. It is told as a number and left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from step_analysis.compact_letters import compact_letters
from step_analysis.comparison import Comparison, PairResult, Panel, count_of
from step_analysis.intervals import Interval
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import RolloutRecord
from step_analysis.sequential.confidence_sequence import (
    ConfidenceSequence,
    paired_difference_sequence,
    paired_score_difference_sequence,
)
from step_analysis.study.comparisons import ComparisonStanding, PairComparison, Stage
from step_analysis.study.study import Study
from step_analysis.study.tape import num_episodes

_WHY_IT_ENDED = {
    Stage.OPEN: "the study goes on",
    Stage.SET_ASIDE: "one of the two is beaten already",
}


@dataclass(frozen=True, kw_only=True)
class StudyDifference:
    """Arm 1 minus arm 0 where the verdict was reached, with an interval that holds whenever one
    stops; None without an episode of each."""

    value: float | None
    interval: Interval | None


def cut_off(study: Study, policies: Sequence[PolicyRollouts]) -> tuple[PolicyRollouts, ...]:
    """The rollouts without those that no verdict rests on."""
    standing = study.standing()
    kept = []
    for policy in policies:
        tasks = {
            name: _begun(study, rollouts, num_used)
            for name, rollouts in policy.tasks.items()
            if (num_used := standing.num_used(policy.policy, name))
        }
        kept.append(replace(policy, tasks=tasks))
    return tuple(kept)


def _begun(study: Study, rollouts: TaskRollouts, length: int) -> TaskRollouts:
    """The leading episodes of a task."""
    first = study.design.first_episode
    leading = range(first, first + length)
    outcomes: Mapping[int, RolloutRecord] = {
        index: record for index, record in rollouts.outcomes.items() if index in leading
    }
    return replace(rollouts, outcomes=outcomes, requested=tuple(leading))


def study_comparison(study: Study, policies: Sequence[PolicyRollouts]) -> Comparison:
    """The study's own verdicts on its own tests, in the form of a comparison.

    Args:
        policies: those of the study that are shown, with their rollouts.
    """
    design = study.design
    policies = cut_off(study, policies)
    panels = [_panel(study, policies, (task,)) for task in design.tasks]
    has_overall = len(design.tasks) > 1 and design.tasks in design.panels
    aggregate = _panel(study, policies, design.tasks) if has_overall else None
    return Comparison(
        policies=policies,
        alpha=design.alpha,
        method=design.test,
        task_panels=tuple(panels),
        aggregate=aggregate,
        sides="two",
        correction=design.correction,
        family="study",
    )


def study_difference(study: Study, each: ComparisonStanding, confidence: float) -> StudyDifference:
    """By a confidence sequence for outcomes on shared seeds; over several tasks of the mean
    differences of whole blocks of one episode of each, which are alike in law."""
    arm0, arm1 = (study.tape.read(arm, each.tasks, each.time) for arm in each.arms)
    num_tasks = len(each.tasks)
    blocks = len(arm0) // num_tasks
    if not blocks:
        return StudyDifference(value=None, interval=None)
    scores0, scores1 = (
        arm[: blocks * num_tasks].reshape(blocks, num_tasks).mean(axis=1) for arm in (arm0, arm1)
    )
    if num_tasks == 1 and study.design.measure == "success":
        sequence = paired_difference_sequence(
            scores0.astype(np.int8), scores1.astype(np.int8), confidence
        )
    else:
        sequence = paired_score_difference_sequence(scores0.tolist(), scores1.tolist(), confidence)
    return StudyDifference(value=float(scores1.mean() - scores0.mean()), interval=_last(sequence))


def _last(sequence: ConfidenceSequence) -> Interval:
    return Interval(float(sequence.lower[-1]), float(sequence.upper[-1]))


def _panel(study: Study, policies: Sequence[PolicyRollouts], tasks: tuple[str, ...]) -> Panel:
    """Without pairs where the design asks for no verdict.

    Of several tasks only what the panel's own comparisons read is counted: each task's own end at
    a time that depends on its outcomes, and what is pooled over them would be biased.
    """
    present = [policy for policy in policies if all(task in policy.tasks for task in tasks)]
    if len(tasks) > 1:
        present = [_read_together(study, policy, tasks) for policy in present]
    counts = [count_of(policy, tasks) for policy in present]
    counts.sort(key=lambda count: (-(count.rate if count.rate is not None else -1.0), count.policy))
    names = [count.policy for count in counts]
    comparisons = {each.arms: each for each in study.comparisons if each.tasks == tasks}
    standings = [e for e in study.standing().panel(tasks) if set(e.arms) <= set(names)]
    different = [each.arms for each in standings if each.winner is not None]
    return Panel(
        tasks=tasks,
        counts=tuple(counts),
        pairs=tuple(_pair(comparisons[each.arms], each) for each in standings),
        letters=compact_letters(names, different),
    )


def _read_together(study: Study, policy: PolicyRollouts, tasks: tuple[str, ...]) -> PolicyRollouts:
    """What the comparisons on these tasks together read of a policy."""
    own = (each for each in study.standing().panel(tasks) if policy.policy in each.arms)
    length = max(each.time for each in own)
    begun = {
        task: _begun(study, policy.tasks[task], num_episodes(tasks, task, length)) for task in tasks
    }
    return replace(policy, tasks=begun)


def _pair(comparison: PairComparison, each: ComparisonStanding) -> PairResult:
    outcomes0, outcomes1 = (arm[: each.time] for arm in comparison.outcomes)
    return PairResult(
        arm0=each.arm0,
        arm1=each.arm1,
        test=comparison.test(each.alpha_per_side),
        outcomes0=tuple(outcomes0.tolist()),
        outcomes1=tuple(outcomes1.tolist()),
        winner=each.winner,
        time=each.time,
        stopped_because=_WHY_IT_ENDED.get(each.stage),
    )
