"""Findings about how the episodes were run: two protocols or two checkpoints in one comparison."""

import json
from collections.abc import Iterator, Mapping, Sequence

from step_analysis.doctor.tally import named, plural, tally
from step_analysis.findings import Finding, Severity
from step_analysis.loading import PolicyRollouts
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.strict_json import shown

_SOFTWARE_PREFIX = "software."
_SOFTWARE_SUFFIX = ".harness_version"
_LIMIT_TOLERANCE = 0.05


def mixed_checkpoints(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """One name for several checkpoints."""
    for policy in policies:
        if len(policy.digests) > 1:
            yield Finding(
                code="mixed-checkpoints",
                severity=Severity.ERROR,
                policy=policy.policy,
                task=None,
                count=len(policy.digests),
                text=f"one name for several checkpoints: {named(policy.digests)}",
                effect=(
                    f"its numbers ({_overall(policy)}) are of no policy at all; report, letters "
                    "and table refuse them: give each checkpoint a name of its own"
                ),
            )


def mixed_protocols(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Settings that differ between policies, or between the files of one."""
    values: dict[str, dict[str, list[str]]] = {}
    for policy in policies:
        for protocol in policy.protocols:
            for name, value in protocol.settings.items():
                # As JSON, so that 10 and 10.0, or a list and itself, can be compared and shown.
                known = values.setdefault(name, {}).setdefault(json.dumps(value, default=str), [])
                if policy.policy not in known:
                    known.append(policy.policy)
    by_name = {policy.policy: policy for policy in policies}
    for name, by_value in values.items():
        if len(by_value) < 2:
            continue
        concerned = {policy for of_value in by_value.values() for policy in of_value}
        is_software = name.startswith(_SOFTWARE_PREFIX) or name.endswith(_SOFTWARE_SUFFIX)
        yield Finding(
            code="mixed-protocols",
            severity=Severity.WARNING if is_software else Severity.ERROR,
            policy=next(iter(concerned)) if len(concerned) == 1 else None,
            task=None,
            count=len(by_value),
            text=f"{name} differs: "
            + named(f"{shown(value)} ({named(of)})" for value, of in by_value.items()),
            effect=_effect(by_value, by_name, concerned),
        )


def differing_time_limits(policies: Sequence[PolicyRollouts], task: str) -> Iterator[Finding]:
    """Policies that were given different times for one task, by when they ran out of it."""
    limits: dict[str, float] = {}
    for policy in policies:
        durations = [
            record.duration_s
            for record in (policy.tasks[task].counted if task in policy.tasks else [])
            if record.outcome is Outcome.TIMEOUT and record.duration_s
        ]
        if durations:
            limits[policy.policy] = max(durations)
    if len(limits) < 2 or max(limits.values()) <= (1 + _LIMIT_TOLERANCE) * min(limits.values()):
        return
    shortest = min(limits.values())
    rates = []
    for policy in policies:
        if policy.policy in limits:
            counted = policy.tasks[task].counted
            late = [r for r in counted if r.outcome is Outcome.SUCCESS and _ends_after(r, shortest)]
            within = tally(counted)
            within = within._replace(successes=within.successes - len(late))
            rates.append(f"{policy.policy} {tally(counted)}, {within} within {shortest:g} s")
    yield Finding(
        code="time-limits-differ",
        severity=Severity.ERROR,
        policy=None,
        task=task,
        count=len(limits),
        text="episodes ran out of time after different times: "
        + named(f"{name} {limit:g} s" for name, limit in limits.items()),
        effect="; ".join(rates[:4]),
        numbers={"shortest_s": shortest, "longest_s": max(limits.values())},
    )


def unknown_protocols(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Policies whose files do not say how, or with which checkpoint, the episodes were run."""
    unknown = [policy.policy for policy in policies if not policy.protocols]
    if unknown:
        yield Finding(
            code="protocol-unknown",
            severity=Severity.NOTE,
            policy=unknown[0] if len(unknown) == 1 else None,
            task=None,
            count=len(unknown),
            text=(
                f"the files do not say with which checkpoint, seeds, station and software: "
                f"{named(unknown)}"
            ),
            effect="that the policies were run alike can't be checked",
        )


def conventions(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """What was read by convention rather than because a file says so."""
    remarks: dict[str, list[str]] = {}
    for policy in policies:
        for remark in policy.remarks:
            remarks.setdefault(remark, []).append(policy.policy)
    for remark, concerned in remarks.items():
        yield Finding(
            code="read-by-convention",
            severity=Severity.NOTE,
            policy=concerned[0] if len(concerned) == 1 else None,
            task=None,
            count=len(concerned),
            text=remark,
            effect=f"concerns {plural(len(concerned), 'policy')}",
        )


def _effect(
    by_value: Mapping[str, Sequence[str]],
    by_name: Mapping[str, PolicyRollouts],
    concerned: set[str],
) -> str:
    if len(concerned) == 1:
        name = next(iter(concerned))
        return f"{_overall(by_name[name])} mixes episodes that were run differently"
    rates = named(
        f"{shown(value)}: " + named(f"{name} {_overall(by_name[name])}" for name in names)
        for value, names in by_value.items()
    )
    return f"a difference between these may be the setting's: {rates}"


def _overall(policy: PolicyRollouts) -> str:
    return str(tally(record for task in policy.tasks.values() for record in task.counted))


def _ends_after(record: RolloutRecord, limit_s: float) -> bool:
    return record.duration_s is not None and record.duration_s > limit_s
