"""The order tests against enumeration, and how often they cry wolf."""

from fractions import Fraction
from itertools import combinations, groupby

import numpy as np
import pytest

from step_analysis.doctor.order import ORDER_ALPHA, order_effects, runs_p_value, trend_p_value
from step_analysis.loading import load_rollouts


def _num_runs(sequence) -> int:
    return sum(1 for _ in groupby(sequence))


@pytest.mark.parametrize(("num", "ones"), [(7, 3), (8, 1), (9, 4), (10, 8)])
def test_the_runs_test_is_exact(num, ones):
    sequences = [
        tuple(i in places for i in range(num)) for places in combinations(range(num), ones)
    ]
    runs = [_num_runs(sequence) for sequence in sequences]
    for sequence, own in zip(sequences, runs, strict=True):
        below = Fraction(sum(other <= own for other in runs), len(runs))
        above = Fraction(sum(other >= own for other in runs), len(runs))
        assert runs_p_value(sequence) == pytest.approx(float(min(1, 2 * min(below, above))))


def test_the_trend_test_is_symmetric_and_near_the_exact_one():
    rng = np.random.default_rng(3)
    sequence = rng.random(12) < 0.5
    positions = np.flatnonzero(sequence)
    ones = len(positions)
    sums = np.array([sum(c) for c in combinations(range(12), ones)])
    excess = np.abs(sums - sums.mean())
    exact = float((excess >= abs(positions.sum() - sums.mean()) - 1e-9).mean())
    assert trend_p_value(sequence) == pytest.approx(exact, abs=0.03)
    assert trend_p_value(sequence[::-1]) == pytest.approx(trend_p_value(sequence))
    assert trend_p_value(~sequence) == pytest.approx(trend_p_value(sequence))


@pytest.mark.parametrize("p_value", [runs_p_value, trend_p_value])
def test_equal_outcomes_have_no_order(p_value):
    assert p_value([True] * 20) == 1.0
    assert p_value([]) == 1.0


def test_independent_episodes_are_seldom_accused(tmp_path, write_results_json):
    rng = np.random.default_rng(11)
    num_studies, accused = 40, 0
    for study in range(num_studies):
        for task in range(3):
            outcomes = "".join("01"[int(hit)] for hit in rng.random(60) < 0.6)
            folder = tmp_path / str(study) / "model" / f"Task{task}" / "rollouts" / "1"
            write_results_json(folder / "results.json", f"task{task}", outcomes)
        accused += any(order_effects(load_rollouts([tmp_path / str(study)])))
    # At a true chance of 1% more than 4 of 40 would come up once in 100,000 times.
    assert ORDER_ALPHA == 0.01
    assert accused <= 4
