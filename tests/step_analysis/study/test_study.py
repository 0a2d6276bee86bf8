"""What a study decides: a function of the records alone, with its error bounded."""

import functools
import heapq
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_analysis.comparison import compare
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.methods import make_test
from step_analysis.rollouts import Outcome
from step_analysis.strict_json import FormatError
from step_analysis.study.allocation import next_rollout
from step_analysis.study.comparisons import Stage
from step_analysis.study.study import Study

TASKS = ("PickAndPlaceBox", "PushCoasterToMug", "PutMugOnSaucer")
TASK = TASKS[0]
CHOICES = (
    {},
    {"correction": "holm"},
    {"correction": "benjamini-hochberg"},
    {"question": "best"},
    {"test": "betting"},
    {"scope": "overall"},
)


def outcomes_of(design, rates, rng):
    return {
        (policy.name, task): rng.random(design.max_episodes) < rate
        for policy, rate in zip(design.policies, rates, strict=True)
        for task in design.tasks
    }


def run_out_of_order(design, outcomes, record_of, *, workers, rng, error=0.1, kill=0.05):
    """Run a study on a clock of its own: failures take longer, attempts fail, the runner is killed.

    Returns the study, what was ever decided at any look, and how many rollouts were run.
    """
    study, records, running, clock, ever, tries = Study(design), [], [], 0.0, set(), {}
    last = None
    while not study.standing().is_finished:
        while len(running) < workers:
            key = next_rollout(study, busy=[key for _, key in running])
            if key is None:
                break
            success = outcomes[key.policy, key.task][key.scenario_index]
            heapq.heappush(running, (clock + rng.exponential(1.0 if success else 3.0), key))
        clock, key = heapq.heappop(running)
        tries[key] = tries.get(key, 0) + 1
        success = bool(outcomes[key.policy, key.task][key.scenario_index])
        failed = tries[key] < 3 and rng.random() < error
        records.append(record_of(*key, Outcome.ERROR if failed else success))
        study.add(records[-1])
        if study.standing() is not last:
            last = study.standing()
            ever |= {(e.tasks, e.winner, e.loser) for e in last.comparisons if e.winner}
        if rng.random() < kill:
            running = []
            study = Study(design, rng.permutation(np.array(records, dtype=object)).tolist())
    return study, ever, sum(record.outcome.counts for record in records)


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_the_verdict_is_that_of_a_calm_run_whatever_happens_on_the_way(
    make_design, record_of, choices
):
    rng = np.random.default_rng(5)
    for rates in ((0.2, 0.5, 0.9), (0.5, 0.5, 0.8), (0.5, 0.5, 0.5)):
        design = make_design(3, 2, 24, alpha=0.2, **choices)
        outcomes = outcomes_of(design, rates, rng)
        calm, _, num_rollouts = run_out_of_order(
            design, outcomes, record_of, workers=1, rng=rng, error=0.0, kill=0.0
        )
        used = calm.standing().num_rollouts_used
        assert used <= num_rollouts <= design.num_rollouts
        for workers in (8, 32):
            wild, ever, _ = run_out_of_order(design, outcomes, record_of, workers=workers, rng=rng)
            assert wild.standing().comparisons == calm.standing().comparisons
            assert wild.standing().num_rollouts_used == used
            # What was told on the way was never taken back.
            final = {(e.tasks, e.winner, e.loser) for e in wild.standing().comparisons if e.winner}
            assert ever == final


