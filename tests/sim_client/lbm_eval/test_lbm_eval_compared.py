"""Comparisons and leagues in the stand-in for LBM Eval: real processes, with gRPC between them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim_client.compare import own_server
from sim_client.compare.config import CompareConfig
from sim_client.compare.runner import run
from sim_client.evaluation.errors import UsageError
from sim_client.league.config import LeagueConfig
from sim_client.league.run import run as run_league
from step_analysis.ledger import read_ledger
from step_analysis.provenance import read_provenance
from step_analysis.rollouts import Outcome
from step_analysis.study.folder import read_study

TASK = "PutMugOnSaucer"
Compare = Callable[..., int]


@pytest.fixture
def compare(script: Any, tmp_path: Path) -> Compare:
    """Compare in this process: the exit code."""
    script({})

    def compare(*policies: str, **options: Any) -> int:
        config = CompareConfig(
            policies=policies,
            **{
                "tasks": (TASK,),
                "simulator": "lbm-eval",
                "max_episodes": 6,
                "alpha": 0.4,
                "output": tmp_path / "study",
                "workers": 1,
            }
            | options,
        )
        return run(config)

    return compare


@pytest.fixture
def other(policy: Any) -> Iterator[Any]:
    """A second policy, none of whose answers is an action."""
    second = type(policy)()
    second.runtime_information = {"assay.checkpoint_sha256": "two"}
    second.spoil = {i: lambda response, _: response.action.gripper_status.pop() for i in range(6)}
    yield second
    second.stop()


@pytest.mark.slow
def test_stops_when_the_test_has_decided(
    policy: Any, other: Any, compare: Compare, tmp_path: Path
) -> None:
    policies = (policy.address, other.address)
    assert compare(*policies, names=("good", "bad")) == 0
    study = tmp_path / "study"
    (verdict,) = read_study(study).standing().comparisons
    assert (verdict.winner, verdict.loser) == ("good", "bad")
    assert verdict.time < 6
    assert policy.num_resets == other.num_resets == dict.fromkeys(range(verdict.time), 1)
    outcomes = {record.outcome for record in read_ledger(study / "bad" / "ledger.jsonl")}
    assert outcomes == {Outcome.FAILURE}
    told = read_provenance(study / "good" / "provenance.json")
    assert told.protocol["software"]["lbm_eval"] == "1.1.0"
    # What was decided is decided, and nothing is run again.
    assert compare(*policies, names=("good", "bad")) == 0
    assert sum(policy.num_resets.values()) == verdict.time


@pytest.fixture
def weightless_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are served by the program itself, but for the weights: it serves the policy
    without any that has the folder's name."""
    real = Path(sys.executable).with_name("policy-server")
    program = tmp_path / "policy-server"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        "words = [w.rpartition('=')[0] + '=' + pathlib.Path(w).name if '=' in w else w\n"
        "         for w in sys.argv[1:]]\n"
        f"os.execv({str(real)!r}, [{str(real)!r}, *words])\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(own_server, "PROGRAM", str(program))


@pytest.mark.slow
def test_each_checkpoint_has_a_server_of_its_own(
    compare: Compare, tmp_path: Path, weightless_server: None
) -> None:
    checkpoints = [tmp_path / name for name in ("hold", "wave")]
    for checkpoint in checkpoints:
        checkpoint.mkdir()
    assert compare(*map(str, checkpoints), max_episodes=1) == 0
    study = tmp_path / "study"
    (verdict,) = read_study(study).standing().comparisons
    assert (verdict.arms, verdict.winner) == (("hold", "wave"), None)
    assert [each.name for each in sorted(study.glob("*.log"))] == [
        "policy_server_0.log",
        "policy_server_1.log",
    ]


@pytest.mark.slow
def test_a_league_ranks_what_lbm_eval_shows(
    script: Any, tmp_path: Path, weightless_server: None
) -> None:
    script({})
    for name in ("hold", "wave"):
        checkpoint = tmp_path / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights").write_text(name)
        entry = {"bytes": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
        manifest = {"format": "assay.checkpoint/1", "files": {"weights": entry}}
        (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
    config = LeagueConfig(
        folder=tmp_path / "checkpoints",
        tasks=(TASK,),
        simulator="lbm-eval",
        max_episodes=2,
        alpha=0.4,
        output=tmp_path / "league",
        workers=1,
        once=True,
    )
    assert run_league(config) == 0
    study = tmp_path / "league" / "study"
    assert read_study(study).design.station["simulator"] == "lbm-eval"
    for name in ("hold", "wave"):
        records = read_ledger(study / name / "ledger.jsonl")
        assert [record.scenario_index for record in records] == [0, 1]
        told = read_provenance(study / name / "provenance.json")
        assert told.protocol["software"]["lbm_eval"] == "1.1.0"
    standing = json.loads((tmp_path / "league" / "standing.json").read_text())
    (panel,) = standing["panels"]
    assert {each["policy"] for each in panel["ranking"]} == {"hold", "wave"}


def test_what_lbm_eval_cannot_do_is_refused(
    policy: Any, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="which scores none"):
        compare("h:1", "h:2", measure="progress", test="betting")
    with pytest.raises(UsageError, match="--shift: not with --simulator lbm-eval"):
        compare("h:1", "h:2", shift="lighting=high")
    for league in ({"measure": "progress", "test": "betting"}, {"shift": "lighting=high"}):
        with pytest.raises(UsageError, match="not with --simulator lbm-eval"):
            LeagueConfig(folder=tmp_path, tasks=(TASK,), simulator="lbm-eval", **league)
    assert compare("h:1", "h:2", tasks=("PutMugOnSaucr",)) == 2
    assert "Did you mean 'PutMugOnSaucer'?" in capsys.readouterr().err
    assert compare(policy.address, f"{policy.address}/other") == 2
    assert "a server's first policy" in capsys.readouterr().err
    assert not (tmp_path / "study" / "study.json").exists()
