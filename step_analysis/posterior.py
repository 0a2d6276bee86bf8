"""How probable it is, given both posteriors, that one policy's success rate exceeds another's."""

import numpy as np

from step_analysis import special
from step_analysis.intervals import BetaPosterior


def probability_better(posterior0: BetaPosterior, posterior1: BetaPosterior) -> float:
    """P(p1 > p0) for independent Beta posteriors with whole parameters: an exact finite sum.

    The chance that Beta(a1, b1) exceeds p is a binomial tail, a sum over i < a1; integrated over
    p ~ Beta(a0, b0) its terms are ratios of Beta functions. All are positive, so nothing cancels.
    """
    # Of the four sums that the symmetries p -> 1 - p and 0 <-> 1 allow, the shortest.
    (a0, b0), (a1, b1) = (posterior0.a, posterior0.b), (posterior1.a, posterior1.b)
    shortest = min(a0, b0, a1, b1)
    if shortest == a1:
        return _exceeds(a0, b0, a1, b1)
    if shortest == b0:
        return _exceeds(b1, a1, b0, a0)
    if shortest == a0:
        return 1.0 - _exceeds(a1, b1, a0, b0)
    return 1.0 - _exceeds(b0, a0, b1, a1)


def _exceeds(a: int, b: int, a_better: int, b_better: int) -> float:
    """P(Beta(a_better, b_better) > Beta(a, b))."""
    i = np.arange(a_better)
    terms = (
        special.betaln(a + i, b + b_better)
        - np.log(b_better + i)
        - special.betaln(1 + i, b_better)
        - special.betaln(a, b)
    )
    # Shifted by the largest, so that none overflows; SciPy's logsumexp takes longer than the rest.
    largest = terms.max()
    return float(min(np.exp(largest) * np.exp(terms - largest).sum(), 1.0))
