import random

import pytest

from step_analysis.comparison import compare
from step_analysis.examples.published import load_example
from step_analysis.ledger import Ledger
from step_analysis.loading import load_rollouts
from step_analysis.rollouts import Outcome
from step_analysis.sequential.lai import LaiTest
from step_analysis.sequential.step import StepTest

TASK = "PickAndPlaceBox"


def _pair(root, **options):
    comparison = compare(load_rollouts([root]), **options)
    assert comparison.overall is not None
    (pair,) = comparison.overall.pairs
    return pair


@pytest.mark.slow
def test_released_rollouts_give_the_letters_and_decisions_of_the_reference(
    reference, make_evaluation
):
    excerpt = reference("foundry_excerpt")
    policies = sorted({p for task in excerpt["tasks"].values() for p in task["outcomes"]})
    for policy in policies:
        by_task = {name: task["outcomes"][policy] for name, task in excerpt["tasks"].items()}
        root = make_evaluation(policy, by_task, budget=excerpt["budget"])
    comparison = compare(load_rollouts([root]), alpha=0.05, sides="one")
    for panel in comparison.task_panels:
        expected = excerpt["tasks"][panel.title]
        assert dict(panel.letters) == expected["letters"]
        assert {count.policy: count.successes for count in panel.counts} == expected["successes"]
        assert [[pair.arm0, pair.arm1, _decision(pair)] for pair in panel.pairs] == expected[
            "decisions"
        ]
    assert comparison.aggregate is not None
    assert {pair.test.name for pair in comparison.aggregate.pairs} == {"STEP"}
    assert {pair.test.n_max for pair in comparison.aggregate.pairs} == {600}


def test_alpha_is_for_both_directions_and_all_pairs(make_evaluation):
    for policy in "abcd":
        root = make_evaluation(policy, "1010101010")
    comparison = compare(load_rollouts([root]), alpha=0.06)
    (panel,) = comparison.task_panels
    assert len(panel.pairs) == 6
    levels = [pair.test.alpha_per_side for pair in panel.pairs]
    assert levels == pytest.approx([0.06 / 6 / 2] * 6)
    assert set(panel.letters.values()) == {"a"}
    assert comparison.aggregate is None
    assert comparison.overall is panel


def test_the_order_of_finishing_changes_nothing(make_evaluation, tmp_path):
    rng = random.Random(5)
    arms = {
        "early": "".join(rng.choice("0001") for _ in range(40)),
        "trained": "".join(rng.choice("0111") for _ in range(40)),
    }
    results = []
    for number in range(3):
        order = list(range(40))
        if number:
            rng.shuffle(order)
        for policy, outcomes in arms.items():
            root = make_evaluation(policy, outcomes, order=order, root=tmp_path / str(number))
        pair = _pair(root)
        results.append((pair.winner, pair.time, pair.outcomes0, pair.outcomes1))
    assert results[0][0] == "trained"
    assert results[1:] == results[:1] * 2


@pytest.mark.parametrize(("gap", "reason"), [("e", "met an error in"), ("-", "has not finished")])
def test_a_gap_ends_what_may_be_looked_at(make_evaluation, tmp_path, gap, reason):
    def verdict(after_gap: str, name: str):
        root = tmp_path / name
        make_evaluation("early", "0" * 30, root=root)
        make_evaluation("trained", "11" + gap + after_gap, root=root)
        return _pair(root)

    all_good, all_bad = verdict("1" * 27, "good"), verdict("0" * 27, "bad")
    for pair in (all_good, all_bad):
        assert (pair.winner, pair.time, pair.num_available, pair.test.n_max) == (None, 2, 2, 30)
        assert pair.stopped_because == f"trained {reason} {TASK} scenario 2"


@pytest.mark.parametrize(
    ("first", "num_common", "reason"),
    [(20, 0, "no scenario was asked of both"), (12, 8, "8 of the budget of 20 episodes")],
)
def test_only_scenarios_asked_of_both_are_compared(
    tmp_path, make_record, first, num_common, reason
):
    for policy, begin, outcome in (("a", 0, Outcome.SUCCESS), ("b", first, Outcome.FAILURE)):
        (tmp_path / policy).mkdir()
        with Ledger(tmp_path / policy / "ledger.jsonl") as ledger:
            for i in range(begin, begin + 20):
                ledger.append(make_record(policy=policy, scenario_index=i, outcome=outcome))
    pair = _pair(tmp_path)
    assert pair.num_available == num_common
    assert reason in str(pair.stopped_because)
    assert pair.winner == ("a" if num_common else None)


