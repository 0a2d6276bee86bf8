"""Evaluations that go as they should: outcomes, resuming, designs, results for others' tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from policy_interface.contract import CONTRACT_KEY, Contract, ImageSize
from sim_client.tasks.catalog import TASKS
from step_analysis.ledger import read_design, read_ledger
from step_analysis.results_json import read_results_tree
from step_analysis.rollouts import Outcome, RolloutRecord

Script = Callable[[Mapping[int, str]], None]


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    return tmp_path / "rollouts"


def ledger_of(rollouts: Path, policy: str = "hold") -> list[RolloutRecord]:
    return read_ledger(rollouts / policy / "ledger.jsonl")


def test_records_each_way_in_which_an_episode_ends(
    served: Any, evaluate: Any, script: Script, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script({1: "failure", 2: "timeout"})
    assert evaluate("0:4", workers=2) == 0

    records = {record.scenario_index: record for record in ledger_of(rollouts)}
    outcomes = [records[i].outcome for i in range(4)]
    assert outcomes == [Outcome.SUCCESS, Outcome.FAILURE, Outcome.TIMEOUT, Outcome.SUCCESS]
    assert [records[i].num_control_steps for i in range(4)] == [4, 4, 10, 4]
    assert records[0].duration_s == pytest.approx(0.4)
    assert [records[i].seed for i in range(4)] == [100_000_100 + i for i in range(4)]
    assert sorted(served.reset_indices) == [0, 1, 2, 3]
    # NaN is no JSON number; it must not cost the record.
    assert records[0].detail == {"num_steps": 4.0, "gap_m": "nan"}
    assert {record.progress for record in records.values()} == {1.0}
    assert records[2].instruction == "PickAndPlaceBox, phrasing 1"
    assert len({record.state_digest for record in records.values()}) == 4
    latency = records[2].policy_latency
    assert latency is not None
    assert latency.num_steps == 10
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.max_ms < 30_000
    out = capsys.readouterr().out
    assert "PickAndPlaceBox: 2/4 succeeded (50.0%), 1 failed, 1 timed out" in out
    assert f"step-analysis report {rollouts}" in out


def test_results_json_is_one_that_lbm_eval_and_foundry_tools_read(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({1: "failure"})
    assert evaluate("0:3", tasks=("PickAndPlaceBox,PutMugOnSaucer",), max_sample_size=10) == 0
    mug, box = sorted(read_results_tree(rollouts), key=lambda file: file.path, reverse=True)
    assert (box.policy, mug.policy) == ("hold", "hold")
    assert {record.task for record in box.records} == {"PickAndPlaceBox"}
    assert {record.task for record in mug.records} == {"PutMugOnSaucer"}
    assert [record.outcome for record in box.records] == ["success", "failure", "success"]
    assert box.max_sample_size == 10
    assert not box.pending
    assert box.path.parent.name == mug.path.parent.name


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shift": "lightning=high"}, "--shift: unknown shift 'lightning=high'"),
        ({"latency_ms": 33.0}, "--latency-ms: latency: expected a multiple of 0.01 s"),
    ],
)
def test_conditions_that_the_station_lacks_are_refused_before_anything_runs(
    policy: Any, evaluate: Any, capsys: pytest.CaptureFixture[str], options: Any, complaint: str
) -> None:
    assert evaluate(address="127.0.0.1:1", **options) == 2
    assert complaint in capsys.readouterr().err


def test_all_means_every_task(served: Any, evaluate: Any, rollouts: Path) -> None:
    assert evaluate("0:1", tasks=("all",), workers=2) == 0
    assert {record.task for record in ledger_of(rollouts)} == set(TASKS)


def test_order_of_completion_does_not_matter(
    served: Any, evaluate: Any, rollouts: Path, make_gate: Any
) -> None:
    first = make_gate(0)

    def before_step(step: Any) -> None:
        if step.scenario_index == 3:
            first.open()
        first(step)

    served.before_step = before_step
    assert evaluate("0:4", workers=2) == 0
    assert ledger_of(rollouts)[0].scenario_index != 0
    (results,) = read_results_tree(rollouts)
    assert [record.scenario_index for record in results.records] == [0, 1, 2, 3]


def test_a_second_run_of_the_same_evaluation_runs_nothing_again(
    served: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("0:2") == 0
    before = (rollouts / "hold" / "ledger.jsonl").read_bytes()
    assert evaluate("0:2") == 0
    assert (rollouts / "hold" / "ledger.jsonl").read_bytes() == before
    assert len(read_results_tree(rollouts)) == 1
    assert "resuming: 2 of 2 are done already" in capsys.readouterr().out


def test_extends_within_the_budget_fixed_beforehand_and_never_beyond(
    served: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("0:1", max_sample_size=3) == 0
    assert evaluate("0:3") == 0
    assert len(ledger_of(rollouts)) == 3
    design = read_design(rollouts / "hold" / "evaluation.json")
    assert (design.num_episodes, design.max_sample_size) == (3, 3)
    assert evaluate("0:4") == 2
    assert "use a new --output" in capsys.readouterr().err
    assert evaluate("0:4", max_sample_size=4) == 2
    assert "max_sample_size: 3 here, 4 there" in capsys.readouterr().err
    assert read_design(rollouts / "hold" / "evaluation.json") == design


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"episodes": "1:3"}, "first_episode: 0 here, 1 there"),
        ({"episodes": "0:1"}, "num_episodes: 2 here, 1 there"),
        ({"tasks": ("PutMugOnSaucer",)}, "tasks: ('PickAndPlaceBox',) here"),
        ({"time_limit_s": 2.0}, "time_limits_s.PickAndPlaceBox: 1.0 here, 2.0 there"),
        ({"shift": "lighting=high"}, "station.shift: '' here, 'lighting=high' there"),
        ({"latency_ms": 100.0}, "station.latency_ms: 0.0 here, 100.0 there"),
    ],
)
def test_refuses_to_mix_with_another_evaluation(
    served: Any,
    evaluate: Any,
    rollouts: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    difference: str,
) -> None:
    folder = rollouts / "hold"
    assert evaluate("0:2") == 0
    before = (folder / "evaluation.json").read_bytes(), (folder / "ledger.jsonl").read_bytes()
    assert evaluate(**{"episodes": "0:2"} | options) == 2
    assert difference in capsys.readouterr().err
    after = (folder / "evaluation.json").read_bytes(), (folder / "ledger.jsonl").read_bytes()
    assert after == before


@pytest.mark.parametrize(
    ("key", "difference"),
    [
        ("assay.checkpoint_sha256", "policy_digest: 'one' here, 'two' there"),
        # The same weights, replanned at another rate.
        ("assay.open_loop_steps", "software.assay.open_loop_steps: '8' here, 'two' there"),
    ],
)
def test_refuses_another_policy_under_the_same_name(
    served: Any, evaluate: Any, capsys: pytest.CaptureFixture[str], key: str, difference: str
) -> None:
    assert evaluate("0:1") == 0
    served.runtime_information[key] = "two"
    assert evaluate("0:1") == 2
    assert difference in capsys.readouterr().err


def test_contract_mismatch_lists_every_difference_and_runs_nothing(
    policy: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = Contract(
        cameras={
            "scene_right_O": ImageSize(height=8, width=12),
            "overhead": ImageSize(height=8, width=8),
        },
        arms=("right::panda",),
        grippers=("right::panda_hand",),
        gripper_unit="mm",
        control_rate_hz=30.0,
    )
    policy.runtime_information[CONTRACT_KEY] = contract.to_json()
    policy.start()
    assert evaluate() == 1
    (line,) = capsys.readouterr().err.splitlines()
    for part in (
        "'scene_right_O' missing",
        "did you mean 'scene_right_0'?",
        "'overhead' missing",
        "arms:",
        "grippers:",
        "gripper unit: the station uses 'm', the policy 'mm'",
        "control rate in Hz: the station uses 10.0, the policy 30.0",
    ):
        assert part in line
    assert not list(rollouts.iterdir())
    assert not policy.reset_indices


def test_a_foreign_server_without_contract_or_health_gets_the_default_cameras(
    policy: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.runtime_information = {}
    policy.has_health = False
    policy.start()
    assert evaluate("0:1") == 0
    assert "states no contract; it gets the station's default: " in capsys.readouterr().out
    design = read_design(rollouts / "hold" / "evaluation.json")
    assert set(design.station["contract"]["cameras"]) == {
        "scene_right_0",
        "scene_left_0",
        "wrist_right_minus",
        "wrist_left_plus",
    }
    assert design.policy_digest.startswith("metadata-sha256:")


def test_a_hostile_policy_name_stays_inside_the_output(
    policy: Any, evaluate: Any, rollouts: Path, tmp_path: Path
) -> None:
    policy.name = "../../outside/é"
    policy.start()
    assert evaluate("0:1") == 0
    (folder,) = rollouts.iterdir()
    assert ledger_of(rollouts, folder.name)[0].policy == "../../outside/é"
    assert {path.name for path in tmp_path.iterdir()} == {"rollouts", "marks"}


def test_a_policy_name_that_no_record_can_hold_asks_for_another(
    policy: Any, evaluate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.name = "two\nlines"
    policy.start()
    assert evaluate("0:1") == 2
    assert "--policy-name" in capsys.readouterr().err
    assert evaluate("0:1", policy_name="one line") == 0


def test_the_design_says_what_was_evaluated(served: Any, evaluate: Any, rollouts: Path) -> None:
    assert evaluate("0:1") == 0
    design = json.loads((rollouts / "hold" / "evaluation.json").read_text())
    assert design["policy_digest"] == "one"
    assert design["station"]["contract"]["cameras"] == {"scene_right_0": [8, 12]}
    assert design["station"]["time_limits_s"] == {"PickAndPlaceBox": 1.0}
    assert (design["station"]["shift"], design["station"]["latency_ms"]) == ("", 0.0)
    assert set(design["software"]) == {"assay", "drake", "assay.open_loop_steps"}
