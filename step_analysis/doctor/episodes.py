"""Findings about the episodes of one policy on one task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from step_analysis.doctor.tally import messages, named, plural, tally
from step_analysis.findings import Finding, Severity
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome, RolloutRecord


def errors_scored_as_failures(policy: PolicyRollouts, task: TaskRollouts) -> Iterator[Finding]:
    """Faults of the infrastructure that the file counts against the policy."""
    scored = [task.outcomes[index] for index in sorted(task.scored_as_failure)]
    if not scored:
        return
    others = [r for i, r in task.outcomes.items() if i not in task.scored_as_failure]
    without = tally(others)
    as_failures = tally([*others, *(replace(r, outcome=Outcome.FAILURE) for r in scored)])
    if scored[0].outcome.counts:
        effect = f"they count as failures, as was asked for: {as_failures}; without them {without}"
    else:
        effect = f"they count for nothing: {without}; counted as failures it is {as_failures}"
        stop = _where_tests_stop(task)
        effect += f"{stop}, unless they are counted with --count-errors-as-failures" if stop else ""
    yield Finding(
        code="errors-counted-as-failures",
        severity=Severity.WARNING,
        policy=policy.policy,
        task=task.task,
        count=len(scored),
        text=(
            f"{plural(len(scored), 'episode')} scored as failure but stopped by the "
            f"infrastructure: {messages(scored)}"
        ),
        effect=effect,
        numbers={"rate_without": without.rate, "rate_counted_as_failures": as_failures.rate},
    )


def unresolved_errors(policy: PolicyRollouts, task: TaskRollouts) -> Iterator[Finding]:
    """Errors that no later attempt has settled."""
    errors = [r for r in task.errors if r.scenario_index not in task.scored_as_failure]
    if not errors:
        return
    counted = tally(task.counted)
    lowest = counted._replace(num_counted=counted.num_counted + len(errors))
    highest = lowest._replace(successes=lowest.successes + len(errors))
    yield Finding(
        code="unresolved-errors",
        severity=Severity.WARNING,
        policy=policy.policy,
        task=task.task,
        count=len(errors),
        text=f"{plural(len(errors), 'episode')} ended in an error: {messages(errors)}",
        effect=(
            f"{counted} without them; {lowest} had all failed, {highest} had all succeeded"
            f"{_where_tests_stop(task)}"
        ),
        numbers={"rate": counted.rate, "lowest_rate": lowest.rate, "highest_rate": highest.rate},
    )


def missing_episodes(policy: PolicyRollouts, task: TaskRollouts) -> Iterator[Finding]:
    """Episodes asked for and not done, and scenarios left out of the range."""
    counted = tally(task.counted)
    pending = [index for index in task.requested if index not in task.outcomes]
    if pending:
        lowest = counted._replace(num_counted=counted.num_counted + len(pending))
        highest = lowest._replace(successes=lowest.successes + len(pending))
        yield Finding(
            code="missing-episodes",
            severity=Severity.WARNING,
            policy=policy.policy,
            task=task.task,
            count=len(pending),
            text=(
                f"{len(pending)} of {plural(len(task.requested), 'episode')} asked for not done: "
                f"scenario {named(pending)}"
            ),
            effect=(
                f"{counted} so far, between {lowest.rate:.1%} and {highest.rate:.1%} when all are "
                f"done{_where_tests_stop(task)}"
            ),
            numbers={
                "rate": counted.rate,
                "lowest_rate": lowest.rate,
                "highest_rate": highest.rate,
            },
        )
    asked = set(task.requested)
    num_gaps = max(asked) - min(asked) + 1 - len(asked) if asked else 0
    # Where most of the range is not there, the indices are seeds or the like.
    if 0 < num_gaps < len(asked):
        gaps = []
        for before, after in zip(task.requested, task.requested[1:], strict=False):
            gaps += [str(before + 1)] if after - before == 2 else []
            gaps += [f"{before + 1} to {after - 1}"] if after - before > 2 else []
        lowest = counted._replace(num_counted=counted.num_counted + num_gaps)
        highest = lowest._replace(successes=lowest.successes + num_gaps)
        yield Finding(
            code="gaps-in-scenarios",
            severity=Severity.WARNING,
            policy=policy.policy,
            task=task.task,
            count=num_gaps,
            text=(
                f"{plural(num_gaps, 'scenario')} between {min(asked)} and {max(asked)} neither "
                f"done nor announced: {named(gaps)}"
            ),
            effect=(
                f"{counted}; if they were dropped after the fact, between {lowest.rate:.1%} and "
                f"{highest.rate:.1%}"
            ),
            numbers={
                "rate": counted.rate,
                "lowest_rate": lowest.rate,
                "highest_rate": highest.rate,
            },
        )


def duplicates(policy: PolicyRollouts, task: TaskRollouts) -> Iterator[Finding]:
    """Episodes with two outcomes, equal or not."""
    first = tally(task.counted)
    contradicting = [repeat for repeat in task.repeats if repeat.contradicts]
    if contradicting:
        last = dict(task.outcomes)
        for repeat in task.repeats:
            last[repeat.ignored.scenario_index] = repeat.ignored
        later = tally(last.values())
        indices = sorted({repeat.kept.scenario_index for repeat in contradicting})
        yield Finding(
            code="contradicting-duplicates",
            severity=Severity.ERROR,
            policy=policy.policy,
            task=task.task,
            count=len(indices),
            text=(
                f"{plural(len(indices), 'episode')} with two different outcomes: scenario "
                f"{named(indices)}; the later one is in {contradicting[0].source}"
            ),
            effect=f"the first record decides: {first}; with the last it is {later}",
            numbers={"rate_first": first.rate, "rate_last": later.rate},
        )
    equal = sorted({r.kept.scenario_index for r in task.repeats if not r.contradicts})
    if equal:
        is_copied = all(repeat.kept == repeat.ignored for repeat in task.repeats)
        counted_twice = tally([*task.counted, *(repeat.ignored for repeat in task.repeats)])
        yield Finding(
            code="duplicates",
            severity=Severity.NOTE if is_copied else Severity.WARNING,
            policy=policy.policy,
            task=task.task,
            count=len(equal),
            text=(
                f"{plural(len(equal), 'episode')} recorded more than once with the same outcome: "
                f"scenario {named(equal)}"
            ),
            effect=f"each counts once: {first}; counted each time it is {counted_twice}",
            numbers={"rate_once": first.rate, "rate_each_time": counted_twice.rate},
        )


def early_successes(
    policies: Sequence[PolicyRollouts], task: str, early_s: float
) -> Iterator[Finding]:
    """Successes before the policy acted, or too soon after for it to have caused them."""
    arms = {policy.policy: policy.tasks[task] for policy in policies if task in policy.tasks}
    early = {name: _early(rollouts, early_s) for name, rollouts in arms.items()}
    shared = set.intersection(*early.values()) if len(early) > 1 else set()
    for name, rollouts in arms.items():
        at_once = {i for i in early[name] if _is_at_start(rollouts.outcomes[i])}
        yield from _early_finding(name, rollouts, at_once, early, shared, early_s=None)
        soon = early[name] - at_once
        yield from _early_finding(name, rollouts, soon, early, shared, early_s=early_s)


def unrecorded_durations(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Policies whose files keep no time of any episode, or say 0 for each."""
    without = {
        policy.policy: num_tasks
        for policy in policies
        if (num_tasks := sum(_has_no_durations(task) for task in policy.tasks.values()))
    }
    if without:
        yield Finding(
            code="durations-not-recorded",
            severity=Severity.NOTE,
            policy=next(iter(without)) if len(without) == 1 else None,
            task=None,
            count=sum(without.values()),
            text=(
                "the files do not keep how long an episode took, or say 0 for each: "
                + named(f"{name} on {plural(num, 'task')}" for name, num in without.items())
            ),
            effect="successes before the policy's first action can't be found there",
        )


