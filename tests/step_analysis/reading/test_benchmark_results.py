"""vla-eval's and LeRobot's result files, as their code writes them."""

import json

import pytest

from step_analysis.ledger import LedgerError
from step_analysis.loading import load_rollouts
from step_analysis.reading.lerobot import UNNAMED_TASK
from step_analysis.rollouts import Outcome

BENCHMARK = "LIBEROBenchmark_libero_10"


def _vla_eval(**given):
    """As `ResultCollector.get_benchmark_result` makes it; keys can be given."""
    episodes = [
        {"metrics": {"success": True}, "steps": 118, "elapsed_sec": 11.8, "episode_id": 0},
        {"metrics": {"success": False}, "steps": 300, "elapsed_sec": 30.0, "episode_id": 1},
        {
            "episode_id": 2,
            "metrics": {"success": False},
            "failure_reason": "connection_closed",
            "failure_detail": "code=1011 reason=internal error",
        },
    ]
    return {
        "benchmark": BENCHMARK,
        "mode": "sync",
        "harness_version": "0.8.0",
        "created_at": "2026-08-12T02:13:10+00:00",
        "tasks": [
            {
                "task": "put the black bowl in the drawer",
                "episodes": episodes,
                "num_episodes": 3,
                "avg_steps": 139.3,
                "num_errors": 1,
                "mean_success": 0.3333,
            }
        ],
        "config": {
            "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
            "mode": "sync",
            "episodes_per_task": 4,
            "max_steps": None,
            "params": {"suite": "libero_10", "seed": 7},
            "recording": None,
        },
        "seed": 7,
        "metric_keys": {"success": "mean"},
        "mean_success": 0.3333,
        "server_info": {"name": "oft"},
    } | given


def _lerobot(*successes, **metrics):
    """As `eval_policy_all` returns it, with the NaN that Python's json writes."""
    figures = {"sum_rewards": [1.0], "max_rewards": [1.0], "video_paths": []} | metrics
    per_task = [
        {"task_group": "libero_10", "task_id": i, "metrics": figures | {"successes": of_task}}
        for i, of_task in enumerate(successes)
    ]
    overall = {"pc_success": float("nan"), "n_episodes": len(successes), "eval_s": 3.5}
    return {"per_task": per_task, "per_group": {"libero_10": overall}, "overall": overall}


def _write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


@pytest.mark.parametrize("is_named_itself", [False, True])
def test_vla_eval_by_its_content(tmp_path, is_named_itself):
    path = _write(tmp_path / "oft" / f"{BENCHMARK}.json", _vla_eval())
    (policy,) = load_rollouts([path if is_named_itself else tmp_path])
    (name,) = policy.tasks
    task = policy.tasks[name]
    assert (policy.policy, name) == ("oft", f"{BENCHMARK}/put the black bowl in the drawer")
    assert [r.outcome for r in task.outcomes.values()] == ["success", "failure", "error"]
    assert [r.num_control_steps for r in task.outcomes.values()] == [118, 300, None]
    assert (task.requested, task.num_missing) == ((0, 1, 2, 3), 1)
    assert task.outcomes[2].message == "connection_closed: code=1011 reason=internal error"
    assert policy.protocols[0].settings[f"{BENCHMARK}.params.suite"] == "libero_10"
    assert policy.remarks


def test_vla_evals_errors_count_as_failures_only_when_asked_for(tmp_path):
    _write(tmp_path / "oft" / "merged.json", _vla_eval())
    (policy,) = load_rollouts([tmp_path], count_infrastructure=True)
    (task,) = policy.tasks.values()
    assert task.outcomes[2].outcome is Outcome.FAILURE
    assert task.scored_as_failure == {2}


def test_the_shards_of_vla_eval_are_one_evaluation(tmp_path):
    whole = _vla_eval()
    episodes = whole["tasks"][0]["episodes"]
    for shard in (0, 1):
        tasks = [whole["tasks"][0] | {"episodes": episodes[shard::2]}]
        path = tmp_path / "oft" / f"{BENCHMARK}_shard{shard}of2.json"
        _write(path, whole | {"tasks": tasks, "shard": {"id": shard, "total": 2}})
    (policy,) = load_rollouts([tmp_path])
    (task,) = policy.tasks.values()
    assert (list(task.outcomes), task.repeats, len(policy.sources)) == ([0, 1, 2], (), 2)


