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
    """The rollouts without those that no verdict rests on, errors among them; see `waited_for`."""
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


def waited_for(
    study: Study, policies: Sequence[PolicyRollouts]
) -> dict[ComparisonStanding, tuple[RolloutRecord, ...]]:
    """The errors that open comparisons would have to read next: other attempts must settle them."""
    shown = {policy.policy: policy.tasks for policy in policies}
    found = {}
    for each in study.standing().open:
        # Exactly one task has an episode more among one more in the order of comparing.
        places = {task: num_episodes(each.tasks, task, each.time) for task in each.tasks}
        (task,) = (t for t, n in places.items() if num_episodes(each.tasks, t, each.time + 1) > n)
        index = study.design.first_episode + places[task]
        outcomes = [shown[arm][task].outcomes for arm in each.arms if task in shown.get(arm, {})]
        errors = [own[index] for own in outcomes if index in own and not own[index].outcome.counts]
        if errors:
            found[each] = tuple(errors)
    return found


def up_to_errors(study: Study, policies: Sequence[PolicyRollouts]) -> tuple[PolicyRollouts, ...]:
    """Of what ends in an error that is waited for, the rollouts up to it."""
    waiting = {r.key: r for records in waited_for(study, policies).values() for r in records}
    cells = {(key.policy, key.task): key.scenario_index for key in waiting}
    first = study.design.first_episode
    return tuple(
        replace(
            policy,
            tasks={
                name: _begun(study, rollouts, cells[policy.policy, name] + 1 - first)
                for name, rollouts in policy.tasks.items()
                if (policy.policy, name) in cells
            },
        )
        for policy in policies
    )


def why_waiting(errors: Sequence[RolloutRecord]) -> str:
    """Why a comparison is open that would have to read these next."""
    return " and ".join(
        f"{error.policy} met an error in {error.task} scenario {error.scenario_index}"
        for error in errors
    )


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
    reasons = {each: why_waiting(errors) for each, errors in waited_for(study, policies).items()}
    policies = cut_off(study, policies)
    panels = [_panel(study, policies, (task,), reasons) for task in design.tasks]
    has_overall = len(design.tasks) > 1 and design.tasks in design.panels
    aggregate = _panel(study, policies, design.tasks, reasons) if has_overall else None
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


def _panel(
    study: Study,
    policies: Sequence[PolicyRollouts],
    tasks: tuple[str, ...],
    reasons: Mapping[ComparisonStanding, str],
) -> Panel:
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
        pairs=tuple(
            _pair(comparisons[each.arms], each, reasons.get(each) or _WHY_IT_ENDED.get(each.stage))
            for each in standings
        ),
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


def _pair(
    comparison: PairComparison, each: ComparisonStanding, stopped_because: str | None
) -> PairResult:
    outcomes0, outcomes1 = (arm[: each.time] for arm in comparison.outcomes)
    return PairResult(
        arm0=each.arm0,
        arm1=each.arm1,
        test=comparison.test(each.alpha_per_side),
        outcomes0=tuple(outcomes0.tolist()),
        outcomes1=tuple(outcomes1.tolist()),
        winner=each.winner,
        time=each.time,
        stopped_because=stopped_because,
    )