@settings(max_examples=60)
@given(data=st.data())
def test_any_order_of_any_records_gives_the_same_and_more_never_unsay_it(
    make_design, record_of, data
):
    choices = data.draw(st.sampled_from(CHOICES))
    design = make_design(3, 2, 8, alpha=0.4, **choices)
    bits = st.lists(st.booleans(), min_size=48, max_size=48)
    values = data.draw(bits)
    places = itertools.product((p.name for p in design.policies), design.tasks, range(8))
    records = [record_of(*place, value) for place, value in zip(places, values, strict=True)]
    some = data.draw(st.lists(st.sampled_from(records), unique_by=lambda r: r.key))
    standing = Study(design, some).standing()
    assert Study(design, some[::-1]).standing() == standing
    one_by_one = Study(design)
    for record in some:
        one_by_one.add(record)
        one_by_one.standing()
    assert one_by_one.standing() == standing
    later = Study(design, records).standing()
    for now, then in zip(standing.comparisons, later.comparisons, strict=True):
        if now.winner is not None:
            assert (then.winner, then.stage) == (now.winner, Stage.DECIDED)
        assert now.time <= then.time or now.winner is not None


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_what_a_verdict_is_said_to_rest_on_is_enough_for_it(make_design, record_of, choices):
    """At any look: exactly the records that are counted as used give the same standing again."""
    rng = np.random.default_rng(17)
    num_decided = 0
    for rates in ((0.1, 0.9), (0.1, 0.5, 0.9), (0.4, 0.5, 0.9), (0.1, 0.2, 0.9)):
        for num_tasks in (1, 1, 1, 2, 2):
            design = make_design(len(rates), num_tasks, 24, alpha=0.2, **choices)
            outcomes = outcomes_of(design, rates, rng)
            records = [
                record_of(*cell, i, bool(values[i]))
                for cell, values in outcomes.items()
                for i in range(int(rng.integers(6, 25)))
            ]
            standing = Study(design, records).standing()
            kept = [r for r in records if r.scenario_index < standing.num_used(r.policy, r.task)]
            assert Study(design, kept).standing() == standing
            assert len(kept) == standing.num_rollouts_used
            num_decided += sum(e.winner is not None for e in standing.comparisons)
    assert num_decided > 5


def test_of_one_pair_holm_says_the_time_and_level_that_bonferroni_does(make_design, record_of):
    """It falls at alpha for both directions together; that none is left is no reason to look
    back at a looser level."""
    rng = np.random.default_rng(3)
    num_decided = 0
    for _ in range(20):
        plain, stepwise = (
            make_design(2, 1, 40, correction=name) for name in ("bonferroni", "holm")
        )
        outcomes = outcomes_of(plain, (0.3, 0.8), rng)
        records = [
            record_of(*cell, i, bool(value))
            for cell, values in outcomes.items()
            for i, value in enumerate(values)
        ]
        expected = Study(plain, records).standing().comparisons
        assert Study(stepwise, records).standing().comparisons == expected
        num_decided += expected[0].winner is not None
    assert num_decided > 10


def test_what_is_kept_between_looks_changes_no_verdict(make_design, record_of):
    """Against what the first version said, which began anew at every look and kept nothing; Holm's
    times and levels are of later, of the level at which each fell."""
    known = json.loads((Path(__file__).parents[1] / "data" / "study_verdicts.json").read_text())
    num_decided = 0
    for case in known:
        num_policies, num_tasks, max_episodes = (
            case["policies"],
            case["tasks"],
            case["max_episodes"],
        )
        design = make_design(num_policies, num_tasks, max_episodes, alpha=0.2, **case["choices"])
        rng = np.random.default_rng(case["seed"])
        records = []
        for index in range(max_episodes):
            for policy, rate in zip(design.policies, case["rates"], strict=True):
                for task in TASKS[:num_tasks]:
                    draw = float(rng.random())
                    score = round(1.0 - draw * (1.0 - rate), 3)
                    progress = score if design.measure == "progress" else None
                    records.append(
                        record_of(policy.name, task, index, draw < rate, progress=progress)
                    )
        # Nearly in order: each may be late by twenty places.
        late = np.arange(len(records)) + rng.uniform(0, 20, len(records))
        study = Study(design)
        looks = dict(case["looks"])
        for number, place in enumerate(np.argsort(late, kind="stable").tolist(), start=1):
            study.add(records[place])
            standing = study.standing()
            if number in looks:
                found = [
                    [e.stage, e.winner, e.time, e.alpha_per_side] for e in standing.comparisons
                ]
                assert found == looks[number], (case["seed"], number)
        num_decided += sum(e.winner is not None for e in study.standing().comparisons)
    assert num_decided == 66


