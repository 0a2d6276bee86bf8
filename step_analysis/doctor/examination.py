"""The whole examination: every kind of finding, the most severe first."""

from collections.abc import Iterable, Iterator, Sequence

from step_analysis.doctor import design, episodes, order, protocols, stopping
from step_analysis.doctor.tally import named, plural
from step_analysis.findings import Finding, Severity, most_severe_first
from step_analysis.loading import PolicyRollouts
from step_analysis.reading.discovery import LeftOut

DEFAULT_EARLY_S = 1.0
"""A success sooner than this is nobody's doing: at 10 Hz a policy has acted ten times at most."""


def examine(
    policies: Sequence[PolicyRollouts],
    *,
    left_out: Iterable[LeftOut] = (),
    early_s: float = DEFAULT_EARLY_S,
) -> list[Finding]:
    """What is wrong with the rollouts, or worth knowing, most severe first.

    Args:
        left_out: files that were not read, as of `read_rollouts`.
        early_s: successes sooner than this are told of, in simulated seconds.
    """
    return most_severe_first(_findings(policies, tuple(left_out), early_s))


def _findings(
    policies: Sequence[PolicyRollouts], left_out: Sequence[LeftOut], early_s: float
) -> Iterator[Finding]:
    if left_out:
        first = left_out[0]
        yield Finding(
            code="files-left-out",
            severity=Severity.NOTE,
            policy=None,
            task=None,
            count=len(left_out),
            text=(
                f"{plural(len(left_out), 'file')} below the folders not read: "
                f"{named(left.path for left in left_out)}"
            ),
            effect=f"none of it is in any number; {first.path.name}: {first.reason}",
        )
    if not policies:
        return
    yield from protocols.mixed_checkpoints(policies)
    yield from protocols.mixed_protocols(policies)
    for task in sorted({task for policy in policies for task in policy.tasks}):
        yield from design.differing_seeds(policies, task)
        yield from design.budgets_between(policies, task)
        yield from design.unequal_indices(policies, task)
        yield from protocols.differing_time_limits(policies, task)
        yield from episodes.early_successes(policies, task, early_s)
        yield from stopping.stopped_at_a_verdict(policies, task)
    for policy in policies:
        for task in policy.tasks.values():
            yield from episodes.errors_scored_as_failures(policy, task)
            yield from episodes.unresolved_errors(policy, task)
            yield from episodes.missing_episodes(policy, task)
            yield from episodes.duplicates(policy, task)
            yield from design.budgets_within(policy, task)
    yield from design.unequal_tasks(policies)
    yield from design.budgets_over_tasks(policies)
    yield from order.order_effects(policies)
    yield from stopping.uneven_stops(policies)
    yield from stopping.several_runs(policies)
    yield from episodes.unrecorded_durations(policies)
    yield from design.unrecorded_seeds(policies)
    yield from design.unrecorded_budgets(policies)
    yield from protocols.unknown_protocols(policies)
    yield from protocols.conventions(policies)
