"""The decisions of several pairwise tests that share one alpha."""

from collections.abc import Sequence
from typing import Protocol

from step_analysis.multiplicity import Correction, benjamini_hochberg, holm, holm_levels, nested
from step_analysis.sequential.pairwise_test import Decision, Verdict


class LeveledPair(Protocol):
    """A pair to be tested, at whatever level the correction asks for."""

    def verdict(self, level: float) -> Verdict:
        """Of the mirrored test with this alpha a side, on the outcomes that there are."""
        ...


def decide(
    pairs: Sequence[LeveledPair], alpha_per_side: float, correction: Correction
) -> tuple[list[Decision], float]:
    """Each pair's decision, and the level, an alpha a side, at which all of them stand.

    A pair is two hypotheses, one for each direction, of which at least one is true, so the
    family's alpha, both directions together, goes to twice as many.
    """
    if not pairs:
        return [], alpha_per_side
    if correction == "bonferroni":
        level = alpha_per_side / len(pairs)
        return [pair.verdict(level).decision for pair in pairs], level
    num_hypotheses = 2 * len(pairs)
    alpha = 2.0 * alpha_per_side
    if correction == "holm":
        levels, procedure = holm_levels(num_hypotheses, alpha), holm
    else:
        levels = [alpha * k / num_hypotheses for k in range(1, num_hypotheses + 1)]
        procedure = benjamini_hochberg
    sides: list[tuple[int, Decision]] = [(i, s) for i in range(len(pairs)) for s in (1, -1)]
    rejected = procedure(
        [
            nested(lambda level, p=pairs[i], s=side: p.verdict(level).decision == s, levels)
            for i, side in sides
        ],
        alpha,
    )
    decisions: list[Decision] = [0] * len(pairs)
    for (i, side), is_rejected in zip(sides, rejected, strict=True):
        if is_rejected:
            decisions[i] = side
    num_rejected = sum(rejected)
    # What is rejected at its level is so at each larger one, so all stand at the last one asked.
    if correction == "holm":
        return decisions, alpha / (num_hypotheses - num_rejected)
    return decisions, alpha * max(num_rejected, 1) / num_hypotheses