def test_a_comparison_decides_where_its_test_does_and_reads_no_more(make_design, record_of):
    design = make_design(2, 1, 40)
    rng = np.random.default_rng(1)
    outcomes = outcomes_of(design, (0.2, 0.9), rng)
    study, _, num_rollouts = run_out_of_order(
        design, outcomes, record_of, workers=1, rng=rng, error=0.0, kill=0.0
    )
    arms = [outcomes[name, TASK].astype(int) for name in ("p0", "p1")]
    expected = make_test("paired", 40, 0.025).run(*arms)
    (verdict,) = study.standing().comparisons
    assert expected.decision == 1
    assert (verdict.winner, verdict.time) == ("p1", expected.time)
    assert num_rollouts == 2 * expected.time < 80


def test_the_levels_are_those_of_all_pairs_and_panels(make_design):
    assert Study(make_design(2, 1, 9)).standing().comparisons[0].alpha_per_side == 0.025
    three = Study(make_design(3, 2, 9)).standing()
    assert len(three.comparisons) == 3 * 3
    assert {e.alpha_per_side for e in three.comparisons} == {0.025 / 9}
    overall = Study(make_design(3, 2, 9, scope="overall")).standing()
    assert {(e.tasks, e.n_max) for e in overall.comparisons} == {(make_design(3, 2, 9).tasks, 18)}


@pytest.mark.parametrize("correction", ["bonferroni", "holm"])
def test_a_finished_study_is_the_comparison_of_all_its_rollouts(make_design, record_of, correction):
    """The same that `step_analysis.comparison` finds, which knows nothing of stopping."""
    rng = np.random.default_rng(8)
    design = make_design(3, 2, 20, alpha=0.2, correction=correction)
    outcomes = outcomes_of(design, (0.2, 0.6, 0.9), rng)
    study = run_out_of_order(design, outcomes, record_of, workers=3, rng=rng)[0]
    policies = [
        PolicyRollouts(
            policy=policy.name,
            design=None,
            sources=(),
            tasks={
                task: TaskRollouts(
                    task=task,
                    outcomes={
                        i: record_of(policy.name, task, i, bool(outcomes[policy.name, task][i]))
                        for i in range(20)
                    },
                    requested=tuple(range(20)),
                    max_sample_size=20,
                    budget_is_recorded=True,
                )
                for task in design.tasks
            },
        )
        for policy in design.policies
    ]
    whole = compare(policies, alpha=0.2, method="paired", correction=correction, family="study")
    assert whole.aggregate is not None
    panels = [*whole.task_panels, whole.aggregate]
    expected = {(p.tasks, e.arm0, e.arm1): (e.winner, e.time) for p in panels for e in p.pairs}
    found = {(e.tasks, *e.arms): (e.winner, e.time) for e in study.standing().comparisons}
    assert found == expected
    assert any(winner for winner, _ in found.values())


def test_who_is_beaten_gets_no_more_rollouts_where_the_question_is_the_best(make_design, record_of):
    rng = np.random.default_rng(3)
    num_rollouts = {}
    for question in ("ranking", "best"):
        design = make_design(4, 1, 60, question=question)
        outcomes = outcomes_of(design, (0.1, 0.15, 0.2, 0.95), np.random.default_rng(3))
        study, _, num_rollouts[question] = run_out_of_order(
            design, outcomes, record_of, workers=1, rng=rng, error=0.0, kill=0.0
        )
        standing = study.standing()
        assert all(e.winner == "p3" for e in standing.comparisons if "p3" in e.arms)
        rest = {e.stage for e in standing.comparisons if "p3" not in e.arms}
        assert rest == {Stage.UNDECIDED if question == "ranking" else Stage.SET_ASIDE}
    assert num_rollouts["ranking"] > 3 * 60 > 2 * num_rollouts["best"]


def test_decided_policies_are_left_out_and_the_others_advance_together(make_design, record_of):
    design = make_design(3, 1, 30)
    study = Study(design)
    asked = []
    while (key := next_rollout(study)) is not None:
        asked.append(key)
        # p2 always fails; the others are alike.
        study.add(record_of(*key, key.policy != "p2"))
    last = {name: max(k.scenario_index for k in asked if k.policy == name) for name in
            ("p0", "p1", "p2")}  # fmt: skip
    assert last["p2"] < 20
    assert last["p0"] == last["p1"] == 29
    assert [key.scenario_index for key in asked] == sorted(key.scenario_index for key in asked)


