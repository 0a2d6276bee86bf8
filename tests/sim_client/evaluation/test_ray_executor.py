"""Evaluations on a Ray cluster: the same verdicts, each once, whatever becomes of nodes."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.ray_options import RayOptions
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import Outcome, RolloutRecord

HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[2] / "docker" / "quickstart-checkpoint"

Script = Callable[[Mapping[int, str]], None]

# Short enough for a test of what hangs, long enough for a busy machine.
PATIENCE = {"step_timeout_s": 10.0, "wait_for_server_s": 10.0, "stall_timeout_s": 15.0}


def ledger_of(rollouts: Path) -> list[RolloutRecord]:
    (path,) = rollouts.glob("*/ledger.jsonl")
    return read_ledger(path)


def verdicts(rollouts: Path) -> dict[int, tuple[Outcome, int, str | None]]:
    """Of each scenario: the outcome, the seed and the digest of its state. Each has one."""
    counted = [record for record in ledger_of(rollouts) if record.outcome.counts]
    assert max(Counter(record.scenario_index for record in counted).values()) == 1
    return {
        record.scenario_index: (record.outcome, record.seed or 0, record.state_digest)
        for record in counted
    }


def errors(rollouts: Path) -> dict[int, str]:
    return {
        record.scenario_index: record.message or ""
        for record in ledger_of(rollouts)
        if not record.outcome.counts
    }


@pytest.fixture
def cluster(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs; tests add nodes. After `script`, whose environment its nodes have."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    search = [str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, search)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    # As a user's own shell would have it.
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def simulators() -> list[psutil.Process]:
    """Actors, and the worker processes that they started."""
    actors = [each for each, words in processes() if words.startswith("ray::Simulator")]
    return [*actors, *(child for actor in actors for child in actor.children(recursive=True))]


def all_end(some: list[psutil.Process]) -> bool:
    """Whether they do: what is killed is not gone at once."""
    _, alive = psutil.wait_procs(some, timeout=120)
    return not alive


def processes() -> list[tuple[psutil.Process, str]]:
    found = psutil.process_iter(["cmdline"])
    return [(each, " ".join(each.info["cmdline"] or [])) for each in found]


def when(reached: Callable[[], None], act: Callable[[], None]) -> threading.Thread:
    def wait_and_act() -> None:
        reached()
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_simulator_that_dies_or_hangs_costs_no_verdict(
    served: Any, evaluate: Any, script: Script, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fates = {1: "failure", 2: "timeout"}
    script(fates)
    assert evaluate("0:5", output=tmp_path / "here") == 0
    script(fates | {3: "die", 4: "hang"})
    request.getfixturevalue("cluster").add_node(num_cpus=2)
    there = tmp_path / "there"
    assert evaluate("0:5", executor="ray", output=there, workers=2, **PATIENCE) == 0
    assert verdicts(there) == verdicts(tmp_path / "here")
    lost = errors(there)
    assert lost.keys() == {3, 4}
    assert "ended by SIGKILL" in lost[3]
    assert "no sign of life" in lost[4]
    # Files came along.
    for place in (tmp_path / "here", there):
        assert len(list(place.rglob("actions.npz"))) == 5
    assert all_end(simulators())


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_verdict(
    served: Any, evaluate: Any, make_gate: Any, cluster: Any, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    gate = make_gate(1)
    served.before_step = gate

    def lose_the_node() -> None:
        begun = simulators()
        parents = [simulator.ppid() for simulator in begun]
        (node,) = (n for n in nodes if n.all_processes["raylet"][0].process.pid in parents)
        cluster.remove_node(node, allow_graceful=False)
        # What ran there ends a little later, and must not be answered until then.
        assert all_end(begun)
        gate.open()

    thread = when(gate.wait_until_reached, lose_the_node)
    rollouts = tmp_path / "rollouts"
    patience = {"step_timeout_s": 60.0, "stall_timeout_s": 90.0}
    assert evaluate("0:4", executor="ray", workers=1, **patience) == 0
    thread.join()
    assert {i: outcome for i, (outcome, _, _) in verdicts(rollouts).items()} == dict.fromkeys(
        range(4), Outcome.SUCCESS
    )
    assert 1 in errors(rollouts)
    assert "the simulator was lost" in errors(rollouts)[1]
    seeds = {(record.scenario_index, record.seed) for record in ledger_of(rollouts)}
    assert len(seeds) == 4


@pytest.mark.slow
def test_ctrl_c_ends_all_and_the_same_command_goes_on(
    served: Any, evaluate: Any, make_gate: Any, cluster: Any, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2)
    gate = make_gate(2)
    served.before_step = gate
    begun: list[psutil.Process] = []

    def press_ctrl_c() -> None:
        begun.extend(simulators())
        os.kill(os.getpid(), signal.SIGINT)

    thread = when(gate.wait_until_reached, press_ctrl_c)
    assert evaluate("0:4", executor="ray", workers=2, **PATIENCE) == 130
    thread.join()
    assert len(begun) >= 4
    assert all_end(begun)
    gate.open()
    assert 2 not in verdicts(tmp_path / "rollouts")
    assert evaluate("0:4", executor="ray", workers=2, **PATIENCE) == 0
    assert verdicts(tmp_path / "rollouts").keys() == {0, 1, 2, 3}


@pytest.mark.slow
def test_policy_servers_on_the_cluster_are_replaced(
    evaluate: Any, cluster: Any, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=4)
    options = RayOptions(serve=CHECKPOINT, servers=2, server_cpus=1.0)

    def servers() -> list[psutil.Process]:
        return [each for each, words in processes() if f"serve {CHECKPOINT}" in words]

    seen = threading.Event()

    def kill_one() -> None:
        servers()[0].kill()

    def episode_begun() -> None:
        while not list((tmp_path / "rollouts").rglob("ledger.jsonl")):
            assert not seen.wait(0.1)

    thread = when(episode_begun, kill_one)
    assert evaluate("0:6", executor="ray", ray=options, workers=2, address="127.0.0.1:1") == 0
    thread.join()
    assert verdicts(tmp_path / "rollouts").keys() == set(range(6))
    assert all_end(servers())
    assert all_end(simulators())


def test_without_ray_it_is_said_how_to_get_it(
    served: Any, evaluate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert evaluate("0:1", executor="ray") == 2
    told = capsys.readouterr().err
    assert "--executor ray needs ray: pip install '.[ray]' in Assay's checkout" in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ray": {"cpus": 0.0}}, "--ray.cpus: expected more than 0"),
        ({"ray": {"servers": 2}}, "only with --ray.serve"),
        ({"ray": {"serve": CHECKPOINT, "server_options": "'"}}, "--ray.server-options"),
        ({"executor": "local", "ray": {"cpus": 2.0}}, "only with --executor ray"),
        ({"meshcat_port": 7000}, "--meshcat-port: not with --executor ray"),
        ({"simulator": "lbm-eval"}, "not with --simulator lbm-eval"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    def make() -> EvaluationConfig:
        ray = RayOptions(**given.get("ray", {}))
        return EvaluationConfig(
            **{"tasks": ("PickAndPlaceBox",), "executor": "ray"} | given | {"ray": ray}
        )

    with pytest.raises(UsageError, match=said):
        make()
