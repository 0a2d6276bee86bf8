"""What an evaluation says of where its numbers came from, and --like, which compares it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.likeness import differences, simulator_differences
from step_analysis.provenance import Provenance, read_provenance

THEN = Provenance(
    policy={"name": "pick@100", "checkpoint": "aa", "assay.open_loop_steps": "8"},
    servers=({"torch": "2.7.0", "python": "3.11.2", "device": "cpu"},),
    simulators=(
        {"drake": "1.51.1", "gl_renderer": "own by llvmpipe", "executor": "local"},
        {"drake": "1.51.1", "gl_renderer": "own by a GPU", "executor": "local"},
    ),
    protocol={"latency_ms": 0.0, "time_limits_s": {"A": 10.0}, "contract": {"cameras": {"x": 1}}},
    seeds={"range": "evaluation", "first_seed": 100, "first_episode": 0, "tasks": ["A"]},
)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"policy": {**THEN.policy, "checkpoint": "bb"}},
            "policy.checkpoint: 'aa' there, 'bb' here",
        ),
        (
            {"policy": {**THEN.policy, "assay.open_loop_steps": "4"}},
            "policy.assay.open_loop_steps: '8' there, '4' here",
        ),
        (
            {"servers": ({"torch": "2.8.0", "python": "3.11.2", "device": "cpu"},)},
            "server.torch: '2.7.0' there, '2.8.0' here",
        ),
        (
            {"servers": ({"python": "3.11.2", "device": "cpu"},)},
            "server.torch: '2.7.0' there, not stated here",
        ),
        (
            {"protocol": {**THEN.protocol, "latency_ms": 100.0}},
            "protocol.latency_ms: 0.0 there, 100.0 here",
        ),
        (
            {"protocol": {**THEN.protocol, "contract": {"cameras": {}}}},
            "protocol.contract.cameras: not stated there, {} here",
        ),
        (
            {"protocol": {**THEN.protocol, "time_limits_s": {"A": 20.0}}},
            "protocol.time_limits_s.A: 10.0 there, 20.0 here",
        ),
        (
            {"seeds": {**THEN.seeds, "first_seed": 7}},
            "seeds.first_seed: 100 there, 7 here",
        ),
        (
            {"simulators": ({"drake": "1.52.0", "executor": "local"},)},
            "simulator.drake: '1.51.1' there, '1.52.0' here",
        ),
    ],
)
def test_what_an_outcome_may_depend_on_is_told_unless_allowed(
    change: dict[str, Any], line: str
) -> None:
    now = replace(THEN, **change)
    matters, _ = differences(THEN, now)
    assert line in matters
    name = line.partition(": ")[0]
    for allowed in (name, name.partition(".")[0]):
        matters, noted = differences(THEN, now, allowed=[allowed])
        assert line not in matters
        assert line in noted


@pytest.mark.parametrize(
    "change",
    [
        {"policy": {**THEN.policy, "name": "pick"}},
        {"servers": ({"torch": "2.7.0", "python": "3.12.1", "device": "cpu"},)},
        {"seeds": {**THEN.seeds, "first_episode": 50, "tasks": ["B"]}},
        {"protocol": {**THEN.protocol, "time_limits_s": {"B": 5.0}}},
        {"simulators": ({"drake": "1.51.1", "executor": "docker", "image_id": "sha256:1"},)},
    ],
)
def test_more_of_the_same_elsewhere_is_only_noted(change: dict[str, Any]) -> None:
    assert differences(THEN, replace(THEN, **change))[0] == []
    assert differences(THEN, THEN) == ([], [])


def test_a_simulator_is_compared_with_the_one_that_is_most_like_it() -> None:
    gpu = {"drake": "1.51.1", "gl_renderer": "own by a GPU"}
    assert simulator_differences(THEN.simulators, gpu, ()) == []
    other = {**gpu, "gl_renderer": "vtk by a GPU"}
    (line,) = simulator_differences(THEN.simulators, other, ())
    assert line.startswith("simulator.gl_renderer: 'own by")
    assert simulator_differences(THEN.simulators, other, ["simulator.gl_renderer"]) == []


def test_names_that_cannot_differ_are_refused() -> None:
    for name in ("serve", "server.tourch", "simulator.image_id"):
        with pytest.raises(UsageError, match=f"--allow-different '{name}': expected a name"):
            EvaluationConfig(tasks=("A",), like=Path("p"), allow_different=(name,))
    with pytest.raises(UsageError, match="--allow-different: only with --like"):
        EvaluationConfig(tasks=("A",), allow_different=("server",))


def test_an_evaluation_says_what_it_ran_on_and_another_can_be_held_to_it(
    served: Any,
    evaluate: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served.runtime_information["assay.host"] = json.dumps({"torch": "2.7.0", "device": "cpu"})
    assert evaluate("0:1") == 0
    path = tmp_path / "rollouts" / "hold" / "provenance.json"
    told = read_provenance(path)
    assert told.policy["checkpoint"] == "one"
    assert told.servers == ({"torch": "2.7.0", "device": "cpu"},)
    (simulator,) = told.simulators
    assert simulator["gl_renderer"] == "a brush"
    assert {"assay", "assay_source", "drake", "numpy", "machine", "executor"} <= simulator.keys()
    assert told.protocol["latency_ms"] == 0.0
    assert (told.seeds["first_seed"], told.seeds["num_episodes"]) == (100_000_100, 1)

    # All that differs is told at once, before any simulator starts; nothing is written.
    capsys.readouterr()
    served.runtime_information["assay.host"] = json.dumps({"torch": "2.8.0", "device": "cpu"})
    other = {"like": path, "output": tmp_path / "other"}
    assert evaluate("0:1", latency_ms=100.0, **other) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines[1:]] == [
        "protocol.latency_ms: 0.0 there, 100.0 here",
        "server.torch: '2.7.0' there, '2.8.0' here",
    ]
    assert not (tmp_path / "other" / "hold").exists()

    # What only a simulator knows stops it before it has simulated anything.
    monkeypatch.setenv("FAKE_STATION_GL", "a pencil")
    assert evaluate("0:1", allow_different=("server.torch",), **other) == 1
    assert "simulator.gl_renderer: 'a brush' there, 'a pencil' here" in capsys.readouterr().err
    assert not (tmp_path / "other" / "hold" / "ledger.jsonl").read_bytes()
    assert evaluate("0:1", allow_different=("server", "simulator"), **other) == 0
    assert "not quite like" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "--like: can't read"),
        ("{", "not strict JSON"),
        ('{"version": 2}', "version 2 can't be read"),
        ('{"version": 1, "policy": {}}', "missing servers"),
        (
            '{"version": 1, "policy": {"a": 1}, "servers": [], "simulators": [], "protocol": {},'
            ' "seeds": {}}',
            "policy: an object of texts expected",
        ),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(
    content: str | None,
    problem: str,
    served: Any,
    evaluate: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "provenance.json"
    if content is not None:
        path.write_text(content)
    assert evaluate("0:1", like=path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert str(path) in line