def test_an_episode_that_was_given_up_holds_up_only_who_needs_it(make_design, record_of):
    design = make_design(2, 2, 10, scope="tasks")
    study = Study(design)
    first = next_rollout(study)
    assert first is not None
    study.add(record_of(*first, Outcome.ERROR))
    assert next_rollout(study) == first
    asked = set()
    while (key := next_rollout(study, given_up={first})) is not None:
        asked.add(key.task)
        study.add(record_of(*key, True))
    assert asked == set(design.tasks) - {first.task}
    held_up, free = study.standing().comparisons
    assert (held_up.stage, held_up.time, free.stage) == (Stage.OPEN, 0, Stage.UNDECIDED)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"policy": "p7"}, "no policy and task of this study"),
        ({"task": "PutMugOnSaucer"}, "no policy and task of this study"),
        ({"index": 30}, "beyond the budget of this study, scenarios 0 to 29"),
        ({"seed": 5}, "seed 5, but every policy of this study meets seed 100000103 there"),
    ],
)
def test_records_of_another_study_are_refused(make_design, record_of, change, complaint):
    place = {"policy": "p0", "task": TASK, "index": 3} | change
    seed = {"seed": place.pop("seed")} if "seed" in place else {}
    record = record_of(place["policy"], place["task"], place["index"], True, **seed)
    with pytest.raises(FormatError, match=complaint):
        Study(make_design(2, 1, 30), [record])


def test_two_outcomes_of_one_episode_are_refused(make_design, record_of):
    with pytest.raises(FormatError, match="two counted records, only one may decide"):
        Study(make_design(2, 1, 9), [record_of("p0", TASK, 1, flag) for flag in (True, False)])


def test_progress_decides_where_success_cannot(make_design, record_of):
    """Nobody ever succeeds, but one comes much further."""
    rng = np.random.default_rng(2)
    scores = {"p0": 0.2 + 0.2 * rng.random(60), "p1": 0.6 + 0.2 * rng.random(60)}
    records = [
        record_of(name, TASK, i, False, progress=float(score))
        for name, all_scores in scores.items()
        for i, score in enumerate(all_scores)
    ]
    by_success = Study(make_design(2, 1, 60), records).standing()
    assert by_success.comparisons[0].stage is Stage.UNDECIDED
    design = make_design(2, 1, 60, test="betting", measure="progress")
    (verdict,) = Study(design, records).standing().comparisons
    assert verdict.winner == "p1"
    assert verdict.time < 60
    with pytest.raises(FormatError, match="no progress score"):
        Study(design, [record_of("p0", TASK, 0, True)])


_KINDS = {
    "two": (2, 1, 30, {}),
    "three, two tasks and overall": (3, 2, 16, {}),
    "three, Holm": (3, 2, 16, {"correction": "holm"}),
    "three, who is best": (3, 2, 16, {"question": "best"}),
}


@pytest.mark.parametrize(
    "num_studies", [12, pytest.param(2000, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("kind", _KINDS)
def test_where_nothing_differs_a_study_is_wrong_at_most_as_often_as_it_says(
    make_design, record_of, kind, num_studies
):
    """With a look after every attempt, and any number of workers; three standard deviations are
    left for few studies."""
    num_policies, num_tasks, max_episodes, choices = _KINDS[kind]
    alpha = 0.2
    design = make_design(num_policies, num_tasks, max_episodes, alpha=alpha, **choices)
    rng = np.random.default_rng(11)
    record_of = functools.cache(record_of)
    wrong = 0
    for _ in range(num_studies):
        rates = [float(rng.choice((0.3, 0.5, 0.8)))] * num_policies
        outcomes = outcomes_of(design, rates, rng)
        workers = int(rng.choice((1, 8, 32)))
        wrong += bool(run_out_of_order(design, outcomes, record_of, workers=workers, rng=rng)[1])
    margin = 3.0 * (alpha * (1.0 - alpha) / num_studies) ** 0.5 if num_studies < 1000 else 0.0
    assert wrong / num_studies <= alpha + margin