def _has_no_durations(rollouts: TaskRollouts) -> bool:
    """Whether no time was kept: none at all, or as VLA Foundry's LBM models 0 in each episode."""
    records = rollouts.outcomes.values()
    if rollouts.counted and all(
        record.duration_s is None and record.num_control_steps is None
        for record in rollouts.counted
    ):
        return True
    return (
        len(records) > 1
        and all(record.duration_s == 0.0 and record.num_control_steps is None for record in records)
        and any(record.outcome is not Outcome.SUCCESS for record in records)
    )


def _early_finding(
    policy: str,
    rollouts: TaskRollouts,
    indices: set[int],
    early: Mapping[str, set[int]],
    shared: set[int],
    *,
    early_s: float | None,
) -> Iterator[Finding]:
    if not indices:
        return
    with_them = tally(rollouts.counted)
    without = tally(r for i, r in rollouts.outcomes.items() if i not in indices)
    when = "before the policy's first action" if early_s is None else f"within {early_s:g} s"
    text = f"{plural(len(indices), 'success')} {when}: scenario {named(sorted(indices))}"
    num_shared = len(indices & shared)
    if num_shared:
        text += f"; {num_shared} of them so for all {len(early)} policies: the scene was solved"
    yield Finding(
        code="success-before-action" if early_s is None else "early-success",
        severity=Severity.ERROR if early_s is None else Severity.WARNING,
        policy=policy,
        task=rollouts.task,
        count=len(indices),
        text=text,
        effect=f"{with_them} with them, {without} without",
        numbers={"rate_with": with_them.rate, "rate_without": without.rate},
    )


def _early(rollouts: TaskRollouts, early_s: float) -> set[int]:
    if _has_no_durations(rollouts):
        return set()
    return {
        index
        for index, record in rollouts.outcomes.items()
        if record.outcome is Outcome.SUCCESS
        and (
            _is_at_start(record) or (record.duration_s is not None and record.duration_s < early_s)
        )
    }


def _is_at_start(record: RolloutRecord) -> bool:
    return record.duration_s == 0.0 or record.num_control_steps == 0


def _where_tests_stop(task: TaskRollouts) -> str:
    """Up to where tests can look, as the end of a sentence; empty if that is everything."""
    for position, index in enumerate(task.requested):
        record = task.outcomes.get(index)
        if record is None or not record.outcome.counts:
            return f"; tests see the {plural(position, 'episode')} before scenario {index}"
    return ""
