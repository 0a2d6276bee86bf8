import dataclasses

import numpy as np
import pytest

from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.risk_budget import CustomBudget, PNormBudget, ZetaBudget
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_synthesis import synthesise
from step_analysis.sequential.step_tables import find_table, make_table

_HALF = np.concatenate([np.geomspace(1e-4, 0.02, 12), np.linspace(0.025, 0.5, 30)])
_RATES = np.concatenate([_HALF, 1.0 - _HALF])
_P0 = np.array([0.3, 0.8, 0.05, 0.5, 0.2, 0.9, 0.1, 0.45, 0.1, 0.6, 0.4, 0.1, 0.55, 0.02])
_P1 = np.array([0.5, 0.9, 0.15, 0.5, 0.8, 0.95, 0.1, 0.55, 0.2, 0.64, 0.5, 0.5, 0.8, 0.1])


def _design(n_max, alpha, **options):
    return StepDesign(n_max=n_max, alpha_per_side=alpha, **options)


@pytest.mark.parametrize("budget", ["50", "100"])
def test_it_is_as_powerful_as_published(reference, budget):
    rows = np.array(reference("power")["budgets"][budget]["step"])
    p0, p1, arm1_better, arm0_better, expected_time = rows.T
    mine = operating_characteristics(find_table(_design(int(budget), 0.05)).boundary, p0, p1)
    alternatives = p1 > p0
    assert (mine.arm1_better >= arm1_better - 0.005)[alternatives].all()
    assert (mine.expected_time <= 1.02 * expected_time).all()
    assert (mine.arm0_better <= arm0_better + 1e-6)[alternatives].all()


@pytest.mark.parametrize("budget", ["50", "100"])
def test_the_randomised_form_is_the_published_one(reference, budget):
    rows = np.array(reference("power")["budgets"][budget]["step"])
    p0, p1, arm1_better, arm0_better, expected_time = rows.T
    table = find_table(_design(int(budget), 0.05, form="randomised"))
    mine = operating_characteristics(table.boundary, p0, p1)
    # It spends a few ten-thousandths less, to stay below alpha between control points too.
    assert np.abs(mine.arm1_better - arm1_better).max() < 1e-3
    assert np.abs(mine.arm0_better - arm0_better).max() < 1e-3
    assert np.abs(mine.expected_time / expected_time - 1.0).max() < 1e-3


@pytest.mark.parametrize(
    ("n_max", "alpha"),
    [
        *((50, 0.05 / pairs) for pairs in (3, 28, 66)),
        *((100, 0.05 / pairs) for pairs in (3, 28, 66)),
        pytest.param(200, 0.05, marks=pytest.mark.slow),
        pytest.param(200, 0.05 / 66, marks=pytest.mark.slow),
        pytest.param(500, 0.05, marks=pytest.mark.slow),
        pytest.param(500, 0.05 / 66, marks=pytest.mark.slow),
    ],
)
def test_whole_states_lose_nothing_against_the_linear_programme(n_max, alpha):
    # The randomised form is the published one, as the test above shows where its numbers are.
    randomised = find_table(_design(n_max, alpha, form="randomised")).boundary
    theirs = operating_characteristics(randomised, _P0, _P1)
    mine = operating_characteristics(find_table(_design(n_max, alpha)).boundary, _P0, _P1)
    assert (mine.arm1_better >= theirs.arm1_better - 0.005)[_P1 > _P0].all()
    assert (mine.expected_time <= 1.02 * theirs.expected_time).all()


@pytest.mark.parametrize(
    ("n_max", "alpha"),
    [
        *((n, 0.025) for n in range(1, 13)),
        *((50, alpha) for alpha in (0.05, 0.025, 0.05 / 3, 0.05 / 28, 0.05 / 66)),
        *((100, alpha) for alpha in (0.05, 0.05 / 3, 0.05 / 28, 0.05 / 66)),
        (60, 0.05 / 66),
        (200, 0.05),
        pytest.param(500, 0.05, marks=pytest.mark.slow),
    ],
)
def test_the_error_on_either_side_is_at_most_alpha(n_max, alpha):
    boundary = find_table(_design(n_max, alpha)).boundary
    equal = operating_characteristics(boundary, _RATES, _RATES)
    assert equal.arm1_better.max() <= alpha
    assert equal.arm0_better.max() <= alpha
    worse0, worse1 = np.meshgrid(np.linspace(0.02, 0.98, 9), np.linspace(0.02, 0.98, 9))
    below = worse0 > worse1
    wrong = operating_characteristics(boundary, worse0[below], worse1[below])
    assert wrong.arm1_better.max() <= alpha


@pytest.mark.parametrize(("n_max", "share"), [(50, 0.98), (100, 0.995), (200, 0.999)])
def test_nearly_all_of_alpha_is_spent(n_max, share):
    assert find_table(_design(n_max, 0.05)).certificate.type1_sup > share * 0.05


@pytest.mark.parametrize("n_max", [7, 40, 100])
def test_swapping_success_and_failure_mirrors_the_boundary(n_max):
    boundary = synthesise(_design(n_max, 0.03))
    assert boundary.treats_outcomes_alike
    for t in range(1, n_max + 1):
        stops = {
            (x, y) for x in range(t) for y in range(x + 1, t + 1) if y >= boundary.stop_at[t, x]
        }
        assert stops == {(t - y, t - x) for x, y in stops}
    lopsided = boundary.stop_at.copy()
    rises = np.diff(lopsided[n_max]) > 0
    lopsided[n_max, rises.argmax()] += 1
    changed = dataclasses.replace(boundary, stop_at=lopsided)
    assert not changed.treats_outcomes_alike


def test_synthesis_is_deterministic():
    first, second = synthesise(_design(25, 0.03)), synthesise(_design(25, 0.03))
    assert (first.stop_at == second.stop_at).all()


def test_each_time_is_told():
    told = []
    synthesise(_design(25, 0.03), on_time=told.append)
    assert told == list(range(1, 26))


def test_an_early_budget_stops_earlier_and_a_late_one_later():
    early, linear, late = (
        operating_characteristics(make_table(design).boundary, 0.3, 0.6)
        for design in (
            _design(60, 0.05, budget=ZetaBudget(exponent=1.0)),
            _design(60, 0.05),
            _design(60, 0.05, budget=PNormBudget(exponent=1.0)),
        )
    )
    at = 20
    assert early.undecided_after[at] < linear.undecided_after[at] < late.undecided_after[at]
    assert early.arm1_better < late.arm1_better


def test_a_budget_that_waits_for_the_end_never_stops_before():
    increments = (0.0,) * 39 + (1.0,)
    table = make_table(_design(40, 0.05, budget=CustomBudget(increments=increments)))
    exact = operating_characteristics(table.boundary, 0.5, 0.5)
    assert exact.expected_time == pytest.approx(40.0, abs=0.01)
    assert exact.arm1_better > 0.9 * 0.05
    assert table.certificate.type1_sup <= 0.05


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("kind", [ZetaBudget, PNormBudget])
@pytest.mark.parametrize("form", ["deterministic", "randomised"])
def test_the_error_is_at_most_alpha_with_any_budget(kind, exponent, form):
    table = make_table(_design(30, 0.04, budget=kind(exponent=exponent), form=form))
    assert 0.7 * 0.04 < table.certificate.type1_sup <= 0.04
