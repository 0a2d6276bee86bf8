import json
import shutil

import pytest

from step_analysis.ledger import LEDGER_FILE_NAME, LedgerError
from step_analysis.loading import load_rollouts, read_rollouts
from step_analysis.results_json import write_results
from step_analysis.rollouts import Outcome

TASK = "PickAndPlaceBox"


def _results(path, make_record, successes, policy="model", budget=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [make_record(policy=policy, scenario_index=i) for i in successes]
    write_results(
        path,
        records,
        requested=[(TASK, i) for i in successes],
        max_sample_size=budget or len(successes),
        num_processes=1,
        elapsed_s=1.0,
    )


def test_an_output_folder_a_policy_and_a_ledger_say_the_same(make_evaluation):
    make_evaluation("early", "00")
    root = make_evaluation("trained", "11t0e-")
    assert [p.policy for p in load_rollouts([root])] == ["early", "trained"]
    for path in (root / "trained", root / "trained" / LEDGER_FILE_NAME):
        (policy,) = load_rollouts([path])
        task = policy.tasks[TASK]
        assert (len(task.counted), len(task.errors), task.num_missing) == (4, 1, 1)
        assert (task.requested, task.max_sample_size) == (tuple(range(6)), 6)
        assert task.budget_is_recorded
        assert policy.design is not None


def test_a_source_named_twice_is_read_once(make_evaluation):
    root = make_evaluation("trained", "110")
    (policy,) = load_rollouts([root, root / "trained", root / "trained" / LEDGER_FILE_NAME])
    assert len(policy.sources) == 1


def test_results_beside_a_ledger_are_left_alone(make_evaluation, make_record):
    root = make_evaluation("trained", "110")
    _results(
        root / "trained" / TASK / "rollouts" / "now" / "results.json",
        make_record,
        range(50),
        "trained",
    )
    (policy,) = load_rollouts([root])
    assert len(policy.tasks[TASK].counted) == 3


def test_foundry_files_of_one_policy_are_joined(tmp_path, make_record):
    for moment, indices in (("a", range(3)), ("b", range(3, 5))):
        path = tmp_path / "model" / TASK / "rollouts" / moment / "results.json"
        _results(path, make_record, indices, budget=10)
    (policy,) = load_rollouts([tmp_path])
    task = policy.tasks[TASK]
    assert (policy.policy, sorted(task.outcomes), task.max_sample_size) == (
        "model",
        [*range(5)],
        10,
    )


def test_a_missing_budget_is_the_number_asked_for(tmp_path):
    entries = [
        {
            "skill_type": "a",
            "scenario_index": i,
            "is_success": True if i else None,
            "is_pending": not i,
        }
        for i in range(4)
    ]
    path = tmp_path / "model" / "results-2026-01-01.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"evaluations": entries}), encoding="utf-8")
    (policy,) = load_rollouts([path])
    task = policy.tasks["A"]
    assert (task.max_sample_size, task.budget_is_recorded, task.num_missing) == (4, False, 1)


def test_of_an_episode_told_twice_the_first_record_decides(tmp_path, make_evaluation):
    root = make_evaluation("trained", "111")
    make_evaluation("trained", "110", root=tmp_path / "again")
    (policy,) = load_rollouts([root, tmp_path / "again"])
    task = policy.tasks[TASK]
    assert [record.outcome for record in task.counted] == [Outcome.SUCCESS] * 3
    assert [repeat.contradicts for repeat in task.repeats] == [False, False, True]
    assert {repeat.source for repeat in task.repeats} == {policy.sources[1]}


def test_of_two_budgets_the_smaller_holds(tmp_path, make_record):
    for moment, budget in (("a", 10), ("b", 20)):
        path = tmp_path / "model" / TASK / "rollouts" / moment / "results.json"
        _results(path, make_record, [budget], budget=budget)
    (policy,) = load_rollouts([tmp_path])
    task = policy.tasks[TASK]
    assert task.max_sample_size == 10
    assert [(run.source.parent.name, run.budget) for run in task.runs] == [("a", 10), ("b", 20)]


def test_two_checkpoints_under_one_name_are_refused(tmp_path, make_evaluation):
    root = make_evaluation("trained", "111")
    make_evaluation("trained", "111", root=tmp_path / "again")
    design = tmp_path / "again" / "trained" / "evaluation.json"
    design.write_text(
        design.read_text(encoding="utf-8").replace("sha256:trained", "sha256:other"),
        encoding="utf-8",
    )
    paths = [root, tmp_path / "again"]
    with pytest.raises(LedgerError, match="two checkpoints under one name"):
        load_rollouts(paths)
    (policy,) = read_rollouts(paths, allow_mixed_checkpoints=True).policies
    assert policy.digests == ("sha256:trained", "sha256:other")


def test_a_design_of_another_policy_is_refused(make_evaluation):
    root = make_evaluation("trained", "111")
    shutil.copy(root / "trained" / "evaluation.json", make_evaluation("early", "1") / "early")
    with pytest.raises(LedgerError, match=r"holds records of \['early'\], but .* is of 'trained'"):
        load_rollouts([root / "early"])


def test_what_is_no_rollout_is_named(tmp_path):
    with pytest.raises(LedgerError, match="no such file or folder"):
        load_rollouts([tmp_path / "absent"])
    stranger = tmp_path / "notes.txt"
    stranger.write_text("hello", encoding="utf-8")
    with pytest.raises(LedgerError, match=r"notes\.txt: neither a ledger\.jsonl.*--from says"):
        load_rollouts([stranger])
    assert load_rollouts([tmp_path]) == []
