import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.multiplicity import (
    benjamini_hochberg,
    bonferroni,
    bonferroni_local_test,
    closed_testing,
    from_p_values,
    holm,
    holm_falls,
    holm_levels,
    nested,
    simes_local_test,
)

ALPHA = 0.05
_p_values = st.lists(st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 0.06)), min_size=1, max_size=8)


def test_a_worked_example():
    # Benjamini and Hochberg (1995), section 3: 15 comparisons of two treatments.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    decisions = from_p_values(p)
    assert sum(bonferroni(decisions, ALPHA)) == 3
    assert sum(holm(decisions, ALPHA)) == 3
    assert benjamini_hochberg(decisions, ALPHA) == [True] * 4 + [False] * 11


@given(p=_p_values)
def test_closed_testing_with_bonferroni_is_holm(p):
    closed = closed_testing(len(p), bonferroni_local_test(p, ALPHA))
    assert closed == holm(from_p_values(p), ALPHA)


@given(p=_p_values)
def test_each_procedure_rejects_what_a_more_reluctant_one_does(p):
    decisions = from_p_values(p)
    chain = [
        bonferroni(decisions, ALPHA),
        holm(decisions, ALPHA),
        closed_testing(len(p), simes_local_test(p, ALPHA)),
        benjamini_hochberg(decisions, ALPHA),
    ]
    for fewer, more in pairwise(chain):
        assert all(b for a, b in zip(fewer, more, strict=True) if a)


@given(p=_p_values, data=st.data())
def test_the_order_of_hypotheses_changes_nothing(p, data):
    order = data.draw(st.permutations(range(len(p))))
    shuffled = from_p_values([p[i] for i in order])
    for procedure in (bonferroni, holm, benjamini_hochberg):
        straight = procedure(from_p_values(p), ALPHA)
        assert procedure(shuffled, ALPHA) == [straight[i] for i in order]


@given(p=_p_values)
def test_a_smaller_p_value_never_loses_a_rejection(p):
    smaller = [value / 2.0 for value in p]
    for procedure in (bonferroni, holm, benjamini_hochberg):
        before = procedure(from_p_values(p), ALPHA)
        after = procedure(from_p_values(smaller), ALPHA)
        assert all(b for a, b in zip(before, after, strict=True) if a)


def test_holm_says_at_which_level_each_falls_the_earliest_first():
    times = [
        lambda level: 9.0 if level >= ALPHA / 3 else math.inf,
        lambda level: 5.0 if level >= ALPHA / 2 else math.inf,
        lambda level: math.inf,
    ]
    assert holm_falls(times, ALPHA) == [ALPHA / 3, ALPHA / 2, None]
    # What falls earlier leaves a looser level to the others.
    both = [lambda level: 9.0, lambda level: 5.0]
    assert holm_falls(both, ALPHA) == [ALPHA, ALPHA / 2]


def test_holm_asks_only_at_its_levels_and_nesting_makes_any_test_safe():
    asked = []

    def erratic(level: float) -> float:
        asked.append(level)
        return 7.0 if level < 0.02 else math.inf  # rejects at small levels, not at larger ones

    levels = holm_levels(3, ALPHA)
    assert levels == [ALPHA / 3, ALPHA / 2, ALPHA]
    times = [nested(erratic, levels), lambda level: 3.0, lambda level: math.inf]
    assert holm_falls(times, ALPHA) == [None, ALPHA / 3, None]
    assert set(asked) <= set(levels)


def test_nested_times_wait_for_all_larger_levels():
    found = {0.01: 5.0, 0.02: 8.0, 0.04: 3.0}
    time = nested(found.__getitem__, [0.01, 0.02, 0.04])
    assert [time(level) for level in found] == [8.0, 8.0, 3.0]


def test_false_rejections_stay_within_alpha_by_simulation():
    rng = random.Random(3)
    runs, wrong = 4000, {"holm": 0, "discoveries": 0.0}
    for _ in range(runs):
        # Four true hypotheses, dependent in pairs, and two false ones.
        a, b = rng.random(), rng.random()
        p = [a, 1.0 - a, b, b, rng.random() * 0.01, rng.random() * 0.02]
        wrong["holm"] += any(holm(from_p_values(p), ALPHA)[:4])
        rejected = benjamini_hochberg(from_p_values([*p[:1], *p[2:3], *p[4:]]), ALPHA)
        wrong["discoveries"] += sum(rejected[:2]) / max(sum(rejected), 1)
    # Four standard errors at most; both in fact lie below alpha.
    assert wrong["holm"] / runs < ALPHA + 4 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert 0.0 < wrong["discoveries"] / runs < ALPHA


def test_nothing_to_test_rejects_nothing():
    for procedure in (bonferroni, holm, benjamini_hochberg):
        assert procedure([], ALPHA) == []
    assert closed_testing(0, bonferroni_local_test([], ALPHA)) == []


@pytest.mark.parametrize("p", [[-0.1], [1.5], [0.2, float("nan")]])
def test_impossible_p_values_are_refused(p):
    with pytest.raises(ValueError, match="must lie within"):
        from_p_values(p)


def test_impossible_levels_are_refused():
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1, got 0"):
        holm(from_p_values([0.1]), 0.0)
    with pytest.raises(ValueError, match="intersections; at most 16"):
        closed_testing(17, bonferroni_local_test([0.5] * 17, ALPHA))
