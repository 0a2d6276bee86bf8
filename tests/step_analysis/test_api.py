import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.api import compare_outcomes, compare_policies, compare_scores
from step_analysis.differences import newcombe
from step_analysis.intervals import clopper_pearson

OLD = [0, 1, 0, 0, 1, 0, 0, 1, 0, 0] * 4
NEW = [1, 1, 0, 1, 1, 1, 0, 1, 1, 1] * 4


def test_one_comparison_says_it_all():
    result = compare_outcomes(OLD, NEW, method="step", n_max=60)
    assert (result.decision, result.test, result.n_max) == (1, "STEP", 60)
    assert result.time < 40
    assert result.alpha_per_side == 0.025
    assert result.rates == (0.3, 0.8)
    assert result.rate_intervals[1] == clopper_pearson(32, 40, 0.95)
    assert result.difference == pytest.approx(0.5)
    assert result.difference_interval == newcombe(12, 40, 32, 40, 0.95)
    assert result.probability_better > 0.999


@pytest.mark.parametrize(
    "convert", [tuple, np.array, lambda v: np.array(v, dtype=bool), lambda v: np.array(v, float)]
)
def test_any_sequence_will_do(convert):
    assert compare_outcomes(convert(OLD), convert(NEW)) == compare_outcomes(OLD, NEW)


def test_series_and_frames_will_do():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"old": OLD, "new": NEW}, index=range(100, 140))
    assert compare_outcomes(frame["old"], frame["new"]) == compare_outcomes(OLD, NEW)
    assert compare_policies(frame) == compare_policies({"old": OLD, "new": NEW})


def test_several_policies_share_alpha():
    result = compare_policies({"old": OLD, "same": OLD, "new": NEW}, method="lai")
    assert dict(result.letters) == {"new": "a", "old": "b", "same": "b"}
    assert set(result.pairs) == {("old", "same"), ("old", "new"), ("same", "new")}
    levels = [pair.alpha_per_side for pair in result.pairs.values()]
    assert levels == pytest.approx([0.05 / 3 / 2] * 3)
    assert dict(compare_policies({"only": OLD}).letters) == {"only": "a"}


def test_paired_methods_give_the_paired_interval():
    harder = [min(a, b) for a, b in zip(NEW, [1, 1, 1, 0] * 10, strict=True)]
    paired = compare_outcomes(harder, NEW, method="mcnemar")
    unpaired = compare_outcomes(harder, NEW, method="barnard")
    width = [r.difference_interval.upper - r.difference_interval.lower for r in (paired, unpaired)]
    assert width[0] < width[1]


@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_swapping_the_arms_mirrors_everything(pairs):
    x, y = zip(*pairs, strict=True)
    straight = compare_outcomes(x, y, method="lai", n_max=30)
    mirrored = compare_outcomes(y, x, method="lai", n_max=30)
    assert mirrored.decision == -straight.decision
    assert mirrored.time == straight.time
    assert mirrored.difference == -straight.difference
    lower, upper = straight.difference_interval
    assert mirrored.difference_interval == pytest.approx((-upper, -lower))
    assert mirrored.probability_better == pytest.approx(1.0 - straight.probability_better)


def test_scores_are_compared_by_permutation():
    low, high = [0.0, 0.25, 0.25, 0.5] * 6, [0.25, 0.5, 0.75, 1.0] * 6
    result = compare_scores(low, high)
    assert (result.decision, result.permutation.is_exact) == (1, True)
    assert result.means == (0.25, 0.625)
    assert result.difference_interval.lower > 0.2
    assert compare_scores(high, low, paired=True).decision == -1
    assert compare_scores(low, low).decision == 0


@pytest.mark.parametrize(
    ("first", "second", "options", "complaint"),
    [
        ([0, 1], [0, 1, 1], {}, "outcomes of one length"),
        ([0, 2], [0, 1], {}, "0 or 1, got 2"),
        ([0, float("nan")], [0, 1], {}, "0 or 1, got nan"),
        (["0", "1"], [0, 1], {}, "must be 0 or 1"),
        ([None, 1], [0, 1], {}, "must be 0 or 1"),
        ([[0], [1]], [0, 1], {}, "one sequence"),
        ([], [], {}, "at least one episode"),
        ([0, 1], [0, 1], {"n_max": 1}, "more than the 1 fixed beforehand"),
        ([0], [1], {"n_max": 0}, "n_max must be"),
        ([0], [1], {"alpha": 0.0}, "alpha must lie strictly between"),
        ([0], [1], {"alpha": 0.6, "sides": "one"}, "below 0.5"),
        ([0], [1], {"confidence": 1.0}, "confidence must lie strictly between"),
    ],
)
def test_bad_input_is_refused(first, second, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        compare_outcomes(first, second, **options)


def test_an_impossible_alpha_is_refused_however_many_share_it():
    with pytest.raises(ValueError, match="alpha must lie strictly between"):
        compare_policies({"a": OLD, "b": NEW, "c": OLD}, alpha=1.5)
