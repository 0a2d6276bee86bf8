"""Findings about what was asked of the policies: scenarios, budgets, tasks and seeds."""

from collections.abc import Iterator, Mapping, Sequence

from step_analysis.doctor.tally import Tally, named, plural, tally
from step_analysis.findings import Finding, Severity
from step_analysis.loading import PolicyRollouts, TaskRollouts


def unequal_indices(policies: Sequence[PolicyRollouts], task: str) -> Iterator[Finding]:
    """Scenarios that some policies were asked for and others were not."""
    arms = _arms(policies, task)
    asked = [set(rollouts.requested) for rollouts in arms.values()]
    everywhere = set.intersection(*asked)
    somewhere = set.union(*asked)
    if everywhere == somewhere:
        return
    rates = "; ".join(
        f"{name} {tally(rollouts.counted)}, on the common ones "
        f"{tally(r for i, r in rollouts.outcomes.items() if i in everywhere)}"
        for name, rollouts in list(arms.items())[:4]
    )
    yield Finding(
        code="unequal-indices",
        severity=Severity.WARNING,
        policy=None,
        task=task,
        count=len(somewhere - everywhere),
        text=(
            f"{plural(len(somewhere - everywhere), 'scenario')} of {len(somewhere)} not asked of "
            f"all {len(arms)} policies: {named(sorted(somewhere - everywhere))}"
        ),
        effect=f"a pair is tested on the scenarios that both have: {rates}",
        numbers={"num_common": len(everywhere), "num_all": len(somewhere)},
    )


def differing_seeds(policies: Sequence[PolicyRollouts], task: str) -> Iterator[Finding]:
    """Scenarios that have one number and not one seed."""
    arms = _arms(policies, task)
    seeds: dict[int, dict[int, str]] = {}
    for name, rollouts in arms.items():
        for index, record in rollouts.outcomes.items():
            if record.seed is not None:
                seeds.setdefault(index, {}).setdefault(record.seed, name)
    different = sorted(index for index, of_index in seeds.items() if len(of_index) > 1)
    if not different:
        return
    example = ", ".join(f"{seed} for {name}" for seed, name in seeds[different[0]].items())
    yield Finding(
        code="differing-seeds",
        severity=Severity.ERROR,
        policy=None,
        task=task,
        count=len(different),
        text=(
            f"{plural(len(different), 'scenario')} with different seeds for different policies: "
            f"scenario {different[0]} has seed {example}"
        ),
        effect=(
            "the policies met different scenes, or even demonstrations' ones; a paired test would "
            "be wrong, the others compare "
            + "; ".join(f"{name} {tally(r.counted)}" for name, r in list(arms.items())[:4])
        ),
    )


