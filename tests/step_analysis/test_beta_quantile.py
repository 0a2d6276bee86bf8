"""The Beta law's quantiles against SciPy's, and the laws that they obey."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from step_analysis.beta_quantile import beta_quantile, log_beta

_PARAMETERS = (0.5, 1, 1.5, 2, 9.5, 20, 101, 200, 7_801, 78_000, 1_000_000)


@pytest.mark.parametrize("a", _PARAMETERS)
@pytest.mark.parametrize("b", _PARAMETERS)
def test_quantiles_are_scipys(a: float, b: float) -> None:
    for probability in (1e-12, 1e-6, 0.0005, 0.025, 0.3, 0.5, 0.9, 0.975, 0.9995):
        expected = float(special.betaincinv(a, b, probability))
        assert beta_quantile(a, b, probability) == pytest.approx(expected, rel=2e-11, abs=0.0)


@pytest.mark.parametrize("a", [1, 2, 9, 10, 11, 101, 7_801])
@pytest.mark.parametrize("b", [1, 2, 9, 10, 11, 101, 7_801, 78_000])
def test_the_normalisation_of_whole_parameters_is_a_binomial_coefficient(a: int, b: int) -> None:
    expected = -math.log((a + b - 1) * math.comb(a + b - 2, a - 1))
    assert log_beta(a, b) == pytest.approx(expected, rel=4e-15, abs=4e-15)
    assert log_beta(a, b) == log_beta(b, a)


# Worked out by mpmath with 40 digits; SciPy's is off by 5e-10 in the first.
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0.5, 1000000.0, -6.335390211057437),
        (0.5, 0.5, 1.1447298858494002),
        (1.5, 9.999, -3.610808740420244),
        (9.999, 10.001, -13.736229121870219),
        (20.5, 77.25, -50.67210559850513),
        (1000000.0, 1000000.0, -1386300.003362921),
    ],
)
def test_the_normalisation_of_others(a: float, b: float, expected: float) -> None:
    assert log_beta(a, b) == pytest.approx(expected, rel=4e-15, abs=4e-15)


@given(st.floats(0.5, 1e4), st.floats(0.5, 1e4), st.floats(1e-9, 1.0 - 1e-9))
def test_a_quantile_has_its_probability_below(a: float, b: float, probability: float) -> None:
    x = beta_quantile(a, b, probability)
    assert 0.0 < x <= 1.0
    # As far as a double can tell places so near 1 apart.
    blur = float(
        special.betainc(a, b, min(x + 4e-16, 1.0)) - special.betainc(a, b, max(x - 4e-16, 0.0))
    )
    assert abs(float(special.betainc(a, b, x)) - probability) <= 1e-11 * probability + blur


def test_any_number_of_episodes_has_its_quantiles() -> None:
    assert beta_quantile(10**15, 10**15, 0.5) == pytest.approx(0.5, rel=1e-9)
    assert beta_quantile(1e-3, 10**6, 0.5) == pytest.approx(
        float(special.betaincinv(1e-3, 10**6, 0.5)), rel=1e-9, abs=1e-300
    )


def test_a_uniform_law_has_its_probabilities_for_quantiles() -> None:
    for probability in (0.0, 1e-300, 0.25, 0.5, 1.0):
        assert beta_quantile(1, 1, probability) == pytest.approx(probability, rel=1e-14, abs=0.0)
    assert math.isclose(log_beta(1, 1), 0.0, abs_tol=1e-15)


@pytest.mark.parametrize(
    ("a", "b", "probability"),
    [
        (0, 1, 0.5),
        (1, -1, 0.5),
        (math.nan, 1, 0.5),
        (math.inf, 1, 0.5),
        (1, 1, -0.1),
        (1, 1, 1.1),
        (1, 1, math.nan),
    ],
)
def test_what_is_no_law_or_no_probability_is_refused(
    a: float, b: float, probability: float
) -> None:
    with pytest.raises(ValueError, match="must"):
        beta_quantile(a, b, probability)
