import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.sequential.risk_budget import (
    CustomBudget,
    LinearBudget,
    PNormBudget,
    ZetaBudget,
    available_shares,
    budget_from_json,
    budget_key,
    budget_to_json,
    dead_time,
    parse_risk_budget,
)

_EXPONENTS = st.floats(-3.0, 3.0)
_BUDGETS = st.one_of(
    st.just(LinearBudget()),
    st.builds(ZetaBudget, exponent=_EXPONENTS),
    st.builds(PNormBudget, exponent=_EXPONENTS),
)


@given(budget=_BUDGETS, n_max=st.integers(1, 300))
def test_shares_grow_from_nothing_in_the_dead_time_to_all_at_the_end(budget, n_max):
    shares = available_shares(budget, n_max)
    assert shares.shape == (n_max + 1,)
    assert (shares[: dead_time(n_max) + 1] == 0.0).all()
    assert (np.diff(shares) >= 0.0).all()
    assert shares[-1] == 1.0


def test_the_three_families_meet_at_exponent_zero():
    linear = available_shares(LinearBudget(), 50)
    # The dead time is 6, so 45 increments remain, of which two are there at the first look.
    assert linear[7] == pytest.approx(2 / 45)
    assert available_shares(ZetaBudget(exponent=0.0), 50) == pytest.approx(linear)
    assert available_shares(PNormBudget(exponent=0.0), 50) == pytest.approx(linear)


def test_custom_increments_are_scaled_and_those_of_the_dead_time_kept():
    shares = available_shares(CustomBudget(increments=(2.0,) * 20), 20)
    assert shares[5] == 0.0  # dead time
    assert shares[6:] == pytest.approx(np.arange(6, 21) / 20)


@given(budget=_BUDGETS)
def test_a_budget_survives_json_and_has_its_own_key(budget):
    assert budget_from_json(json.loads(json.dumps(budget_to_json(budget)))) == budget
    assert "/" not in budget_key(budget)
    other = CustomBudget(increments=(1.0, 2.0))
    assert budget_key(budget) != budget_key(other)
    assert budget_from_json(budget_to_json(other)) == other


def test_a_budget_is_named_on_the_command_line(tmp_path):
    assert parse_risk_budget("linear") == LinearBudget()
    assert parse_risk_budget("zeta:0.5") == ZetaBudget(exponent=0.5)
    assert parse_risk_budget("pnorm:-1") == PNormBudget(exponent=-1.0)
    path = tmp_path / "budget.json"
    path.write_text("[0, 1, 2.5]", encoding="utf-8")
    assert parse_risk_budget(str(path)) == CustomBudget(increments=(0.0, 1.0, 2.5))


@pytest.mark.parametrize("text", ["quadratic", "zeta:", "zeta:x", "zeta:nan", "pnorm:1e9"])
def test_another_name_is_refused(text):
    with pytest.raises(ValueError, match="risk budget"):
        parse_risk_budget(text)


_BAD_INCREMENTS = [
    *("", "{", '{"a": 1}', '"12"', '[1, "2"]', "[]", "[0]", "[-1, 2]", "[1e999]", "[NaN]"),
    "[1" + "0" * 400 + "]",
    "[1" + "0" * 5000 + "]",
    "[" * 100_000,
]


@pytest.mark.parametrize("content", _BAD_INCREMENTS, ids=lambda content: content[:8])
def test_a_bad_file_of_increments_is_refused(tmp_path, content):
    path = tmp_path / "budget.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="risk budget"):
        parse_risk_budget(str(path))


def test_a_custom_budget_has_one_increment_for_each_episode():
    with pytest.raises(ValueError, match="needs 5 increments"):
        available_shares(CustomBudget(increments=(1.0,) * 4), 5)
