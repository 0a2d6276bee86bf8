from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from step_analysis.progress_scores import (
    bootstrap_difference,
    bootstrap_mean,
    permutation_test,
)

_thirds = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=1, max_size=6)


def _split_p_value(first, second):
    pooled, total = [*first, *second], sum(second)
    sums = [sum(pooled[i] for i in c) for c in combinations(range(len(pooled)), len(second))]
    return np.mean(np.array(sums) >= total - 1e-9)


@given(first=_thirds, second=_thirds)
def test_splits_are_counted_exactly(first, second):
    result = permutation_test(first, second)
    assert result.is_exact
    assert result.p_arm1_better == pytest.approx(_split_p_value(first, second))
    assert result.p_arm0_better == pytest.approx(_split_p_value(second, first))


@given(pairs=st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 2), max_size=7))
def test_sign_flips_are_counted_exactly(pairs):
    pairs = [(0.5, 0.25), *pairs]
    first, second = zip(*pairs, strict=True)
    differences = np.array(second) - np.array(first)
    sums = np.array(list(product((-1, 1), repeat=len(pairs)))) @ differences
    result = permutation_test(first, second, paired=True)
    assert result.is_exact
    assert result.p_arm1_better == pytest.approx(np.mean(sums >= differences.sum() - 1e-9))
    assert result.p_arm0_better == pytest.approx(np.mean(sums <= differences.sum() + 1e-9))


def test_few_scores_of_no_common_fraction_are_enumerated():
    rng = np.random.default_rng(4)
    first, second = rng.random(6), rng.random(7)
    assert permutation_test(first, second).is_exact
    expected = _split_p_value(first, second)
    assert permutation_test(first, second).p_arm1_better == pytest.approx(expected)


def test_outcomes_as_scores_give_fisher_and_mcnemar():
    rng = np.random.default_rng(5)
    x, y = rng.random(60) < 0.4, rng.random(60) < 0.6
    unpaired = permutation_test(x, y)
    table = [[x.sum(), y.sum()], [60 - x.sum(), 60 - y.sum()]]
    fisher = stats.fisher_exact(table, alternative="less").pvalue
    assert unpaired.p_arm1_better == pytest.approx(fisher)
    only1, only0 = int((y & ~x).sum()), int((x & ~y).sum())
    paired = permutation_test(x, y, paired=True)
    mcnemar = stats.binomtest(only1, only0 + only1, 0.5, alternative="greater").pvalue
    assert paired.p_arm1_better == pytest.approx(mcnemar)


def test_random_arrangements_are_seeded_and_close_to_exact_ones():
    rng = np.random.default_rng(6)
    first, second = np.round(rng.random(20), 3), np.round(rng.random(22) ** 0.7, 3)
    for paired, other in ((False, second), (True, second[:20])):
        exact = permutation_test(first, other, paired=paired)
        # No common fraction, and no other order to speak of.
        blurred = first * (1.0 - rng.random(20) * 1e-7)
        drawn = permutation_test(blurred, other, paired=paired, seed=1)
        assert (exact.is_exact, drawn.is_exact, drawn.num_resamples) == (True, False, 10_000)
        assert drawn.p_arm1_better == pytest.approx(exact.p_arm1_better, abs=0.02)
        assert permutation_test(blurred, other, paired=paired, seed=1) == drawn
    hopeless = permutation_test(rng.random(50) * 0.1, 0.9 + rng.random(50) * 0.1)
    assert hopeless.p_arm1_better == 1 / 10_001


def test_the_permutation_test_keeps_its_level_by_enumeration():
    """Both arms of 4 episodes from one law of three scores: all 3^8 data sets."""
    law = {0.0: 0.5, 0.5: 0.2, 1.0: 0.3}
    for paired in (False, True):
        wrong, p_values = 0.0, {}
        for scores in product(law, repeat=8):
            key = (tuple(sorted(scores[:4])), tuple(sorted(scores[4:]))) if not paired else scores
            if key not in p_values:
                result = permutation_test(scores[:4], scores[4:], paired=paired)
                p_values[key] = result.p_arm1_better
            if p_values[key] <= 0.1:
                wrong += np.prod([law[s] for s in scores])
        assert 0.0 < wrong <= 0.1 + 1e-12


def test_the_bootstrap_agrees_with_scipy_s():
    rng = np.random.default_rng(7)
    first, second = rng.beta(0.3, 2.0, 40), rng.beta(0.5, 2.0, 60)
    mine = bootstrap_mean(first, 0.9)
    theirs = stats.bootstrap((first,), np.mean, confidence_level=0.9, rng=1).confidence_interval
    assert mine == pytest.approx(theirs, abs=0.006)
    mine = bootstrap_difference(first, second, 0.9)
    theirs = stats.bootstrap(
        (second, first),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        confidence_level=0.9,
        rng=1,
    ).confidence_interval
    assert mine == pytest.approx(theirs, abs=0.006)


def test_the_bootstrap_covers_about_what_it_says():
    rng = np.random.default_rng(8)
    covered, runs = 0, 300
    for run in range(runs):
        scores = rng.beta(0.7, 1.4, 40)
        lower, upper = bootstrap_mean(scores, 0.9, seed=run, num_resamples=1000)
        covered += lower <= 1 / 3 <= upper
    assert covered / runs == pytest.approx(0.9, abs=0.05)


def test_pairs_that_agree_narrow_the_paired_interval():
    rng = np.random.default_rng(9)
    first = rng.integers(0, 5, 80) / 4
    second = np.clip(first + rng.choice([0.0, 0.25], 80), 0.0, 1.0)
    paired = bootstrap_difference(first, second, paired=True)
    unpaired = bootstrap_difference(first, second)
    assert unpaired.lower < paired.lower < paired.upper < unpaired.upper
    lower, upper = bootstrap_difference(second, first, paired=True)
    assert (-upper, -lower) == pytest.approx(paired, abs=0.01)


def test_equal_scores_are_a_point():
    assert bootstrap_mean([0.5] * 6) == (0.5, 0.5)
    assert permutation_test([0.5] * 3, [0.5] * 4).p_two_sided == 1.0


@pytest.mark.parametrize("scores", [[], [0.5, 1.2], [0.5, float("nan")], [[0.5]]])
def test_bad_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores1: "):
        permutation_test([0.5], scores)


def test_unequal_numbers_are_no_pairs():
    with pytest.raises(ValueError, match="paired scores must be equally many, got 1 and 2"):
        bootstrap_difference([0.5], [0.5, 0.6], paired=True)
