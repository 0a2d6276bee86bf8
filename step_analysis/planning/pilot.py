"""What a pilot tells a plan: how often two policies part on one seed, and what an episode takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from step_analysis.intervals import Interval, clopper_pearson
from step_analysis.loading import PolicyRollouts
from step_analysis.rollouts import Outcome


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """Two policies on the same scenarios, all tasks pooled."""

    policy0: str
    policy1: str
    num_pairs: int
    """Scenarios that both have finished."""
    only0: int
    """Of them, those in which only policy 0 succeeded."""
    only1: int

    @property
    def discordance(self) -> float:
        """The share of scenarios in which exactly one succeeded."""
        return (self.only0 + self.only1) / self.num_pairs

    def discordance_interval(self, confidence: float = 0.95) -> Interval:
        """Clopper-Pearson's."""
        return clopper_pearson(self.only0 + self.only1, self.num_pairs, confidence)


def pilot_of(policies: Sequence[PolicyRollouts]) -> Pilot:
    """The pilot in some rollouts.

    Raises:
        ValueError: not two policies, or no scenario that both have finished.
    """
    if len(policies) != 2:
        names = ", ".join(policy.policy for policy in policies) or "none"
        raise ValueError(f"a pilot is of two policies, got {names}")
    first, second = policies
    pairs: list[tuple[bool, bool]] = []
    for task in first.tasks.keys() & second.tasks.keys():
        outcomes0, outcomes1 = first.tasks[task].outcomes, second.tasks[task].outcomes
        for index in outcomes0.keys() & outcomes1.keys():
            records = outcomes0[index], outcomes1[index]
            if all(record.outcome.counts for record in records):
                success0, success1 = (r.outcome is Outcome.SUCCESS for r in records)
                pairs.append((success0, success1))
    if not pairs:
        raise ValueError(
            f"{first.policy} and {second.policy} have finished no scenario in common: a pilot "
            "runs both on the same seeds"
        )
    return Pilot(
        policy0=first.policy,
        policy1=second.policy,
        num_pairs=len(pairs),
        only0=sum(success0 and not success1 for success0, success1 in pairs),
        only1=sum(success1 and not success0 for success0, success1 in pairs),
    )


def seconds_per_episode(policies: Sequence[PolicyRollouts]) -> float | None:
    """Mean real time of a counted episode; None where none says how long it took."""
    times = [
        record.wall_s
        for policy in policies
        for task in policy.tasks.values()
        for record in task.counted
        if record.wall_s is not None
    ]
    return fmean(times) if times else None
