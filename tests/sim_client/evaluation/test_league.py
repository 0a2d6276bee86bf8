"""A folder of checkpoints as a ranking, on the fake station, with policies of this process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim_client.compare import runner
from sim_client.compare.config import CompareConfig
from sim_client.compare.contenders import Contender
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.interruption import Interruption
from sim_client.league.config import LeagueConfig
from sim_client.league.run import run
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    Ledger,
    read_ledger,
    write_design,
)
from step_analysis.provenance import read_provenance
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.study.design import StudyDesign, StudyPolicy
from step_analysis.study.folder import StudyFolder, read_study

TASK = "PickAndPlaceBox"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def write_checkpoint(path: Path, weights: str) -> Path:
    path.mkdir(parents=True)
    (path / "weights.safetensors").write_text(weights)
    entry = {"bytes": len(weights), "sha256": hashlib.sha256(weights.encode()).hexdigest()}
    manifest = {"format": "assay.checkpoint/1", "files": {"weights.safetensors": entry}}
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, policy: Any) -> Iterator[list[tuple[str, ...]]]:
    """The names in each round. The program that serves checkpoints is replaced: a checkpoint whose
    weights are "good" holds still, another answers with what is no action."""
    servers: dict[str, Any] = {}
    played: list[tuple[str, ...]] = []

    def serve(path: Path) -> Any:
        digest = hashlib.sha256((path / "MANIFEST.json").read_bytes()).hexdigest()
        if digest not in servers:
            server = servers[digest] = type(policy)()
            server.runtime_information |= {"assay.checkpoint_sha256": digest}
            if not (path / "weights.safetensors").read_text().startswith("good"):
                server.change_answer = lambda step, action: action.gripper_status.pop()
            server.start()
        return servers[digest]

    @contextlib.contextmanager
    def served_contenders(config: CompareConfig) -> Iterator[tuple[Contender, ...]]:
        played.append(config.names)
        yield tuple(
            Contender(address=serve(Path(path)).address, policy=None, name=name)
            for path, name in zip(config.policies, config.names, strict=True)
        )

    monkeypatch.setattr(runner, "served_contenders", served_contenders)
    yield played
    for server in servers.values():
        server.close()


League = Callable[..., int]


@pytest.fixture
def league(
    script: Callable[[dict[int, str]], None], folder: Path, tmp_path: Path, rounds: Any
) -> League:
    """Play in this process: the exit code. pause: what happens between two looks."""
    script({})

    def league(pause: Callable[[float], None] | None = None, **options: Any) -> int:
        config = LeagueConfig(
            **{
                "folder": folder,
                "tasks": (TASK,),
                "max_episodes": 14,
                "alpha": 0.2,
                "output": tmp_path / "league",
                "workers": 1,
                "time_limit_s": 1.0,
                "once": pause is None,
            }
            | options
        )
        wait = pause or (lambda seconds: None)
        return run(config, station_factory="fake_station:build", pause=wait)

    return league


@pytest.mark.slow
def test_checkpoints_that_arrive_are_ranked_and_what_was_decided_stands(
    league: League,
    folder: Path,
    tmp_path: Path,
    rounds: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_checkpoint(folder / "step_1", "bad")
    study = tmp_path / "league" / "study"
    looks: list[dict[Any, Any]] = []

    def pause(seconds: float) -> None:
        standing = read_study(study).standing().comparisons if rounds else ()
        looks.append({each.arms: each for each in standing})
        match len(looks):
            case 1:
                # Not whole yet: its weights are still being written.
                late = write_checkpoint(folder / "step_2", "good")
                (late / "weights.safetensors").write_text("go")
            case 2:
                (folder / "step_2" / "weights.safetensors").write_text("good")
            case 3:
                first = write_checkpoint(folder / "step_3", "good too") / "MANIFEST.json"
                write_checkpoint(folder / ".step_4.abc.partial", "good and hidden")
                again = write_checkpoint(folder / "final", "good too") / "MANIFEST.json"
                # Some kernels tell no milliseconds apart.
                os.utime(again, ns=(0, first.stat().st_mtime_ns + 1))
            case _:
                raise KeyboardInterrupt

    assert league(pause) == 130
    assert rounds == [("step_1", "step_2"), ("step_1", "step_2", "step_3")]
    assert not looks[0]
    assert not looks[1]
    assert looks[2].items() <= looks[3].items()
    winners = {arms: each.winner for arms, each in looks[3].items()}
    assert winners == {
        ("step_1", "step_2"): "step_2",
        ("step_1", "step_3"): "step_3",
        ("step_2", "step_3"): None,
    }
    said = capsys.readouterr().out
    assert "weights.safetensors has 2 bytes of 4: not whole yet" in said
    assert "the same policy as step_3" in said
    standing = json.loads((tmp_path / "league" / "standing.json").read_text())
    (panel,) = standing["panels"]
    found = [(each["place"], each["policy"], each["letters"]) for each in panel["ranking"]]
    assert found == [(1, "step_2", "a"), (1, "step_3", "a"), (3, "step_1", "b")]
    assert "place" in (tmp_path / "league" / "standing.txt").read_text()
    assert "step_3" in (tmp_path / "league" / "report" / "index.html").read_text()
    # Every episode once, whatever the rounds.
    for name in ("step_1", "step_2", "step_3"):
        indices = [record.scenario_index for record in read_ledger(study / name / "ledger.jsonl")]
        assert indices == list(range(len(indices)))


@pytest.mark.slow
def test_once_ranks_what_is_there_and_asks_nothing_again(
    league: League,
    folder: Path,
    rounds: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_checkpoint(folder / "runs" / "a", "good")
    assert league() == 2
    assert "a league needs two checkpoints, found 1" in capsys.readouterr().err
    write_checkpoint(folder / "runs" / "b", "bad")
    assert league() == 0
    assert league() == 0
    assert rounds == [("runs/a", "runs/b")]
    out = capsys.readouterr().out
    assert "place  policy  letters  successes of episodes  mean   open" in out
    assert "stays so however many policies still come" in out


@pytest.mark.slow
def test_ctrl_c_with_the_deciding_rollout_ends_the_watch_too(
    league: League,
    folder: Path,
    tmp_path: Path,
    rounds: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(Interruption):
        def __exit__(self, *error: Any) -> None:
            self.requested = True
            super().__exit__(*error)

    monkeypatch.setattr(runner, "Interruption", Late)
    write_checkpoint(folder / "a", "good")
    write_checkpoint(folder / "b", "bad")
    assert league(lambda seconds: pytest.fail("the watch went on")) == 130
    assert len(rounds) == 1
    assert (tmp_path / "league" / "standing.json").exists()


@pytest.mark.slow
def test_what_comes_can_be_held_to_what_ran_before(
    league: League, folder: Path, tmp_path: Path, rounds: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(folder / "a", "good")
    write_checkpoint(folder / "b", "bad")
    assert league() == 0
    like = tmp_path / "league" / "study" / "a" / "provenance.json"
    write_checkpoint(folder / "c", "good too")
    assert league(like=like) == 2
    said = capsys.readouterr().err
    assert "this evaluation of 'b' would not be like" in said
    assert "policy.checkpoint: " in said
    assert league(like=like, allow_different=("policy",)) == 0
    assert read_provenance(tmp_path / "league" / "study" / "c" / "provenance.json").simulators


@pytest.mark.slow
def test_a_checkpoint_that_is_gone_or_changed_is_told(
    league: League,
    folder: Path,
    tmp_path: Path,
    rounds: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = write_checkpoint(folder / "a", "good")
    write_checkpoint(folder / "b", "bad")
    assert league() == 0
    gone.rename(tmp_path / "elsewhere")
    write_checkpoint(folder / "c", "good too")
    assert league() == 0
    assert rounds[1] == ("b", "c")
    comparisons = read_study(tmp_path / "league" / "study").standing().comparisons
    assert {each.arms: each.winner for each in comparisons} == {
        ("a", "b"): "a",
        ("a", "c"): None,
        ("b", "c"): "c",
    }
    write_checkpoint(folder / "a", "good, but others")
    assert league() == 2
    assert "policy 'a': digest" in capsys.readouterr().err


def test_a_checkpoint_that_is_replaced_in_place_is_told_where_all_is_decided(
    league: League,
    folder: Path,
    tmp_path: Path,
    rounds: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    design = StudyDesign(
        policies=tuple(
            StudyPolicy(name=name, digest=manifest_digest(write_checkpoint(folder / name, weights)))
            for name, weights in (("a", "good"), ("b", "bad"))
        ),
        tasks=(TASK,),
        max_episodes=14,
        first_seed=7,
        alpha=0.2,
        correction="arrival",
    )
    with StudyFolder(tmp_path / "league" / "study") as study:
        study.agree(design)
        for policy, outcome in zip(design.policies, ("success", "failure"), strict=True):
            write_evaluation(study.path / policy.name, policy, Outcome(outcome), num_episodes=14)
    assert league() == 0
    shutil.rmtree(folder / "a")
    write_checkpoint(folder / "a", "good, but others")
    assert league() == 2
    assert "policy 'a': digest" in capsys.readouterr().err
    assert not rounds


def manifest_digest(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "MANIFEST.json").read_bytes()).hexdigest()


def write_evaluation(
    path: Path, policy: StudyPolicy, outcome: Outcome, *, num_episodes: int
) -> None:
    path.mkdir()
    design = EvaluationDesign(
        policy=policy.name,
        policy_digest=policy.digest,
        tasks=(TASK,),
        num_episodes=num_episodes,
        max_sample_size=num_episodes,
    )
    write_design(path / DESIGN_FILE_NAME, design)
    with Ledger(path / LEDGER_FILE_NAME) as ledger:
        for index in range(num_episodes):
            ledger.append(
                RolloutRecord(
                    policy=policy.name,
                    task=TASK,
                    scenario_index=index,
                    seed=7 + index,
                    outcome=outcome,
                )
            )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"interval_s": 0.0}, "--interval: expected 0.1 s to a day"),
        ({"alpha": 0.6}, "--alpha: expected a number strictly between 0 and 0.5"),
        ({"measure": "progress"}, "--measure progress needs --test betting"),
    ],
)
def test_options_that_make_no_league_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        LeagueConfig(**{"folder": Path("x"), "tasks": (TASK,)} | options)
