"""One evaluation under several conditions, each a folder of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.output_folder import OutputFolder
from sim_client.evaluation.sweep import SweepConfig, run
from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, Ledger, write_design
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

Script = Callable[[Mapping[int, str]], None]


def sweep_config(output: Path, address: str = "127.0.0.1:1", **options: Any) -> SweepConfig:
    evaluation = EvaluationConfig(
        tasks=("PickAndPlaceBox",),
        episodes=EpisodeRange(0, 3),
        address=address,
        output=output,
        workers=1,
        wait_for_server_s=20.0,
        time_limit_s=1.0,
    )
    return SweepConfig(evaluation=evaluation, **options)


def test_each_latency_and_shift_is_an_evaluation_of_its_own(
    served: Any, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script({1: "failure"})
    config = sweep_config(
        tmp_path, served.address, latencies_ms="0,100", shifts="nominal;lighting=high"
    )
    assert run(config, station_factory="fake_station:build") == 0
    curve = json.loads((tmp_path / "sweep.json").read_text())
    assert [(point["shift"], point["latency_ms"]) for point in curve["points"]] == [
        ("nominal", 0.0),
        ("nominal", 100.0),
        ("lighting=high", 0.0),
        ("lighting=high", 100.0),
    ]
    for point in curve["points"]:
        assert (point["num_successes"], point["num_episodes"]) == (2, 3)
    said = capsys.readouterr().out
    assert "2/3" in said
    designs = [json.loads(path.read_text()) for path in tmp_path.glob("*/hold/evaluation.json")]
    assert len({json.dumps(design["station"], sort_keys=True) for design in designs}) == 4

    num_episodes = len(served.reset_indices)
    assert num_episodes == 12
    assert run(config, station_factory="fake_station:build") == 0
    assert len(served.reset_indices) == num_episodes, "a second run repeats nothing"


def test_ctrl_c_with_the_last_verdict_of_a_condition_ends_the_sweep(
    served: Any,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script({})
    config = sweep_config(tmp_path, served.address, latencies_ms="0,100")
    record, num_recorded = OutputFolder.record, 0

    def record_then_interrupt(folder: OutputFolder, *episode: Any) -> RolloutRecord:
        nonlocal num_recorded
        recorded = record(folder, *episode)
        num_recorded += 1
        if num_recorded in {3, 6}:
            signal.raise_signal(signal.SIGINT)
        return recorded

    monkeypatch.setattr(OutputFolder, "record", record_then_interrupt)
    assert run(config, station_factory="fake_station:build") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "sim-client: interrupted"
    assert num_recorded == 3
    # There is nothing after the last one.
    assert run(config, station_factory="fake_station:build") == 0
    assert num_recorded == 6


def test_a_policy_of_which_no_episode_is_decided_has_no_rate(
    served: Any, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one's evaluation under the same conditions was begun, and had only errors."""
    script({})
    other = tmp_path / "nominal-0ms" / "other"
    other.mkdir(parents=True)
    design = EvaluationDesign(
        policy="other",
        policy_digest="other",
        tasks=("PickAndPlaceBox",),
        num_episodes=3,
        max_sample_size=3,
    )
    write_design(other / DESIGN_FILE_NAME, design)
    with Ledger(other / LEDGER_FILE_NAME) as ledger:
        ledger.append(
            RolloutRecord(
                policy="other",
                task="PickAndPlaceBox",
                scenario_index=0,
                seed=1,
                outcome=Outcome.ERROR,
            )
        )
    config = sweep_config(tmp_path, served.address, latencies_ms="0")
    assert run(config, station_factory="fake_station:build") == 0
    (_, undecided) = json.loads((tmp_path / "sweep.json").read_text())["points"]
    assert (undecided["policy"], undecided["num_episodes"]) == ("other", 0)
    assert "0/0     no episode decided" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "expected --latencies-ms or --shifts"),
        ({"latencies_ms": "0,soon"}, "expected milliseconds, such as 0,100,200"),
        ({"latencies_ms": "0,-1"}, "expected milliseconds"),
        ({"latencies_ms": "100,100"}, "named twice"),
    ],
)
def test_what_makes_no_curve_is_refused(
    options: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=complaint):
        sweep_config(tmp_path, **options)