def test_the_smaller_budget_bounds_the_test(make_evaluation):
    make_evaluation("a", "1" * 10, budget=80)
    root = make_evaluation("b", "0" * 10, budget=20)
    pair = _pair(root)
    assert (pair.test.n_max, pair.num_available) == (20, 10)
    assert pair.stopped_because == "10 of the budget of 20 episodes were asked for"


def test_the_method_follows_the_budget_unless_chosen(make_evaluation):
    make_evaluation("a", "1", budget=1001)
    root = make_evaluation("b", "0", budget=1001)
    assert _pair(root).test.name == "Lai"
    assert _pair(root, method="savi").test.name == "SAVI"


def test_the_aggregate_weighs_tasks_equally_at_any_time(make_evaluation):
    tasks = ("PickAndPlaceBox", "PutMugOnSaucer", "TurnCupUpsideDown")
    for policy, code in (("a", "1"), ("b", "0")):
        by_task = dict.fromkeys(tasks, code * 12) | ({"OnlyHere": "1"} if policy == "a" else {})
        root = make_evaluation(policy, by_task, budget=12)
    comparison = compare(load_rollouts([root]))
    assert comparison.aggregate is not None
    assert comparison.overall is comparison.aggregate
    assert comparison.aggregate.tasks == tasks
    (pair,) = comparison.aggregate.pairs
    assert (pair.test.n_max, pair.num_available, pair.winner) == (36, 36, "a")
    assert [p.title for p in comparison.task_panels] == ["OnlyHere", *tasks]


def test_a_gap_in_one_task_ends_the_aggregate_at_its_block(make_evaluation):
    make_evaluation("a", {"TaskA": "1" * 10, "TaskB": "1" * 4 + "e" + "1" * 5})
    root = make_evaluation("b", {"TaskA": "0" * 10, "TaskB": "0" * 10})
    pair = _pair(root)
    assert 8 <= pair.num_available <= 9
    assert pair.stopped_because == "a met an error in TaskB scenario 4"


def test_both_methods_keep_alpha_on_stratified_tasks():
    """Two equal policies over an easy and a hard task, in blocks as the aggregate has them."""
    rng = random.Random(11)
    n, alpha, num_runs = 50, 0.05, 3000
    for test in (StepTest(n, alpha), LaiTest(n, alpha)):
        wrong = 0
        for _ in range(num_runs):
            x, y = ([int(rng.random() < (0.9, 0.2)[i % 2]) for i in range(n)] for _ in range(2))
            wrong += test.run(x, y).decision == 1
        # Stratification only lowers the variance: well below alpha, here by four deviations.
        assert wrong / num_runs < alpha


@pytest.mark.parametrize("panel", ["lbm3", "mixed3"])
def test_published_panels_get_the_letters_and_decisions_of_the_reference(reference, panel):
    """All pairs of two panels of three models; docs/statistics.md tells what alpha / 2 changes."""
    expected = reference("foundry_letters")["panels"][panel]
    policies = [p for p in load_example("foundry") if p.policy in expected["policies"]]
    comparison = compare(policies, alpha=0.05, sides="one")
    assert comparison.aggregate is not None
    panels = {panel.title: panel for panel in comparison.task_panels}
    panels["__aggregate__"] = comparison.aggregate
    assert set(panels) == set(expected["tasks"])
    for task, found in panels.items():
        assert dict(found.letters) == expected["tasks"][task]["letters"], task
        decisions = [[pair.arm0, pair.arm1, _decision(pair)] for pair in found.pairs]
        assert decisions == expected["tasks"][task]["decisions"], task


def test_halving_alpha_for_both_directions_changes_four_borderline_pairs():
    """Those that docs/statistics.md lists; each was decided late, and none turns around."""
    changed = []
    for names in (
        ("LBM-FT", "LBM-MT", "LBM-ST"),
        ("Foundry-Qwen3VLA-2.1B", "Foundry-VLA-1.7B-full", "LBM-MT"),
    ):
        policies = [p for p in load_example("foundry") if p.policy in names]
        one, two = (compare(policies, sides=sides) for sides in ("one", "two"))
        for first, second in zip(one.task_panels, two.task_panels, strict=True):
            for a, b in zip(first.pairs, second.pairs, strict=True):
                if a.winner != b.winner:
                    assert b.winner is None
                    assert a.time > 160
                    changed.append((first.title, a.arm0, a.arm1))
        assert one.aggregate is not None
        assert two.aggregate is not None
        for a, b in zip(one.aggregate.pairs, two.aggregate.pairs, strict=True):
            if a.winner != b.winner:
                assert b.winner is None
                changed.append(("all tasks", a.arm0, a.arm1))
    assert changed == [
        ("BimanualStoreCerealBoxUnderShelf", "LBM-FT", "LBM-ST"),
        ("PushCoasterToMug", "LBM-FT", "LBM-ST"),
        ("all tasks", "LBM-FT", "LBM-MT"),
        ("BimanualPutSpatulaOnPlateFromTable", "Foundry-Qwen3VLA-2.1B", "Foundry-VLA-1.7B-full"),
    ]


