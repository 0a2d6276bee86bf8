import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from step_analysis.fixed_sample.mcnemar import McNemarTest, majorities, mcnemar_p_values

_pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.025, 0.05 / 66])
def test_the_majorities_are_those_of_the_binomial_test(alpha):
    found = majorities(40, alpha)
    for m in range(41):
        p_values = [
            binomtest(b, m, 0.5, alternative="greater").pvalue if m else 1.0 for b in range(m + 1)
        ]
        expected = next((b for b, p in enumerate(p_values) if p <= alpha), m + 1)
        assert found[m] == expected


@given(only0=st.integers(0, 50), only1=st.integers(0, 50))
def test_p_values_are_those_of_the_binomial_test(only0, only1):
    expected = (
        binomtest(only1, only0 + only1, 0.5, alternative="greater").pvalue if only0 + only1 else 1.0
    )
    assert float(mcnemar_p_values(only0, only1)) == pytest.approx(expected)


@given(pairs=_pairs, data=st.data())
def test_only_the_discordant_counts_matter(pairs, data):
    test = McNemarTest(len(pairs), 0.1)
    x, y = np.array(pairs).T
    verdict = test.run(x, y)
    assert verdict.time == len(pairs)
    assert test.run(y, x).decision == -verdict.decision
    assert test.run(1 - x, 1 - y).decision == -verdict.decision
    order = np.array(data.draw(st.permutations(range(len(pairs)))))
    assert test.run(x[order], y[order]) == verdict
    only0, only1 = int((x > y).sum()), int((y > x).sum())
    rejected = [float(mcnemar_p_values(*c)) <= 0.1 for c in ((only0, only1), (only1, only0))]
    assert verdict.decision == rejected[0] - rejected[1]


def test_it_waits_for_all_pairs():
    test = McNemarTest(10, 0.025)
    assert test.run([0] * 9, [1] * 9).decision == 0
    assert test.run([0] * 10, [1] * 10).decision == 1
