"""The decisions of several pairwise tests that share one alpha."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from step_analysis.multiplicity import (
    Correction,
    LevelTime,
    benjamini_hochberg,
    holm_falls,
    holm_levels,
    nested,
)
from step_analysis.sequential.pairwise_test import Decision, Verdict

_LARGEST_LEVEL = math.nextafter(0.5, 0.0)


class LeveledPair(Protocol):
    """A pair to be tested, at whatever level the correction asks for."""

    n_max: int
    """The budget of its test, episodes of each."""

    def verdict(self, level: float) -> Verdict:
        """Of the mirrored test with this alpha a side, on the outcomes that there are."""
        ...


@dataclass(frozen=True, kw_only=True)
class PairDecision:
    """What a correction says of one pair.

    level: alpha a side at which it fell; of an undecided pair that at which it was last asked.
    time: episodes of each that the decision rests on; None if undecided, which takes them all. Each
    pair's outcomes up to here are enough for all decisions, their levels and their times.
    """

    decision: Decision
    level: float
    time: int | None


def decide(
    pairs: Sequence[LeveledPair], alpha_per_side: float, correction: Correction
) -> list[PairDecision]:
    """Each pair's decision.

    A pair is two hypotheses, one for each direction, of which at least one is true, so the
    family's alpha, both directions together, goes to twice as many.
    """
    if not pairs:
        return []
    if correction == "bonferroni":
        return [alone(pair, alpha_per_side / len(pairs)) for pair in pairs]
    alpha = 2.0 * alpha_per_side
    num_hypotheses = 2 * len(pairs)
    if correction == "holm":
        levels = holm_levels(num_hypotheses, alpha)
    else:
        levels = [alpha * k / num_hypotheses for k in range(1, num_hypotheses + 1)]
    sides: list[tuple[int, Decision]] = [(i, s) for i in range(len(pairs)) for s in (1, -1)]
    times = [nested(_time(pairs[i], side), levels) for i, side in sides]
    if correction == "holm":
        # Tests of different budgets are read in step: which is the earlier is a share of each.
        shares = [
            lambda level, time=time, n_max=pairs[i].n_max: time(level) / n_max
            for time, (i, _) in zip(times, sides, strict=True)
        ]
        fell = holm_falls(shares, alpha)
        last = alpha / max(fell.count(None), 1)
    else:
        rejected = benjamini_hochberg(
            [lambda level, time=time: math.isfinite(time(level)) for time in times], alpha
        )
        last = alpha * max(sum(rejected), 1) / num_hypotheses
        fell = [last if is_rejected else None for is_rejected in rejected]
    decisions = [PairDecision(decision=0, level=_asked(last), time=None)] * len(pairs)
    for (i, side), time, level in zip(sides, times, fell, strict=True):
        if level is not None:
            decisions[i] = PairDecision(decision=side, level=_asked(level), time=int(time(level)))
    return decisions


def alone(pair: LeveledPair, level: float) -> PairDecision:
    """Of a pair whose level does not depend on others."""
    verdict = pair.verdict(level)
    time = verdict.time if verdict.decision else None
    return PairDecision(decision=verdict.decision, level=level, time=time)


def _asked(level: float) -> float:
    """Where a procedure would ask at 1/2 or more a side, at which there is no test, it asks below:
    that is more reluctant, so as valid."""
    return min(level, _LARGEST_LEVEL)


def _time(pair: LeveledPair, side: Decision) -> LevelTime:
    """When its test decides for this side, in episodes of each."""

    def time(level: float) -> float:
        verdict = pair.verdict(_asked(level))
        return verdict.time if verdict.decision == side else math.inf

    return time
