from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_analysis.sequential.confidence_sequence import (
    difference_sequence,
    mean_sequence,
    paired_difference_sequence,
    paired_score_difference_sequence,
    rate_sequence,
)

_outcomes = st.lists(st.integers(0, 1), min_size=1, max_size=40)
_pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def _always_inside(sequence, truth):
    return bool(((sequence.lower <= truth) & (truth <= sequence.upper)).all())


@pytest.mark.parametrize("make", [rate_sequence, mean_sequence])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_one_rate_is_covered_at_all_times_at_once_by_enumeration(make, rate):
    n, confidence = 9, 0.7
    covered = 0.0
    for x in product((0, 1), repeat=n):
        if _always_inside(make(x, confidence), rate):
            covered += rate ** sum(x) * (1.0 - rate) ** (n - sum(x))
    assert covered >= confidence


@lru_cache(maxsize=2)
def _all_pairs(make):
    n, confidence = 4, 0.6
    return [
        (x, y, make(x, y, confidence))
        for x in product((0, 1), repeat=n)
        for y in product((0, 1), repeat=n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.5, 0.8), (0.9, 0.1)])
def test_the_difference_is_covered_at_all_times_at_once_by_enumeration(rates):
    p0, p1 = rates
    covered = 0.0
    for x, y, sequence in _all_pairs(difference_sequence):
        if _always_inside(sequence, p1 - p0):
            covered += np.prod([p0 if v else 1 - p0 for v in x] + [p1 if v else 1 - p1 for v in y])
    assert covered >= 0.6


@pytest.mark.parametrize("law", [(0.5, 0.5), (0.05, 0.3), (0.7, 0.1), (0.0, 1.0)])
def test_the_paired_difference_is_covered_whatever_the_dependence(law):
    only0, only1 = law
    chances = {(0, 0): (1 - only0 - only1) / 2, (1, 0): only0, (0, 1): only1}
    chances[1, 1] = chances[0, 0]
    for make in (paired_difference_sequence, paired_score_difference_sequence):
        covered = sum(
            np.prod([chances[pair] for pair in zip(x, y, strict=True)])
            for x, y, sequence in _all_pairs(make)
            if _always_inside(sequence, only1 - only0)
        )
        assert covered >= 0.6


@pytest.mark.slow
def test_peeking_at_each_episode_errs_within_alpha():
    rng = np.random.default_rng(1)
    runs, n, alpha = 150, 120, 0.1
    wrong = np.zeros(4)
    for _ in range(runs):
        x, y = (rng.random((2, n)) < 0.7).astype(int)
        scores = rng.beta(0.6, 0.9, n)
        wrong += [
            not _always_inside(rate_sequence(x, 1 - alpha), 0.7),
            not _always_inside(difference_sequence(x, y, 1 - alpha), 0.0),
            not _always_inside(paired_difference_sequence(x, y, 1 - alpha), 0.0),
            not _always_inside(mean_sequence(scores, 1 - alpha), 0.4),
        ]
    assert (wrong / runs <= alpha + 3 * (alpha * (1 - alpha) / runs) ** 0.5).all()
    assert (wrong > 0).any()


@given(outcomes=_outcomes)
@settings(max_examples=40)
def test_intervals_nest_and_mirror(outcomes):
    x = np.array(outcomes)
    for make in (rate_sequence, mean_sequence):
        sequence, mirrored = make(x), make(1 - x)
        assert (np.diff(sequence.lower) >= 0.0).all()
        assert (np.diff(sequence.upper) <= 0.0).all()
        assert mirrored.lower == pytest.approx(1.0 - sequence.upper, abs=1e-6)
        narrower = make(x, 0.8)
        assert (narrower.lower >= sequence.lower).all()
        assert (narrower.upper <= sequence.upper).all()


@given(pairs=_pairs)
@settings(max_examples=40)
def test_differences_mirror_when_arms_or_outcomes_are_swapped(pairs):
    x, y = np.array(pairs).T
    for make in (difference_sequence, paired_difference_sequence):
        straight = make(x, y)
        for mirrored in (make(y, x), make(1 - x, 1 - y)):
            assert mirrored.lower == pytest.approx(-straight.upper, abs=1e-6)
            assert mirrored.upper == pytest.approx(-straight.lower, abs=1e-6)


def test_they_find_what_is_there():
    rng = np.random.default_rng(2)
    x, y = (rng.random(400) < 0.4).astype(int), (rng.random(400) < 0.7).astype(int)
    for make in (difference_sequence, paired_difference_sequence, paired_score_difference_sequence):
        sequence = make(x, y)
        assert sequence.lower[-1] > 0.0
        assert sequence.upper[-1] - sequence.lower[-1] < 0.45
    rate = rate_sequence(x)
    assert rate.upper[-1] - rate.lower[-1] < 0.2
    assert rate.lower[-1] < 0.4 < rate.upper[-1]


def test_no_episode_gives_no_interval_and_bad_input_is_refused():
    assert len(rate_sequence([]).lower) == len(mean_sequence([]).lower) == 0
    assert len(difference_sequence([], []).upper) == 0
    with pytest.raises(ValueError, match="outcomes must be 0 or 1"):
        rate_sequence([0, 2])
    with pytest.raises(ValueError, match="within"):
        mean_sequence([0.5, 1.5])
    with pytest.raises(ValueError, match="one length"):
        paired_difference_sequence([0], [0, 1])
    with pytest.raises(ValueError, match="scores of one length expected"):
        paired_score_difference_sequence([0.5], [0.5, 0.5])
