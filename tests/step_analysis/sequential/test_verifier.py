from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.sequential.certificate import certify, checked_rates
from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.step_boundary import StepBoundary
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_tables import find_table

_FORMS = ("deterministic", "randomised")


def _boundary(n_max, alpha=0.05, form="deterministic"):
    return find_table(StepDesign(n_max=n_max, alpha_per_side=alpha, form=form)).boundary


def _by_the_law_of_the_counts(boundary, p0, p1):
    """Verdicts and time by the definition: the law of (x, y) of undecided tests, step by step."""
    n = boundary.n_max
    law = {(0, 0): 1.0}
    up = down = expected = 0.0
    for t in range(1, n + 1):
        expected += sum(law.values())
        weights = boundary.stop_weights(t, t + 1)
        after = {}
        for (x, y), chance in law.items():
            for i, j in product((0, 1), repeat=2):
                step = (p0 if i else 1.0 - p0) * (p1 if j else 1.0 - p1)
                after[x + i, y + j] = after.get((x + i, y + j), 0.0) + chance * step
        law = {}
        for (x, y), chance in after.items():
            weight = float(weights[min(x, y), abs(y - x)]) if x != y else 0.0
            if y > x:
                up += chance * weight
            else:
                down += chance * weight
            law[x, y] = chance * (1.0 - weight)
    return up, down, expected


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize(("p0", "p1"), [(0.3, 0.5), (0.5, 0.5), (0.9, 0.2), (0.02, 0.0), (1, 0.4)])
def test_it_agrees_with_the_law_of_the_counts(form, p0, p1):
    boundary = _boundary(25, 0.08, form)
    up, down, expected = _by_the_law_of_the_counts(boundary, p0, p1)
    exact = operating_characteristics(boundary, p0, p1)
    assert float(exact.arm1_better) == pytest.approx(up, abs=1e-13)
    assert float(exact.arm0_better) == pytest.approx(down, abs=1e-13)
    assert float(exact.expected_time) == pytest.approx(expected, abs=1e-10)


def test_rates_broadcast_and_empty_ones_are_fine():
    boundary = _boundary(25)
    grid = operating_characteristics(boundary, np.array([[0.2], [0.4], [0.6]]), [0.3, 0.5])
    assert grid.arm1_better.shape == grid.expected_time.shape == (3, 2)
    one = operating_characteristics(boundary, 0.4, 0.5)
    assert grid.arm1_better[1, 1] == pytest.approx(float(one.arm1_better), abs=1e-15)
    assert operating_characteristics(boundary, [], []).expected_time.shape == (0,)


@given(p0=st.floats(0.0, 1.0), p1=st.floats(0.0, 1.0))
def test_it_is_symmetric_in_arms_and_outcomes_and_time_is_bounded(p0, p1):
    boundary = _boundary(25)
    exact = operating_characteristics(boundary, [p0, p1, 1.0 - p1], [p1, p0, 1.0 - p0])
    up, down = exact.arm1_better, exact.arm0_better
    assert (up[0], down[0]) == pytest.approx((down[1], up[1]), abs=1e-12)
    assert (up[0], down[0]) == pytest.approx((up[2], down[2]), abs=1e-12)
    assert (up + down <= 1.0 + 1e-12).all()
    assert ((exact.expected_time >= 1.0) & (exact.expected_time <= 25.0)).all()


@given(
    rates=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).map(sorted),
)
def test_a_verdict_for_arm_1_is_likelier_the_better_it_is_and_the_worse_arm_0(rates):
    # The argument for the diagonal as the worst case, in docs/statistics.md, rests on this.
    low0, high0, low1, high1 = rates[0], rates[2], rates[1], rates[3]
    exact = operating_characteristics(
        _boundary(25), [low0, high0, low0, high0], [low1, low1, high1, high1]
    ).arm1_better
    assert exact[0] >= exact[1] - 1e-12
    assert exact[2] >= exact[3] - 1e-12
    assert exact[2] >= exact[0] - 1e-12
    assert exact[3] >= exact[1] - 1e-12


def test_quantiles_are_where_the_distribution_reaches_them():
    exact = operating_characteristics(_boundary(50), [0.3, 0.5], [0.7, 0.5])
    ended = 1.0 - exact.undecided_after
    for share in (0.1, 0.5, 0.9):
        times = exact.time_quantile(share)
        for i, t in enumerate(times.tolist()):
            assert t == 50 or ended[t, i] >= share
            assert ended[t - 1, i] < share
    assert (exact.time_quantile(1.0) == 50).all()
    assert exact.time_quantile(0.5)[1] == 50
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            exact.time_quantile(share)


@pytest.mark.parametrize("p0", [-0.1, 1.5, float("nan")])
def test_a_rate_outside_the_unit_interval_is_refused(p0):
    with pytest.raises(ValueError, match="p0 must lie within"):
        operating_characteristics(_boundary(25), p0, 0.5)


@pytest.mark.parametrize("form", _FORMS)
def test_the_certificate_states_the_largest_error(form):
    boundary = _boundary(40, 0.03, form)
    certificate = certify(boundary)
    rates = np.linspace(0.0, 1.0, 401)
    equal = operating_characteristics(boundary, rates, rates)
    assert equal.arm1_better.max() <= certificate.type1_sup * (1.0 + 1e-4)
    assert equal.arm1_better.max() >= certificate.type1_sup * (1.0 - 1e-3)
    either = (equal.arm1_better + equal.arm0_better).max()
    assert either == pytest.approx(certificate.both_directions_sup, rel=1e-3)
    assert certificate.off_diagonal_sup < certificate.type1_sup


def test_a_lopsided_boundary_is_certified_above_one_half_too():
    n = 10
    stop_at = np.full((n + 1, n + 1), n + 1, dtype=np.int16)
    # Six successes against five or fewer: likely where both arms are good.
    stop_at[n, :9] = 10
    boundary = StepBoundary(design=StepDesign(n_max=n, alpha_per_side=0.4), stop_at=stop_at)
    certificate = certify(boundary)
    assert certificate.type1_sup_rate > 0.5
    assert checked_rates(n).max() == 0.5