def _decision(pair):
    return {None: 0, pair.arm1: 1, pair.arm0: -1}[pair.winner]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        compare([], alpha=alpha)


def _arms(make_evaluation, tasks):
    """Policies a > b > c, far apart on the first task and close on the others."""
    rng = random.Random(7)
    rates = {"a": (0.95, 0.6), "b": (0.5, 0.55), "c": (0.1, 0.5)}
    for policy, (first, others) in rates.items():
        by_task = {
            task: "".join(rng.choices("10", (rate, 1.0 - rate), k=40))
            for task, rate in zip(tasks, (first, others, others), strict=True)
        }
        root = make_evaluation(policy, by_task)
    return load_rollouts([root])


TASKS = ("TaskA", "TaskB", "TaskC")


def test_one_side_by_itself_gets_all_of_alpha(make_evaluation):
    policies = _arms(make_evaluation, TASKS)
    one, two = (compare(policies, alpha=0.06, sides=sides) for sides in ("one", "two"))
    for single, double in zip(one.task_panels, two.task_panels, strict=True):
        for a, b in zip(single.pairs, double.pairs, strict=True):
            assert a.test.alpha_per_side == pytest.approx(0.06 / 3)
            assert b.test.alpha_per_side == pytest.approx(0.06 / 3 / 2)
    with pytest.raises(ValueError, match="must be below 0.5, got 0.5"):
        compare(policies, alpha=0.5, sides="one")


def test_the_family_may_be_the_whole_study(make_evaluation):
    comparison = compare(_arms(make_evaluation, TASKS), alpha=0.06, method="lai", family="study")
    assert comparison.aggregate is not None
    panels = [*comparison.task_panels, comparison.aggregate]
    # Three pairs on each of three tasks and over all of them.
    levels = [pair.test.alpha_per_side for panel in panels for pair in panel.pairs]
    assert levels == pytest.approx([0.06 / 12 / 2] * 12)


@pytest.mark.parametrize(
    ("method", "family"),
    [("step", "panel"), ("paired", "panel"), ("barnard", "study"), ("lai", "panel")],
)
def test_holm_and_hochberg_decide_what_bonferroni_does_and_more(make_evaluation, method, family):
    policies = _arms(make_evaluation, TASKS)
    found = {}
    for correction in ("bonferroni", "holm", "benjamini-hochberg"):
        comparison = compare(
            policies, alpha=0.1, method=method, correction=correction, family=family
        )
        panels = [*comparison.task_panels, comparison.aggregate]
        found[correction] = {
            (panel.title, pair.arm0, pair.arm1): (pair.winner, pair.test.alpha_per_side)
            for panel in panels
            for pair in panel.pairs
        }
    for fewer, more in (("bonferroni", "holm"), ("holm", "benjamini-hochberg")):
        for key, (winner, level) in found[fewer].items():
            assert winner in (None, found[more][key][0])
            assert level <= found[more][key][1] * (1 + 1e-12)
    winners = [w for w, _ in found["holm"].values() if w]
    assert len(winners) >= 3
    if family == "panel":
        levels = [level for (title, *_), (_, level) in found["holm"].items() if title == "TaskA"]
        won = [w is not None for (title, *_), (w, _) in found["holm"].items() if title == "TaskA"]
        # One after the other falls at alpha over those left; who is left stays at that level.
        fell = [0.1 / left for left in range(6, 6 - sum(won), -1)]
        assert sorted(v for v, is_won in zip(levels, won, strict=True) if is_won) == fell
        assert {v for v, is_won in zip(levels, won, strict=True) if not is_won} <= {
            0.1 / (6 - sum(won))
        }


def test_a_holm_verdict_is_that_of_the_test_at_its_level(make_evaluation):
    comparison = compare(_arms(make_evaluation, TASKS), method="lai", correction="holm")
    for panel in comparison.task_panels:
        for pair in panel.pairs:
            verdict = pair.test.run(pair.outcomes0, pair.outcomes1)
            if pair.winner is not None:
                assert verdict.decision == (1 if pair.winner == pair.arm1 else -1)
                assert pair.time >= verdict.time
                read = (pair.outcomes0[: pair.time], pair.outcomes1[: pair.time])
                assert pair.test.run(*read) == verdict