def test_a_task_without_episodes_is_left_out_and_told(tmp_path):
    tasks = [*_vla_eval()["tasks"], {"task": "never begun", "episodes": []}]
    _write(tmp_path / "oft" / "merged.json", _vla_eval(tasks=tasks, config={}))
    (policy,) = load_rollouts([tmp_path])
    assert len(policy.tasks) == 1
    assert f"task '{BENCHMARK}/never begun' has no episodes and is left out" in policy.remarks


@pytest.mark.parametrize("is_named_itself", [False, True])
def test_lerobot_by_its_name_and_content(tmp_path, is_named_itself):
    path = _write(tmp_path / "act" / "eval_info.json", _lerobot([True, False], [False, 1.0]))
    (policy,) = load_rollouts([path if is_named_itself else tmp_path])
    assert (policy.policy, list(policy.tasks)) == ("act", ["libero_10/0", "libero_10/1"])
    outcomes = [r.outcome for t in policy.tasks.values() for r in t.outcomes.values()]
    assert outcomes == ["success", "failure", "failure", "success"]


def test_lerobots_older_file_has_one_task(tmp_path):
    per_episode = [
        {"episode_ix": i, "sum_reward": 0.5, "max_reward": 1.0, "success": i == 1, "seed": 1000 + i}
        for i in range(3)
    ]
    document = {"per_episode": per_episode, "aggregated": {"pc_success": 33.3}}
    _write(tmp_path / "act" / "eval_info.json", document)
    (policy,) = load_rollouts([tmp_path])
    task = policy.tasks[UNNAMED_TASK]
    assert [(r.seed, r.outcome.value) for r in task.outcomes.values()] == [
        (1000, "failure"),
        (1001, "success"),
        (1002, "failure"),
    ]


def _episode(**change):
    episode = {"episode_id": 0, "metrics": {"success": True}} | change
    return _vla_eval(tasks=[{"task": "t", "episodes": [episode]}])


@pytest.mark.parametrize(
    ("name", "document", "complaint"),
    [
        ("r", _vla_eval(tasks=None), "tasks: a list expected, got None"),
        ("r", _vla_eval(tasks=[1]), r"tasks\[0\]: a JSON object expected, got 1"),
        ("r", _vla_eval(tasks=[{"task": ""}]), r"tasks\[0\]\.task: text expected"),
        ("r", _episode(metrics=None), r"tasks\[0\]\.episodes\[0\]\.metrics: a JSON object"),
        ("r", _episode(metrics={"score": 1}), r"metrics: no 'success' among \['score'\]"),
        ("r", _episode(metrics={"success": 0.4}), r"metrics\.success: true or false .* got 0\.4"),
        ("r", _episode(metrics={"success": float("nan")}), r"metrics\.success: .* got nan"),
        ("r", _episode(episode_id="a"), r"episodes\[0\]: scenario_index: an integer"),
        ("r", _episode(elapsed_sec=float("inf")), r"episodes\[0\]: duration_s: a finite number"),
        ("r", _vla_eval(config={"episodes_per_task": 10**12}), r"config\.episodes_per_task: at mo"),
        ("r", _vla_eval(config=[]), "config: a JSON object expected"),
        ("eval_info", _lerobot([0.5]), r"per_task\[0\]\.metrics\.successes\[0\]: true or false"),
        ("eval_info", _lerobot([True, None]), r"successes\[1\]: true or false .* got None"),
        ("eval_info", _lerobot([float("nan")]), r"successes\[0\]: true or false .* got nan"),
        ("eval_info", _lerobot("10"), r"successes: a list expected, got '10'"),
        (
            "eval_info",
            {"per_task": [{}], "overall": {}},
            r"per_task\[0\]\.task_group: text expecte",
        ),
        (
            "eval_info",
            {"per_episode": [{"success": True}]},
            r"per_episode\[0\]: scenario_index: an",
        ),
        ("eval_info", {}, "per_episode: a list expected"),
    ],
)
def test_wrong_fields_are_named(tmp_path, name, document, complaint):
    path = _write(tmp_path / "policy" / f"{name}.json", document)
    with pytest.raises(LedgerError, match=rf"{name}\.json: .*{complaint}"):
        load_rollouts([path])


def test_of_what_a_json_is_can_be_said(tmp_path):
    path = _write(tmp_path / "policy" / "odd.json", {"tasks": []})
    with pytest.raises(LedgerError, match=r"odd\.json: neither .*--from says what it is"):
        load_rollouts([path])
    with pytest.raises(LedgerError, match="benchmark: text expected"):
        load_rollouts([path], source_format="vla-eval")
