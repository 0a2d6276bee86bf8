"""`sim-client plan`, as a user asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_interface.client import PolicyClient
from policy_server.metrics_endpoint import MetricsEndpoint
from policy_server.testing import NoisePolicy, running_server
from sim_client.command_line import run

RESULTS = Path(__file__).parents[3] / "docs" / "examples" / "early_late" / "final"
EPISODE = ("--episode-s", "4", "--control-steps", "80", "--open-loop-steps", "8")
PASSES = ("--pass-ms", "1:20,4:40")
PRICES = ("--cpu-hour", "0.05", "--gpu-hour", "2")


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_prices_decide_and_a_deadline_multiplies_servers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = (
        *EPISODE,
        *PASSES,
        *PRICES,
        "--episodes",
        "100000",
        "--within-h",
        "10",
        "--cores",
        "50",
    )
    told = plan(capsys, *asked)
    # 4 plans in 40 ms, 10 plans an episode.
    assert told["most_episodes_per_hour"] == pytest.approx(36000)
    # Ten rounds of 0.4 s and a pass of 20 ms while there is no queue.
    assert told["choices"][0]["episodes_per_hour"] == pytest.approx(3600 / 4.2, rel=0.02)
    assert told["saturation"] == pytest.approx(100 * 0.42)
    right = told["right"]
    for choice in told["choices"]:
        hourly = 2 + 0.05 * (choice["num_simulators"] + 1)
        assert choice["cost"] == pytest.approx(hourly / choice["episodes_per_hour"])
        assert right["cost"] <= choice["cost"]
    assert 30 <= right["num_simulators"] <= 50
    assert right["max_batch_size"] == 4
    job = told["job"]
    assert job["servers"] == -(-10000 // right["episodes_per_hour"])
    assert job["hours"] <= 10
    assert job["simulators"] == job["servers"] * right["num_simulators"]
    assert job["cost"] == pytest.approx(100000 * right["cost"])


def test_no_more_simulators_than_cores(capsys: pytest.CaptureFixture[str]) -> None:
    told = plan(capsys, *EPISODE, *PASSES, "--cores", "9", "--cores-per-simulator", "2")
    assert [choice["num_simulators"] for choice in told["choices"]] == [1, 2, 3, 4]
    assert told["right"]["num_simulators"] == 4


def test_an_evaluation_tells_what_its_episodes_took(capsys: pytest.CaptureFixture[str]) -> None:
    told = plan(capsys, "--measured", str(RESULTS), *PASSES, "--cores", "2")
    measured = told["measured"]
    ledger = [json.loads(line) for line in (RESULTS / "ledger.jsonl").read_text().splitlines()]
    assert measured["num_episodes"] == len(ledger)
    assert measured["wall_s"] == pytest.approx(sum(r["wall_s"] for r in ledger) / len(ledger))
    assert measured["steps_per_plan"] == 8
    assert measured["plans"] == pytest.approx(measured["control_steps"] / 8)
    waited_s = measured["plans"] * measured["plan_wait_s"]
    thought_s = measured["plans"] * told["workload"]["think_s"]
    assert thought_s + waited_s == pytest.approx(measured["wall_s"])


def test_a_server_tells_what_its_passes_took(
    capsys: pytest.CaptureFixture[str], make_observation: Any
) -> None:
    with (
        running_server(NoisePolicy(chunk_length=4)) as server,
        PolicyClient(server.address) as client,
        MetricsEndpoint("127.0.0.1:0", server.server.metrics.registry) as page,
    ):
        asked = (*EPISODE, "--server-metrics", page.address, "--cores", "1")
        assert run(["plan", *asked]) == 2
        assert "no batch size of which 5 forward passes" in capsys.readouterr().err
        client.reset(seed=0)
        for _ in range(20):
            client.step(make_observation())
        told = plan(capsys, *asked)
        metrics = server.server.metrics
    assert told["pass_s"] == {"1": pytest.approx(metrics.forward_pass_s / 5)}
    assert 0 < told["step_s"] < 1


def test_a_benchmark_tells_it_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "passes.json"
    free = {"1": {"plain": {"ms": 10.0}}, "2": {"plain": {"ms": 12.0}}}
    file.write_text(json.dumps({"plan_by_batch_size": {"free": free}}))
    told = plan(capsys, *EPISODE, "--pass-file", str(file), "--cores", "2")
    assert told["pass_s"] == {"1": 0.01, "2": 0.012}
    assert run(["plan", *EPISODE, "--pass-file", str(file), "--variant", "compiled"]) == 2
    assert "the variant 'compiled'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "suffix",
    ["svg", *(pytest.param(each, marks=pytest.mark.slow) for each in ("png", "pdf"))],
)
def test_a_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"farm.{suffix}"
    assert run(["plan", *EPISODE, *PASSES, "--cores", "3", "--plot", str(path)]) == 0
    told = capsys.readouterr().out
    assert "Right: 3 simulators a server" in told
    assert "3 cores are fewer than it could feed." in told
    assert path.stat().st_size > 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (PASSES, "expected --measured, or --episode-s"),
        (("--measured", ".", "--episode-s", "3", *PASSES), "--measured: not with --episode-s"),
        (EPISODE, "one of --server-metrics, --pass-file and --pass-ms"),
        ((*EPISODE, "--pass-ms", "1:20,1:30"), "--pass-ms '1:20,1:30': expected SIZE:MS"),
        ((*EPISODE, "--pass-ms", "4:-3"), "more than 0 seconds"),
        ((*EPISODE, "--pass-ms", "4:nan"), "expected SIZE:MS"),
        ((*EPISODE, "--pass-file", "nowhere"), "--pass-file nowhere: No such file"),
        ((*EPISODE, "--server-metrics", "127.0.0.1"), "expected HOST:PORT"),
        ((*EPISODE, "--server-metrics", "127.0.0.1:1"), "does a server run with"),
        ((*EPISODE, *PASSES, "--cores", "1", "--cores-per-simulator", "2"), "--cores 1"),
        ((*EPISODE, *PASSES, "--within-h", "2"), "--within-h: expected with --episodes"),
        ((*EPISODE, *PASSES, "--replicas", "0"), "--replicas: expected at least 1"),
        ((*EPISODE, *PASSES, "--plot", "a.bmp"), "--plot a.bmp"),
        (("--measured", "/dev/null", *PASSES), "holds no evaluation"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
