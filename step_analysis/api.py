"""Comparing policies from Python, on lists, numpy arrays and pandas Series or frames.

    from step_analysis.api import compare_outcomes
    result = compare_outcomes(old, new, method="step", n_max=200)
    result.decision, result.time, result.difference_interval

pandas is not needed: whatever numpy can read as one sequence will do. For folders of rollouts, with
budgets, gaps and errors, see `loading` and `comparison`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from step_analysis.compact_letters import compact_letters
from step_analysis.differences import PairedCounts, newcombe, newcombe_paired
from step_analysis.intervals import DEFAULT_CONFIDENCE, BetaPosterior, Interval, clopper_pearson
from step_analysis.methods import Method, Sides, make_test, per_side
from step_analysis.posterior import probability_better
from step_analysis.progress_scores import (
    DEFAULT_SEED,
    PermutationResult,
    bootstrap_difference,
    checked_scores,
    permutation_test,
)
from step_analysis.sequential.pairwise_test import Decision, outcome_arrays

DEFAULT_ALPHA = 0.05

_PAIRED_METHODS = ("paired", "mcnemar")


@dataclass(frozen=True, kw_only=True)
class OutcomeComparison:
    """Two policies' success on the same number of episodes.

    The verdict keeps its error wherever the test stopped. The rates, intervals and the
    probability are of all episodes given, each for itself: as for any fixed sample, they take no
    account of stopping.
    """

    decision: Decision
    """+1 arm 1 is better, -1 arm 0 is better, 0 undecided."""
    time: int
    """Episodes of each arm that were looked at."""
    test: str
    n_max: int
    alpha_per_side: float
    rates: tuple[float, float]
    rate_intervals: tuple[Interval, Interval]
    """Clopper and Pearson's."""
    difference: float
    """Arm 1's rate minus arm 0's."""
    difference_interval: Interval
    """Newcombe's, for paired episodes where the test is."""
    probability_better: float
    """That arm 1's rate is the higher one, from uniform priors on independent rates."""


@dataclass(frozen=True, kw_only=True)
class PolicyComparison:
    """Several policies, pairwise."""

    letters: Mapping[str, str]
    """Policies that share one are not shown to differ; the best rate first."""
    pairs: Mapping[tuple[str, str], OutcomeComparison]
    """Arm 0 and arm 1, each pair once, in the order given."""


@dataclass(frozen=True, kw_only=True)
class ScoreComparison:
    """Two policies' mean scores in [0, 1], from a number of episodes fixed beforehand."""

    decision: Decision
    permutation: PermutationResult
    means: tuple[float, float]
    difference: float
    difference_interval: Interval
    """By the BCa bootstrap."""


def compare_outcomes(
    outcomes0: ArrayLike,
    outcomes1: ArrayLike,
    *,
    method: Method = "auto",
    n_max: int | None = None,
    alpha: float = DEFAULT_ALPHA,
    sides: Sides = "two",
    confidence: float = DEFAULT_CONFIDENCE,
) -> OutcomeComparison:
    """Compare two sequences of 0 and 1 in the order of the episodes.

    Args:
        n_max: the budget fixed beforehand; the number of outcomes unless given.
        alpha: bound on the chance of a false verdict, for each direction by itself with sides
            "one", both together with "two".

    Raises:
        ValueError: no outcome, unequal lengths, anything but 0 and 1 (NaN among them), or an
            n_max, alpha or confidence out of range.
    """
    given = np.asarray(outcomes0), np.asarray(outcomes1)
    x, y = outcome_arrays(*given, max(given[0].size, given[1].size))
    n = len(x)
    if n == 0:
        raise ValueError("at least one episode of each arm is needed, got none")
    test = make_test(method, n if n_max is None else n_max, per_side(alpha, sides))
    verdict = test.run(x, y)
    successes = int(x.sum()), int(y.sum())
    paired = PairedCounts(
        both=int((x & y).sum()),
        only0=int((x > y).sum()),
        only1=int((y > x).sum()),
        neither=int(((x | y) == 0).sum()),
    )
    is_paired = method in _PAIRED_METHODS
    posteriors = [BetaPosterior(successes=s, num_episodes=n) for s in successes]
    return OutcomeComparison(
        decision=verdict.decision,
        time=verdict.time,
        test=test.name,
        n_max=test.n_max,
        alpha_per_side=test.alpha_per_side,
        rates=(successes[0] / n, successes[1] / n),
        rate_intervals=(
            clopper_pearson(successes[0], n, confidence),
            clopper_pearson(successes[1], n, confidence),
        ),
        difference=(successes[1] - successes[0]) / n,
        difference_interval=(
            newcombe_paired(paired, confidence)
            if is_paired
            else newcombe(successes[0], n, successes[1], n, confidence)
        ),
        probability_better=probability_better(*posteriors),
    )


def compare_policies(
    outcomes: Mapping[str, ArrayLike],
    *,
    method: Method = "auto",
    n_max: int | None = None,
    alpha: float = DEFAULT_ALPHA,
    sides: Sides = "two",
    confidence: float = DEFAULT_CONFIDENCE,
) -> PolicyComparison:
    """Compare several policies pairwise, alpha shared by Bonferroni.

    Args:
        outcomes: by policy, such as a dict of lists or a pandas frame with a column for each.

    Raises:
        ValueError: as `compare_outcomes`.
    """
    per_side(alpha, sides)
    arrays = {str(name): np.asarray(outcomes[name]) for name in outcomes}
    pairs = list(combinations(arrays, 2))
    compared = {
        (a, b): compare_outcomes(
            arrays[a],
            arrays[b],
            method=method,
            n_max=n_max,
            alpha=alpha / len(pairs),
            sides=sides,
            confidence=confidence,
        )
        for a, b in pairs
    }
    rates = {name: float(array.mean()) for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: (-rates[name], name))
    different = [pair for pair, result in compared.items() if result.decision]
    return PolicyComparison(letters=compact_letters(order, different), pairs=compared)


def compare_scores(
    scores0: ArrayLike,
    scores1: ArrayLike,
    *,
    paired: bool = False,
    alpha: float = DEFAULT_ALPHA,
    sides: Sides = "two",
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = DEFAULT_SEED,
) -> ScoreComparison:
    """Compare two sets of scores in [0, 1], such as progress, by a permutation test.

    Args:
        paired: both arms met the same seeds in the same order.

    Raises:
        ValueError: no score, one outside [0, 1] (NaN among them), unequal numbers of paired
            ones, or an alpha or confidence out of range.
    """
    first = checked_scores(np.asarray(scores0), "scores0")
    second = checked_scores(np.asarray(scores1), "scores1")
    level = per_side(alpha, sides)
    result = permutation_test(first, second, paired=paired, seed=seed)
    decision: Decision = 0
    if result.p_arm1_better <= level:
        decision = 1
    elif result.p_arm0_better <= level:
        decision = -1
    return ScoreComparison(
        decision=decision,
        permutation=result,
        means=(float(first.mean()), float(second.mean())),
        difference=float(second.mean() - first.mean()),
        difference_interval=bootstrap_difference(
            first, second, confidence, paired=paired, seed=seed
        ),
    )