def unrecorded_seeds(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Of several policies those whose files do not keep the seeds of a task."""
    without = {
        policy.policy: num_tasks
        for policy in policies
        if (
            num_tasks := sum(
                bool(task.outcomes) and all(r.seed is None for r in task.outcomes.values())
                for task in policy.tasks.values()
            )
        )
    }
    if without and len(policies) > 1:
        yield Finding(
            code="seeds-not-recorded",
            severity=Severity.NOTE,
            policy=next(iter(without)) if len(without) == 1 else None,
            task=None,
            count=sum(without.values()),
            text="the files do not keep seeds: "
            + named(f"{name} on {plural(num, 'task')}" for name, num in without.items()),
            effect=(
                "scenarios of one number are taken for the same scene; that they were can't be "
                "checked"
            ),
        )


def budgets_within(policy: PolicyRollouts, task: TaskRollouts) -> Iterator[Finding]:
    """A budget that changed, was exceeded, or was never written down."""
    budgets = [run.budget for run in task.runs if run.budget is not None]
    if len(set(budgets)) > 1:
        has_grown = max(budgets) > budgets[0]
        yield Finding(
            code="budget-grew" if has_grown else "budget-changed",
            severity=Severity.ERROR if has_grown else Severity.WARNING,
            policy=policy.policy,
            task=task.task,
            count=len(set(budgets)),
            text=(
                f"the budget changed from file to file: {named(budgets)}; it is fixed once, "
                "before the first episode"
            ),
            effect=(
                f"the smallest, {task.max_sample_size}, holds: {_within_budget(task)} within it, "
                f"{tally(task.counted)} over all"
            ),
            numbers={"smallest": min(budgets), "largest": max(budgets)},
        )
    if task.budget_is_recorded and len(task.counted) > task.max_sample_size:
        yield Finding(
            code="over-budget",
            severity=Severity.ERROR,
            policy=policy.policy,
            task=task.task,
            count=len(task.counted) - task.max_sample_size,
            text=(
                f"{len(task.counted)} episodes, more than the budget of {task.max_sample_size} "
                "fixed beforehand"
            ),
            effect=(
                f"only the first {task.max_sample_size} are tested: {_within_budget(task)}; "
                f"{tally(task.counted)} over all"
            ),
            numbers={
                "rate_within_budget": _within_budget(task).rate,
                "rate": tally(task.counted).rate,
            },
        )


def budgets_between(policies: Sequence[PolicyRollouts], task: str) -> Iterator[Finding]:
    """Policies with different budgets on one task."""
    arms = {n: r for n, r in _arms(policies, task).items() if r.budget_is_recorded}
    budgets = {name: rollouts.max_sample_size for name, rollouts in arms.items()}
    if len(set(budgets.values())) < 2:
        return
    smallest = min(budgets.values())
    rates = "; ".join(
        f"{name} {tally(rollouts.counted)}, {_first(rollouts, smallest)} of its first {smallest}"
        for name, rollouts in arms.items()
        if rollouts.max_sample_size > smallest
    )
    yield Finding(
        code="budgets-differ",
        severity=Severity.WARNING,
        policy=None,
        task=task,
        count=len(set(budgets.values())),
        text=f"budgets differ: {named(f'{n} {b}' for n, b in budgets.items())}",
        effect=f"a pair is tested up to the smaller budget: {rates}",
        numbers={"smallest": smallest, "largest": max(budgets.values())},
    )


def budgets_over_tasks(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """A policy with different budgets on different tasks."""
    for policy in policies:
        budgets = {n: t.max_sample_size for n, t in policy.tasks.items() if t.budget_is_recorded}
        if len(set(budgets.values())) < 2:
            continue
        smallest = min(budgets.values())
        every = tally(r for task in policy.tasks.values() for r in task.counted)
        first = [_first(policy.tasks[task], smallest) for task in budgets]
        within = Tally(sum(t.successes for t in first), sum(t.num_counted for t in first))
        yield Finding(
            code="budgets-differ",
            severity=Severity.WARNING,
            policy=policy.policy,
            task=None,
            count=len(set(budgets.values())),
            text=f"budgets differ between tasks: {named(f'{n} {b}' for n, b in budgets.items())}",
            effect=(
                f"the aggregate is tested up to the smallest, {smallest}, on each task: {within} "
                f"within it, {every} over all"
            ),
            numbers={"rate_within": within.rate, "rate": every.rate},
        )


def unrecorded_budgets(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Policies of which no file says how many episodes were planned."""
    without = {
        policy.policy: max(
            task.max_sample_size for task in policy.tasks.values() if not task.budget_is_recorded
        )
        for policy in policies
        if any(not task.budget_is_recorded for task in policy.tasks.values())
    }
    if without:
        yield Finding(
            code="budget-not-recorded",
            severity=Severity.NOTE,
            policy=next(iter(without)) if len(without) == 1 else None,
            task=None,
            count=len(without),
            text=f"no budget recorded for {plural(len(without), 'policy')}: {named(without)}",
            effect=(
                "the number of episodes asked for stands in "
                f"({named(f'{n} {b}' for n, b in without.items())}); a sequential verdict holds "
                "only if that number was fixed before the first episode"
            ),
        )


def unequal_tasks(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """An overall rate over tasks that not all policies have, or that weigh differently."""
    tasks = [set(policy.tasks) for policy in policies]
    common, every = set.intersection(*tasks), set.union(*tasks)
    if common != every:
        rates = "; ".join(
            f"{policy.policy} {_mean_rate(policy, policy.tasks):.1%} over its own"
            + (f", {_mean_rate(policy, common):.1%} over the common" if common else "")
            for policy in policies[:4]
        )
        effect = f"the aggregate is over the {plural(len(common), 'common task')}"
        if not common:
            effect = "no task is common to all, so there is no aggregate"
        yield Finding(
            code="unequal-tasks",
            severity=Severity.WARNING,
            policy=None,
            task=None,
            count=len(every - common),
            text=(
                f"{plural(len(every - common), 'task')} of {len(every)} not run by all "
                f"{len(policies)} policies: {named(sorted(every - common))}"
            ),
            effect=f"{effect}: {rates}",
            numbers={"num_common": len(common), "num_all": len(every)},
        )
    for policy in policies:
        counts = {name: len(task.requested) for name, task in policy.tasks.items()}
        if len(set(counts.values())) < 2:
            continue
        pooled = tally(record for task in policy.tasks.values() for record in task.counted)
        yield Finding(
            code="unequal-task-weights",
            severity=Severity.WARNING,
            policy=policy.policy,
            task=None,
            count=len(set(counts.values())),
            text=(f"between {min(counts.values())} and {max(counts.values())} episodes for a task"),
            effect=(
                f"pooling all episodes gives {pooled}, equal weights for the tasks "
                f"{_mean_rate(policy, policy.tasks):.1%}"
            ),
            numbers={
                "pooled_rate": pooled.rate,
                "equal_weight_rate": _mean_rate(policy, policy.tasks),
            },
        )


def _arms(policies: Sequence[PolicyRollouts], task: str) -> Mapping[str, TaskRollouts]:
    return {policy.policy: policy.tasks[task] for policy in policies if task in policy.tasks}


def _within_budget(task: TaskRollouts) -> Tally:
    return _first(task, task.max_sample_size)


def _first(task: TaskRollouts, num_episodes: int) -> Tally:
    """Of the first so many scenarios asked for."""
    return tally(
        task.outcomes[index] for index in task.requested[:num_episodes] if index in task.outcomes
    )


def _mean_rate(policy: PolicyRollouts, tasks: Mapping[str, object] | set[str]) -> float:
    """Each task with equal weight; tasks without a counted episode are left out."""
    rates = [tally(policy.tasks[task].counted) for task in tasks if policy.tasks[task].counted]
    return sum(rate.rate for rate in rates) / len(rates) if rates else 0.0
