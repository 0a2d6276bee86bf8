from itertools import product

import pytest

from step_analysis.sequential.savi import SaviTest


def test_decisions_and_times_are_those_of_the_reference(reference):
    oracle = reference("sequential_decisions")
    test = SaviTest(oracle["n_max"], oracle["alpha_per_side"])
    for x, y, _, _, decision, time, _ in oracle["records"]:
        verdict = test.run([*map(int, x)], [*map(int, y)])
        assert (verdict.decision, verdict.time) == (decision, time)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_error_is_at_most_alpha_over_all_sequences(rate):
    n, alpha = 6, 0.3
    test = SaviTest(n, alpha)
    wrong = {1: 0.0, -1: 0.0}
    for x in product((0, 1), repeat=n):
        for y in product((0, 1), repeat=n):
            chance = rate ** (sum(x) + sum(y)) * (1.0 - rate) ** (2 * n - sum(x) - sum(y))
            decision = test.run(x, y).decision
            if decision:
                wrong[decision] += chance
    assert 0.0 < wrong[1] == pytest.approx(wrong[-1])
    assert wrong[1] <= alpha
