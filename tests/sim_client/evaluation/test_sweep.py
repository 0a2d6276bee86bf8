"""One evaluation under several conditions, each a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.sweep import SweepConfig, run

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
