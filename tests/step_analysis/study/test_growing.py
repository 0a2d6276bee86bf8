"""A study that grows: policies that come later leave what was decided as it was."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest

from step_analysis.ledger import LedgerError
from step_analysis.study.allocation import next_rollout
from step_analysis.study.design import StudyPolicy
from step_analysis.study.folder import StudyFolder, read_study_design
from step_analysis.study.study import Study

TASK = "PickAndPlaceBox"


def first_of(design, num_policies):
    return replace(design, policies=design.policies[:num_policies])


def test_all_that_may_ever_come_shares_alpha(make_design):
    design = make_design(30, 2, 9, correction="arrival")
    spent = [
        sum(2.0 * design.level(pair) * 3 for pair in design.pairs if names[k] == pair[1])
        for names in [[policy.name for policy in design.policies]]
        for k in range(1, 30)
    ]
    assert spent == pytest.approx([0.05 / (k * (k + 1)) for k in range(1, 30)])
    assert sum(spent) == pytest.approx(0.05 * (1.0 - 1.0 / 30.0))


def test_policies_keep_the_order_in_which_they_came(make_design):
    names = ("late", "early", "middle")
    policies = tuple(StudyPolicy(name=name, digest=name) for name in names)
    design = make_design(3, 1, 9, policies=policies, correction="arrival")
    assert design.pairs == (("late", "early"), ("late", "middle"), ("early", "middle"))
    assert type(design).from_json(design.to_json()) == design
    assert make_design(3, 1, 9, policies=policies).policies[0].name == "early"


def test_what_was_decided_stands_when_others_come(make_design, record_of):
    rng = np.random.default_rng(4)
    rates = (0.2, 0.9, 0.5, 0.95)
    whole = make_design(4, 2, 30, alpha=0.2, correction="arrival")
    records, before = [], {}
    for num_policies in (2, 3, 4):
        study = Study(first_of(whole, num_policies), records)
        assert {e.arms + e.tasks: e for e in study.standing().comparisons}.items() >= before.items()
        while (key := next_rollout(study)) is not None:
            rate = rates[int(key.policy[1])]
            records.append(record_of(*key, bool(rng.random() < rate)))
            study.add(records[-1])
        before = {each.arms + each.tasks: each for each in study.standing().comparisons}
    assert sum(each.winner is not None for each in before.values()) >= 6


def test_who_is_absent_gets_no_rollouts_and_stops_nobody_else(make_design, record_of):
    design = make_design(3, 1, 10, correction="arrival")
    study = Study(design)
    asked = set()
    while (key := next_rollout(study, absent={"p1"})) is not None:
        asked.add(key.policy)
        study.add(record_of(*key, True))
    assert asked == {"p0", "p2"}
    assert [each.arms for each in study.standing().open] == [("p0", "p1"), ("p1", "p2")]


def test_a_folder_takes_more_policies_and_no_other_change(make_design, tmp_path):
    design = make_design(4, 1, 9, correction="arrival")
    with StudyFolder(tmp_path) as folder:
        folder.agree(first_of(design, 2))
        folder.agree(design)
        assert read_study_design(tmp_path / "study.json") == design
        for changed, complaint in (
            (first_of(design, 3), "policy 'p3': here, absent there"),
            (replace(design, alpha=0.1), "alpha: 0.05 here, 0.1 there"),
            (replace(design, policies=design.policies[::-1]), "order of arrival"),
            (replace(make_design(5, 1, 9), max_episodes=10), "max_episodes"),
        ):
            with pytest.raises(LedgerError, match=re.escape(complaint)):
                folder.agree(changed)
        assert read_study_design(tmp_path / "study.json") == design


@pytest.mark.parametrize(
    "num_leagues", [30, pytest.param(1000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_where_nothing_differs_a_league_is_wrong_at_most_as_often_as_it_says(
    make_design, record_of, num_leagues
):
    """Seven policies come one by one, everything is looked at after each rollout, and somebody
    waits with the next until an earlier one looks lucky."""
    alpha = 0.2
    whole = make_design(7, 1, 20, alpha=alpha, correction="arrival")
    rng = np.random.default_rng(6)
    record_of = functools.cache(record_of)
    wrong = 0
    for _ in range(num_leagues):
        rate = float(rng.choice((0.3, 0.5, 0.8)))
        outcomes = rng.random((7, 20)) < rate
        records, ever = [], False
        for num_policies in range(2, 8):
            study = Study(first_of(whole, num_policies), records)
            while (key := next_rollout(study)) is not None:
                success = outcomes[int(key.policy[1]), key.scenario_index]
                records.append(record_of(*key, bool(success)))
                study.add(records[-1])
                ever |= any(each.winner for each in study.standing().comparisons)
            lucky = outcomes[:num_policies].mean(axis=1).max() > rate + 0.1
            if not lucky and num_policies >= 4:
                break
        wrong += ever
    margin = 3.0 * (alpha * (1.0 - alpha) / num_leagues) ** 0.5 if num_leagues < 1000 else 0.0
    assert wrong / num_leagues <= alpha + margin
