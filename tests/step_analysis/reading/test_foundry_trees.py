"""VLA Foundry's trees and LBM Eval's own files, in the layouts of their repositories."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from step_analysis.ledger import LedgerError
from step_analysis.loading import load_rollouts
from step_analysis.reading.rename import read_renaming
from step_analysis.rollouts import Outcome

TIME = "2026-01-01T00:00:00+00:00"
LATER = "2026-01-02T00:00:00+00:00"

Write = Callable[..., Path]


def _file(root: Path, *folders: str, time: str = TIME) -> Path:
    return root.joinpath(*folders, "rollouts", time, "results.json")


def test_a_mixed_file_counts_as_in_foundrys_own_fixture(tmp_path, write_results_json):
    # 'mixed_pending_crashed_success' of its dashboard: 2 of 3, one pending, one crashed.
    write_results_json(_file(tmp_path, "model_a", "TaskA"), "task_a", "10-x1", budget=50)
    (policy,) = load_rollouts([tmp_path])
    task = policy.tasks["TaskA"]
    assert policy.policy == "model_a"
    assert [record.outcome for record in task.counted] == ["success", "failure", "success"]
    assert (len(task.errors), task.num_missing, task.max_sample_size) == (1, 1, 50)


def test_one_model_in_two_evaluation_sets_is_two_policies(tmp_path, write_results_json):
    write_results_json(_file(tmp_path, "OSS", "model_a", "TaskA"), "task_a", "11")
    write_results_json(_file(tmp_path, "OSS", "model_a", "TaskB"), "task_b", "10")
    write_results_json(_file(tmp_path, "CS", "model_a", "TaskA"), "task_a", "00")
    cs, oss = load_rollouts([tmp_path])
    assert (cs.policy, oss.policy) == ("CS/model_a", "OSS/model_a")
    assert (list(cs.tasks), list(oss.tasks)) == (["TaskA"], ["TaskA", "TaskB"])
    assert [policy.policy for policy in load_rollouts([tmp_path / "CS"])] == ["model_a"]


def test_runs_at_several_times_are_merged_by_scenario(tmp_path, write_results_json):
    write_results_json(_file(tmp_path, "m", "TaskA", time=LATER), "task_a", "01", first=3, budget=9)
    write_results_json(_file(tmp_path, "m", "TaskA"), "task_a", "110", budget=9)
    (policy,) = load_rollouts([tmp_path])
    task = policy.tasks["TaskA"]
    successes = [record.outcome is Outcome.SUCCESS for record in task.outcomes.values()]
    assert (list(task.outcomes), successes) == ([0, 1, 2, 3, 4], [True, True, False, False, True])
    assert [(run.num_requested, run.budget) for run in task.runs] == [(3, 9), (2, 9)]


def test_a_rerun_settles_an_earlier_error(tmp_path, write_results_json):
    write_results_json(_file(tmp_path, "m", "TaskA"), "task_a", "1e0")
    write_results_json(_file(tmp_path, "m", "TaskA", time=LATER), "task_a", "1", first=1)
    task = load_rollouts([tmp_path])[0].tasks["TaskA"]
    assert (len(task.counted), task.errors, task.scored_as_failure) == (3, (), frozenset())


def test_errors_count_as_failures_only_when_asked_for(tmp_path, write_results_json):
    write_results_json(_file(tmp_path, "m", "TaskA"), "task_a", "1e0x")
    outcomes = {}
    for count in (False, True):
        (policy,) = load_rollouts([tmp_path], count_infrastructure=count)
        task = policy.tasks["TaskA"]
        outcomes[count] = [record.outcome.value for record in task.outcomes.values()]
        assert task.scored_as_failure == {1}
    assert outcomes[False] == ["success", "error", "failure", "error"]
    # A crash is no failure to VLA Foundry either.
    assert outcomes[True] == ["success", "failure", "failure", "error"]


@pytest.mark.parametrize("is_named_itself", [False, True])
def test_lbm_evals_own_file_is_of_the_folder_it_lies_in(
    tmp_path, write_results_json, is_named_itself
):
    path = tmp_path / "pi0" / "results-2026-01-01T00:00:00.json"
    write_results_json(path, "put_mug_on_saucer", "10")
    (policy,) = load_rollouts([path if is_named_itself else tmp_path])
    assert (policy.policy, list(policy.tasks)) == ("pi0", ["PutMugOnSaucer"])


def test_tasks_keep_names_that_are_no_skill_types(tmp_path, write_results_json):
    # VLA Foundry's closed set has CamelCase skill types in folders with arrows.
    write_results_json(_file(tmp_path, "LBM-FT", "Mug→Saucer"), "PutMugOnSaucer", "1")
    write_results_json(_file(tmp_path, "LBM-FT", "Fruit"), "Fruit→Bin", "1")
    assert list(load_rollouts([tmp_path])[0].tasks) == ["Fruit→Bin", "PutMugOnSaucer"]


def test_from_foundry_insists_on_its_layout(tmp_path, write_results_json):
    path = write_results_json(tmp_path / "model" / "results.json", "task_a", "1")
    with pytest.raises(LedgerError, match=r"not in VLA Foundry's layout.*--from lbm-eval"):
        load_rollouts([tmp_path], source_format="foundry")
    assert load_rollouts([path], source_format="lbm-eval")[0].policy == "model"


def test_recordings_of_episodes_are_not_searched(tmp_path, write_results_json):
    path = write_results_json(_file(tmp_path, "model", "TaskA"), "task_a", "1")
    recording = path.parent / "task_a" / "demonstration_0"
    recording.mkdir(parents=True)
    (recording / "results.json").write_text("not read", encoding="utf-8")
    assert len(load_rollouts([tmp_path])[0].sources) == 1


class TestRenaming:
    YAML = "models:\n  1.0_a: LBM-A\ntasks:\n  TaskA: 'Task:→A'\ntask_groups:\n  All: [TaskA]\n"

    def test_tasks_and_models_below_the_named_folder(self, tmp_path, write_results_json):
        (tmp_path / "rename.yaml").write_text(self.YAML, encoding="utf-8")
        write_results_json(_file(tmp_path, "CS", "1.0_a", "TaskA"), "task_a", "10")
        write_results_json(_file(tmp_path, "CS", "b", "TaskB"), "task_b", "10")
        renamed, other = load_rollouts([tmp_path])
        assert (renamed.policy, list(renamed.tasks)) == ("CS/LBM-A", ["Task:→A"])
        assert {r.task for r in renamed.tasks["Task:→A"].outcomes.values()} == {"Task:→A"}
        assert (other.policy, list(other.tasks)) == ("CS/b", ["TaskB"])
        # Further down no rename.yaml lies, so nothing is renamed.
        assert load_rollouts([tmp_path / "CS"])[0].policy == "1.0_a"

    def test_two_models_of_one_name_are_refused(self, tmp_path, write_results_json):
        (tmp_path / "rename.yaml").write_text("models: {a: b}\n", encoding="utf-8")
        for model in ("a", "b"):
            write_results_json(_file(tmp_path, model, "TaskA"), "task_a", "1")
        with pytest.raises(LedgerError, match=r"rename\.yaml: models: 'a' and 'b' would both"):
            load_rollouts([tmp_path])

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("a: &a [x]\nb: [*a, *a]\n", "YAML aliases are not read"),
            ("tasks: [" * 5000, "nested too deeply|not YAML"),
            ("tasks: {A: [b]}\n", r"tasks\.A: a name expected, got a sequence"),
            ("tasks: {A: {b: c}}\n", r"tasks\.A: a name expected, got a mapping"),
            ("tasks: {A: x, B: x}\n", "tasks: two are renamed to 'x'"),
            ("tasks: {A: x, A: y}\n", "tasks: 'A' is there twice"),
            ("tasks: {A: ''}\n", r"tasks\.A: a name of 1 to 200"),
            ("tasks: nothing\n", "tasks: a YAML mapping expected, got a scalar"),
            ("{[a]: b}\n", "a name expected as key, got a sequence"),
            ("- a\n", "the document: a YAML mapping expected"),
            ("modles: {a: b}\n", "unknown section 'modles'"),
            ("tasks: {A: b\n", "not YAML"),
            ("!!python/object/apply:os.system [exit]\n", "a YAML mapping expected"),
            ("tasks: \x01\n", "not YAML"),
            (b"tasks: \xff\n", "not YAML"),
            ("# " + "x" * 2**20, "1 MiB, more than"),
        ],
    )
    def test_what_it_may_not_say_is_named(self, tmp_path, text, complaint):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "rename.yaml").write_bytes(content)
        with pytest.raises(LedgerError, match=rf"rename\.yaml: .*({complaint})"):
            load_rollouts([tmp_path])

    @pytest.mark.parametrize("text", ["", "# nothing\n", "tasks:\nmodels:\n"])
    def test_an_empty_one_renames_nothing(self, tmp_path, text):
        (tmp_path / "rename.yaml").write_text(text, encoding="utf-8")
        renaming = read_renaming(tmp_path)
        assert (renaming.tasks, renaming.policy("set/a")) == ({}, "set/a")


def test_the_published_tree_is_read_as_published(tmp_path, reference, write_results_json):
    excerpt = reference("foundry_excerpt")
    for task, published in excerpt["tasks"].items():
        for model, outcomes in published["outcomes"].items():
            write_results_json(
                _file(tmp_path, "CS", model, task), task, outcomes, budget=excerpt["budget"]
            )
    (tmp_path / "rename.yaml").write_text(json.dumps({"tasks": {}}), encoding="utf-8")
    policies = load_rollouts([tmp_path])
    assert [policy.policy for policy in policies] == ["CS/LBM-FT", "CS/LBM-MT", "CS/LBM-ST"]
    for policy in policies:
        for task, rollouts in policy.tasks.items():
            successes = sum(r.outcome is Outcome.SUCCESS for r in rollouts.counted)
            expected = excerpt["tasks"][task]["successes"][policy.policy.removeprefix("CS/")]
            assert (successes, len(rollouts.counted)) == (expected, 200)
