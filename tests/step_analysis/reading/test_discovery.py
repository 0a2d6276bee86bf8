"""What is read of a folder, what is left out, and that nothing breaks on what lies there."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from step_analysis.ledger import LEDGER_FILE_NAME, LedgerError
from step_analysis.loading import load_rollouts, read_rollouts
from step_analysis.results_json import RESULTS_FILE_NAME

TASK = "PickAndPlaceBox"


def test_formats_in_one_folder_are_told_apart(tmp_path, make_evaluation, write_results_json):
    make_evaluation("ours", "110", root=tmp_path)
    write_results_json(tmp_path / "lbm" / "results-1.json", "pick_and_place_box", "11")
    foundry = tmp_path / "foundry" / TASK / "rollouts" / "now" / RESULTS_FILE_NAME
    write_results_json(foundry, "pick_and_place_box", "10")
    table = tmp_path / "others.csv"
    table.write_text(f"policy,task,episode,success\ncsv,{TASK},0,1\n", encoding="utf-8")
    info = tmp_path / "lerobot" / "eval_info.json"
    info.parent.mkdir()
    per_task = [{"task_group": "g", "task_id": 0, "metrics": {"successes": [True]}}]
    info.write_text(json.dumps({"per_task": per_task, "overall": {}}), encoding="utf-8")

    def policies(source_format=None):
        return [p.policy for p in load_rollouts([tmp_path], source_format=source_format)]

    assert policies() == ["csv", "foundry", "lbm", "lerobot", "ours"]
    assert policies("csv") == ["csv"]
    assert policies("ledger") == ["ours"]
    assert policies("lerobot") == ["lerobot"]
    assert policies("lbm-eval") == ["lbm", "now"]
    assert policies("vla-eval") == []


def test_what_is_left_out_is_named_with_the_reason(tmp_path, make_evaluation):
    make_evaluation("trained", "110", root=tmp_path)
    (tmp_path / "table.csv").write_text("task,rate\na,0.5\n", encoding="utf-8")
    (tmp_path / "two.csv").write_text("policy,model,task,trial,success\n", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "recording.mp4").write_bytes(b"")
    rollouts = read_rollouts([tmp_path])
    assert [policy.policy for policy in rollouts.policies] == ["trained"]
    reasons = {left.path.name: left.reason for left in rollouts.left_out}
    assert sorted(reasons) == ["broken.parquet", "config.json", "table.csv", "two.csv"]
    assert "no column for the policy" in reasons["table.csv"]
    assert "could each be the policy" in reasons["two.csv"]
    assert "no known format" in reasons["config.json"]
    assert "not parquet" in reasons["broken.parquet"]


def test_links_are_followed_and_lead_nowhere_twice(tmp_path, write_results_json):
    real = tmp_path / "storage" / "model"
    write_results_json(
        real / TASK / "rollouts" / "now" / RESULTS_FILE_NAME, "pick_and_place_box", "10"
    )
    (real / "up").symlink_to(tmp_path / "storage")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "renamed").symlink_to(real)
    (policy,) = load_rollouts([tmp_path / "named"])
    assert (policy.policy, len(policy.sources)) == ("renamed", 1)


def test_a_folder_is_named_by_what_it_is_not_by_a_dot(tmp_path, write_results_json, monkeypatch):
    write_results_json(tmp_path / "pi0" / "results-1.json", "pick_and_place_box", "10")
    monkeypatch.chdir(tmp_path / "pi0")
    assert load_rollouts(["."])[0].policy == "pi0"
    assert load_rollouts(["results-1.json"])[0].policy == "pi0"
    assert load_rollouts([Path("..") / "pi0"])[0].policy == "pi0"


def test_results_below_a_ledger_can_be_asked_for(tmp_path, make_evaluation, write_results_json):
    root = make_evaluation("trained", "110", root=tmp_path)
    copy = root / "trained" / TASK / "rollouts" / "now" / RESULTS_FILE_NAME
    write_results_json(copy, "pick_and_place_box", "11111")
    assert len(load_rollouts([root])[0].tasks[TASK].outcomes) == 3
    (policy,) = load_rollouts([root], source_format="foundry")
    assert len(policy.tasks[TASK].outcomes) == 5


def test_a_design_that_would_fill_the_memory_is_refused(make_evaluation):
    root = make_evaluation("trained", "1")
    design = root / "trained" / "evaluation.json"
    value = json.loads(design.read_text(encoding="utf-8"))
    value |= {"num_episodes": 2**62, "max_sample_size": 2**62}
    design.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(LedgerError, match=r"evaluation\.json: .*max_sample_size: at most 1000000"):
        load_rollouts([root])


def test_a_file_of_absurd_size_is_refused_unread(tmp_path):
    path = tmp_path / "model" / "results-1.json"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(LedgerError, match=r"results-1\.json: 1024 MiB, more than the 64 MiB"):
        load_rollouts([tmp_path])


_SEEDS = {
    "results-1.json": {
        "max_sample_size_per_model": 9,
        "evaluations": [
            {
                "skill_type": "put_mug",
                "scenario_index": 0,
                "is_pending": False,
                "total_time": 1.5,
                "is_success": False,
                "failure_message": "Traceback",
            }
        ],
    },
    "eval_info.json": {
        "per_task": [{"task_group": "g", "task_id": 0, "metrics": {"successes": [True, False]}}],
        "overall": {"pc_success": 50.0},
    },
    "aggregate.json": {
        "benchmark": "B",
        "harness_version": "0.8.0",
        "config": {"episodes_per_task": 2, "params": {"seed": 1}},
        "tasks": [
            {
                "task": "t",
                "episodes": [
                    {"episode_id": 0, "metrics": {"success": True}, "steps": 3},
                    {"episode_id": 1, "metrics": {"success": False}, "failure_reason": "timeout"},
                ],
            }
        ],
    },
}
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def _places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, item in inner:
        yield from _places(item, (*path, key))


def _replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def _read_without_surprise(folder, name, content):
    """Reading gives rollouts, or says in one line why not, naming the file."""
    path = folder / "policy" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        for named in (path, path.parent):
            load_rollouts([named])
    except LedgerError as error:
        assert name in str(error) or "no column" in str(error)
        assert "\n" not in str(error)
    finally:
        shutil.rmtree(path.parent)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_value_is_read_or_named(tmp_path, data):
    name = data.draw(st.sampled_from(sorted(_SEEDS)))
    place = data.draw(st.sampled_from(sorted(_places(_SEEDS[name]), key=str)))
    changed = _replaced(_SEEDS[name], place, data.draw(_VALUES))
    _read_without_surprise(tmp_path, name, json.dumps(changed).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_byte_is_read_or_named(tmp_path, data):
    texts = {name: json.dumps(value).encode() for name, value in _SEEDS.items()}
    texts["episodes.csv"] = (
        b"policy,task,episode,success,seed,total_time,budget\na,t,0,1,7,1.5,9\na,t,1,false,,,9\n"
    )
    texts["rename.yaml"] = b"models: {policy: p}\ntasks: {PutMug: 'Mug:'}\n"
    name = data.draw(st.sampled_from(sorted(texts)))
    content = bytearray(texts[name])
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 8))
    content[start : start + length] = data.draw(st.binary(max_size=6))
    if name == "rename.yaml":
        (tmp_path / "policy").mkdir()
        (tmp_path / "policy" / "results-1.json").write_bytes(texts["results-1.json"])
        path = tmp_path / "policy" / name
        path.write_bytes(bytes(content))
        try:
            load_rollouts([path.parent])
        except LedgerError as error:
            assert name in str(error)
            assert "\n" not in str(error)
        finally:
            shutil.rmtree(path.parent)
    else:
        _read_without_surprise(tmp_path, name, bytes(content))


def test_a_ledger_below_a_ledger_is_read_too(tmp_path, make_evaluation):
    root = make_evaluation("first", "1", root=tmp_path, folder=".outer")
    make_evaluation("second", "1", root=root / ".outer")
    assert (root / ".outer" / "second" / LEDGER_FILE_NAME).exists()
    assert [policy.policy for policy in load_rollouts([root])] == ["first", "second"]
