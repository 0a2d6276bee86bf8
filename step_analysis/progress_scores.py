"""Mean progress in [0, 1] instead of success: bootstrap intervals and permutation tests.

A score says how far an episode came, so outcomes are no longer 0 and 1 and the counting methods
do not apply. Both methods here fix no law for the scores; both are for a number of episodes fixed
beforehand. For looking early see the confidence sequences of `sequential.confidence_sequence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from step_analysis import special
from step_analysis.intervals import DEFAULT_CONFIDENCE, Interval, check_confidence
from step_analysis.permutation_law import FlipLaw, PermutationLaw, SplitLaw

DEFAULT_SEED = 20250613
DEFAULT_NUM_RESAMPLES = 10_000

_NO_SPREAD = 1e-12
"""Means that differ by less are equal but for rounding."""
_BLOCK_ELEMENTS = 2_000_000
"""Resamples are drawn in blocks of about this many scores."""


@dataclass(frozen=True, kw_only=True)
class PermutationResult:
    """p-values of a permutation test of equal mean scores.

    `is_exact` says whether all arrangements were counted; otherwise `num_resamples` random ones
    were, and the observed one with them, so that the test is valid, only coarser.
    """

    p_arm1_better: float
    p_arm0_better: float
    is_exact: bool
    num_resamples: int

    @property
    def p_two_sided(self) -> float:
        """Twice the smaller one, at most 1."""
        return min(2.0 * min(self.p_arm1_better, self.p_arm0_better), 1.0)


def bootstrap_mean(
    scores: Sequence[float] | np.ndarray,
    confidence: float = DEFAULT_CONFIDENCE,
    *,
    seed: int = DEFAULT_SEED,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
) -> Interval:
    """The BCa bootstrap interval of the mean score (Efron, JASA 82, 1987).

    Scores that are all equal give that point: the bootstrap knows only the values it has seen.

    Raises:
        ValueError: no score, one outside [0, 1], or a confidence outside (0, 1).
    """
    values = checked_scores(scores, "scores")
    check_confidence(confidence)
    rng = np.random.default_rng(seed)
    resampled = _resampled_means(values, num_resamples, rng)
    return _bca(values.mean(), resampled, (values,), confidence)


def bootstrap_difference(
    scores0: Sequence[float] | np.ndarray,
    scores1: Sequence[float] | np.ndarray,
    confidence: float = DEFAULT_CONFIDENCE,
    *,
    paired: bool = False,
    seed: int = DEFAULT_SEED,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
) -> Interval:
    """The BCa bootstrap interval of arm 1's mean score minus arm 0's.

    Args:
        paired: both arms met the same seeds in the same order; pairs are then drawn together.

    Raises:
        ValueError: no score, one outside [0, 1], a confidence outside (0, 1), or paired scores of
            unequal numbers.
    """
    first, second = checked_scores(scores0, "scores0"), checked_scores(scores1, "scores1")
    check_confidence(confidence)
    rng = np.random.default_rng(seed)
    if paired:
        differences = _paired_differences(first, second)
        resampled = _resampled_means(differences, num_resamples, rng)
        return _bca(differences.mean(), resampled, (differences,), confidence)
    estimate = second.mean() - first.mean()
    resampled = _resampled_means(second, num_resamples, rng)
    resampled -= _resampled_means(first, num_resamples, rng)
    return _bca(estimate, resampled, (second, -first), confidence)


def permutation_test(
    scores0: Sequence[float] | np.ndarray,
    scores1: Sequence[float] | np.ndarray,
    *,
    paired: bool = False,
    seed: int = DEFAULT_SEED,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
) -> PermutationResult:
    """Test equal laws by the difference of mean scores over all ways to exchange them.

    Independent arms: all ways to split the scores between the arms. Paired: all ways to swap
    within pairs. Exact where the scores are multiples of a common fraction (predicates, percent)
    or the arrangements few; otherwise seeded random arrangements, counted with the observed one
    (Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).

    Raises:
        ValueError: no score, one outside [0, 1], or paired scores of unequal numbers.
    """
    first, second = checked_scores(scores0, "scores0"), checked_scores(scores1, "scores1")
    law: PermutationLaw = (
        FlipLaw(_paired_differences(first, second)) if paired else SplitLaw(first, second)
    )
    exact = law.exact_tails()
    if exact is not None:
        return PermutationResult(
            p_arm1_better=exact.at_least,
            p_arm0_better=exact.at_most,
            is_exact=True,
            num_resamples=0,
        )
    rng = np.random.default_rng(seed)
    at_least = at_most = 1
    for size in _blocks(num_resamples, law.num_scores):
        drawn = law.draw(size, rng)
        at_least += int((drawn >= law.observed - law.tolerance).sum())
        at_most += int((drawn <= law.observed + law.tolerance).sum())
    return PermutationResult(
        p_arm1_better=at_least / (num_resamples + 1),
        p_arm0_better=at_most / (num_resamples + 1),
        is_exact=False,
        num_resamples=num_resamples,
    )


def checked_scores(scores: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    """Scores as a float array.

    Raises:
        ValueError: not one sequence, empty, or with a value outside [0, 1].
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{what}: one sequence of numbers expected, got shape {values.shape}")
    bad = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    if len(bad):
        raise ValueError(
            f"{what}: numbers within [0, 1] expected, got {values[bad[0]]} at position {bad[0]}"
        )
    return values


def _paired_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"paired scores must be equally many, got {len(first)} and {len(second)}")
    return second - first


def _blocks(num_resamples: int, num_scores: int) -> list[int]:
    if num_resamples < 1:
        raise ValueError(f"at least one resample is needed, got {num_resamples}")
    size = max(_BLOCK_ELEMENTS // num_scores, 1)
    whole, rest = divmod(num_resamples, size)
    return [size] * whole + ([rest] if rest else [])


def _resampled_means(
    values: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    means = [
        values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1)
        for size in _blocks(num_resamples, len(values))
    ]
    return np.concatenate(means)


def _bca(
    estimate: float, resampled: np.ndarray, samples: Sequence[np.ndarray], confidence: float
) -> Interval:
    """The interval for a sum of the samples' means."""
    centred = [values - values.mean() for values in samples]
    variance = sum(float((c**2).sum()) / len(c) ** 2 for c in centred)
    if variance < _NO_SPREAD**2:
        return Interval(float(estimate), float(estimate))
    # A mean's jackknife values are its own: (n - 1) (mean - mean without x) = x - mean.
    skewness = sum(float((c**3).sum()) / len(c) ** 3 for c in centred)
    acceleration = skewness / (6.0 * variance**1.5)
    # A resample as large as the estimate counts half: scores of few values tie often.
    ties = np.abs(resampled - estimate) < _NO_SPREAD
    below = float(((resampled < estimate) & ~ties).mean() + 0.5 * ties.mean())
    bias = float(special.ndtri(below))
    tail = (1.0 - confidence) / 2.0
    z = bias + special.ndtri([tail, 1.0 - tail])
    lower, upper = np.quantile(resampled, special.ndtr(bias + z / (1.0 - acceleration * z)))
    return Interval(float(lower), float(upper))
