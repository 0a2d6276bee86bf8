import pytest

from step_analysis.planning.characteristics import TrueRates, characteristics
from step_analysis.planning.sample_size import needed_budget, rounded_up

RATES = TrueRates(p0=0.5, p1=0.75)


@pytest.mark.parametrize("method", ["step", "lai", "paired", "mcnemar", "barnard", "fisher"])
@pytest.mark.parametrize("power", [0.4, 0.9])
def test_the_budget_is_enough_and_one_episode_less_is_not(method, power):
    budget = needed_budget(RATES, power=power, alpha_per_side=0.025, method=method)
    assert budget.method == method
    assert budget.power >= power
    found = characteristics(method, budget.n_max, 0.025, RATES)
    assert (found.arm1_better, found.expected_n) == (budget.power, budget.expected_n)
    assert characteristics(method, budget.n_max - 1, 0.025, RATES).arm1_better < power


def test_auto_is_step_where_it_fits_and_lai_beyond():
    small = needed_budget(RATES, power=0.8, alpha_per_side=0.025)
    assert small.method == "step"
    assert small.expected_n < 0.7 * small.n_max
    large = needed_budget(TrueRates(p0=0.5, p1=0.56), power=0.8, alpha_per_side=0.025)
    assert large.method == "lai"
    # The textbook formula for looking once: (1.96 + 0.84)^2 (.25 + .2464) / .06^2 = 1082.
    assert 1082 < large.n_max < 1.2 * 1082
    assert large.expected_n < 0.8 * 1082


def test_the_direction_does_not_matter():
    forth = needed_budget(RATES, power=0.7, alpha_per_side=0.025, method="lai")
    back = needed_budget(TrueRates(p0=0.75, p1=0.5), power=0.7, alpha_per_side=0.025, method="lai")
    assert back.n_max == forth.n_max
    assert back.power == pytest.approx(forth.power)


def test_a_multiple_of_the_tasks_is_no_less():
    budget = needed_budget(RATES, power=0.8, alpha_per_side=0.025, method="lai")
    rounded = rounded_up(budget, RATES, alpha_per_side=0.025, step=16)
    assert rounded.n_max % 16 == 0
    assert budget.n_max <= rounded.n_max < budget.n_max + 16
    assert rounded.power >= 0.8
    assert rounded_up(budget, RATES, alpha_per_side=0.025, step=1) is budget


@pytest.mark.parametrize(
    ("method", "p0", "p1", "power"),
    [("mcnemar", 0.2, 0.5, 0.999999), ("paired", 0.5, 0.7, 0.9999)],
)
def test_budgets_tried_on_the_way_may_be_all_but_certain(method, p0, p1, power):
    """A guess that knows nothing of the discordance is far beyond what such pairs need."""
    rates = TrueRates(p0=p0, p1=p1, discordance=p1 - p0)
    budget = needed_budget(rates, power=power, alpha_per_side=0.025, method=method)
    assert 1.0 >= budget.power >= power
    assert characteristics(method, budget.n_max - 1, 0.025, rates).arm1_better < power


def test_pairs_that_agree_need_fewer_episodes():
    needed = [
        needed_budget(
            TrueRates(p0=0.5, p1=0.65, discordance=discordance),
            power=0.8,
            alpha_per_side=0.025,
            method="paired",
        ).n_max
        for discordance in (0.2, 0.35, None)
    ]
    assert needed == sorted(needed)
    assert needed[0] < 0.5 * needed[2]


def test_what_no_budget_can_do_is_refused():
    with pytest.raises(ValueError, match="both rates are 0.5"):
        needed_budget(TrueRates(p0=0.5, p1=0.5), power=0.8, alpha_per_side=0.025)
    with pytest.raises(ValueError, match="power must lie strictly between 0 and 1, got 1"):
        needed_budget(RATES, power=1.0, alpha_per_side=0.025)
    with pytest.raises(ValueError, match="needs more than 20000 episodes of each policy"):
        needed_budget(
            TrueRates(p0=0.5, p1=0.501), power=0.8, alpha_per_side=0.025, method="mcnemar"
        )
