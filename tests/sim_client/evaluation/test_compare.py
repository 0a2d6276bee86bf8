"""Comparisons that stop when the test has decided, on the fake station."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sim_client.compare.config import CompareConfig
from sim_client.compare.runner import run
from sim_client.evaluation.errors import UsageError
from step_analysis.ledger import read_ledger
from step_analysis.loading import read_rollouts
from step_analysis.provenance import read_provenance
from step_analysis.report.study_report import study_report
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.study.comparisons import Stage
from step_analysis.study.folder import read_study

Script = Callable[[Mapping[int, str]], None]
Compare = Callable[..., int]
TASK = "PickAndPlaceBox"


def ledger_of(study: Path, policy: str) -> list[RolloutRecord]:
    return read_ledger(study / policy / "ledger.jsonl")


def decided_in(study: Path, policy: str) -> list[int]:
    return sorted(r.scenario_index for r in ledger_of(study, policy) if r.outcome.counts)


def test_stops_when_the_test_has_decided_and_says_who_is_better(
    compare: Compare, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare() == 0
    (verdict,) = read_study(study).standing().comparisons
    assert (verdict.winner, verdict.stage) == ("hold", Stage.DECIDED)
    # Nothing beyond it was run, with one worker, and both met the same seeds.
    assert verdict.time < 15
    assert decided_in(study, "hold") == decided_in(study, "other") == list(range(verdict.time))
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(
        f"verdict: hold is better than other on {TASK} ({verdict.time} against 0 of "
        f"{verdict.time}): the sequential McNemar test decided after {verdict.time} of up to 30 "
    )
    assert f"rests on {2 * verdict.time} of the 60 rollouts" in out


def test_a_new_policy_that_is_worse_fails_where_that_is_asked_for(
    compare: Compare, served: Any, other: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(fail_if_worse=True) == 3
    assert "--fail-if-worse: hold is better than other" in capsys.readouterr().err
    # The same study the other way round: the new one is better.
    assert compare(other.address, served.address, fail_if_worse=True) == 0


def _verdict(study: Path) -> tuple[Any, ...]:
    standing = read_study(study).standing()
    used = [standing.num_used(name, TASK) for name in ("hold", "other")]
    return (*standing.comparisons, *used)


def test_the_verdict_is_the_same_with_more_workers_and_mishaps(
    compare: Compare, other: Any, script: Script, tmp_path: Path
) -> None:
    other.fails = [0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17]
    assert compare(output=tmp_path / "calm") == 0
    script({2: "die", 3: "raise", 6: "die"})
    assert compare(output=tmp_path / "wild", workers=3) == 0
    assert _verdict(tmp_path / "wild") == _verdict(tmp_path / "calm")
    errors = [r for r in ledger_of(tmp_path / "wild", "hold") if r.outcome is Outcome.ERROR]
    errors += [r for r in ledger_of(tmp_path / "wild", "other") if r.outcome is Outcome.ERROR]
    assert len(errors) == 3


def test_a_clock_that_jumps_changes_no_verdict(
    compare: Compare, served: Any, other: Any, script: Script, study: Path, tmp_path: Path
) -> None:
    other.fails = [0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17]
    assert compare(output=tmp_path / "calm") == 0
    script({1: "a day back", 4: "a year on", 6: "a day back"})
    assert compare() == 0
    assert _verdict(study) == _verdict(tmp_path / "calm")
    records = ledger_of(study, "hold") + ledger_of(study, "other")
    began = sorted(datetime.fromisoformat(record.started_at or "") for record in records)
    assert began[-1] - began[0] > timedelta(days=300)
    # What an attempt took is not told by the time of day.
    assert all(0.0 <= (record.wall_s or 0.0) < 60.0 for record in records)

    num_resets = len(served.reset_indices)
    assert compare() == 0
    assert len(served.reset_indices) == num_resets
    content, _ = study_report(
        study, read_rollouts([study]), title="Study", confidence=0.95, arguments=[]
    )
    assert content.study is not None
    assert content.study.is_finished


def test_goes_on_where_it_was_stopped_and_repeats_nothing(
    compare: Compare, served: Any, other: Any, study: Path, tmp_path: Path
) -> None:
    assert compare(output=tmp_path / "calm") == 0

    def vanish(step: Any) -> None:
        if step.scenario_index == 3:
            other.stop()

    other.before_step = vanish
    assert compare(wait_for_server_s=2.0) == 1
    before = ledger_of(study, "hold")
    assert before

    other.before_step = lambda step: None
    other.start()
    assert compare() == 0
    assert ledger_of(study, "hold")[: len(before)] == before
    assert _verdict(study) == _verdict(tmp_path / "calm")
    num_resets = len(served.reset_indices)
    assert compare() == 0
    assert len(served.reset_indices) == num_resets


def test_ctrl_c_leaves_whole_records_and_a_study_that_goes_on(
    compare: Compare, served: Any, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(step: Any) -> None:
        if (step.scenario_index, step.number) == (2, 2):
            os.kill(os.getpid(), signal.SIGINT)

    served.before_step = interrupt
    assert compare() == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert decided_in(study, "hold") in ([0, 1], [0, 1, 2])
    served.before_step = lambda step: None
    assert compare() == 0
    assert "resuming: " in capsys.readouterr().out


def test_without_a_difference_the_budget_is_spent_and_no_more(
    compare: Compare, other: Any, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other.fails = ()
    assert compare(max_episodes=5) == 0
    assert decided_in(study, "hold") == decided_in(study, "other") == [0, 1, 2, 3, 4]
    out = capsys.readouterr().out
    assert f"no difference shown between hold and other on {TASK} (5 and 5 of 5)" in out


def test_a_decided_task_gets_no_more_rollouts(compare: Compare, other: Any, study: Path) -> None:
    def change_answer(step: Any, action: Any) -> None:
        if step.instruction.startswith(TASK):
            del action.gripper_status[0]

    other.change_answer = change_answer
    tasks = (f"{TASK},PutMugOnSaucer",)
    assert compare(tasks=tasks, max_episodes=14, verdicts="tasks", workers=2) == 0
    standing = read_study(study).standing()
    box, mug = standing.comparisons
    assert (box.stage, box.winner, mug.stage) == (Stage.DECIDED, "hold", Stage.UNDECIDED)
    for policy in ("hold", "other"):
        num_box = sum(record.task == TASK for record in ledger_of(study, policy))
        assert box.time <= num_box <= box.time + 1 < 14
        assert sum(r.task == "PutMugOnSaucer" for r in ledger_of(study, policy)) == 14


def test_an_episode_that_ends_in_errors_only_holds_up_the_verdict(
    compare: Compare, script: Script, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script({2: "always raise"})
    assert compare(max_attempts=1) == 1
    said = capsys.readouterr().err
    assert "comparisons wait for them; the same command tries them again" in said
    assert decided_in(study, "hold")[:2] == [0, 1]
    script({})
    assert compare() == 0


def test_what_is_no_study_to_run_is_refused_in_one_line(
    compare: Compare,
    served: Any,
    other: Any,
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*policies: str, **options: Any) -> str:
        assert compare(*policies, **options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "unknown task 'Juggle'" in refused(tasks=("Juggle",))
    assert "neither a checkpoint's folder nor HOST:PORT" in refused(served.address, "runs/none")
    assert "give each a name of its own with --names" in refused(
        served.address, f"{served.address}/hold"
    )
    assert "are the same policy, 'one': there is nothing to compare" in refused(
        served.address, f"{served.address}/hold", names=("a", "b")
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "holds thesis.tex but no study.json" in refused(output=tmp_path / "full")
    assert not served.reset_indices


def test_a_changed_design_is_a_new_study(
    compare: Compare, other: Any, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare() == 0
    before = (study / "study.json").read_bytes()
    capsys.readouterr()
    assert compare(alpha=0.1, max_episodes=40) == 2
    complaint = capsys.readouterr().err
    assert "a changed design is a new study" in complaint
    assert "alpha: 0.05 here, 0.1 there" in complaint
    assert "max_episodes: 30 here, 40 there" in complaint
    other.runtime_information |= {"assay.checkpoint_sha256": "three"}
    assert compare() == 2
    assert "policy 'other': digest 'two' here, 'three' there" in capsys.readouterr().err
    assert (study / "study.json").read_bytes() == before
    other.runtime_information |= {"assay.checkpoint_sha256": "two"}
    drake = '"drake": "'
    (study / "study.json").write_text(before.decode().replace(drake, f"{drake}0."))
    assert compare() == 2
    assert "software.drake: '0." in capsys.readouterr().err


def test_says_what_each_policy_ran_on_and_another_study_can_be_held_to_it(
    compare: Compare,
    served: Any,
    other: Any,
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def host(policy: Any, torch: str) -> None:
        policy.runtime_information["assay.host"] = json.dumps({"torch": torch})

    host(served, "2.7.0")
    host(other, "2.8.0")
    assert compare(max_episodes=1) == 0
    for name, torch in (("hold", "2.7.0"), ("other", "2.8.0")):
        told = read_provenance(study / name / "provenance.json")
        assert told.servers == ({"torch": torch},)
        (simulator,) = told.simulators
        assert (simulator["gl_renderer"], simulator["executor"]) == ("a brush", "local")
    content, _ = study_report(
        study, read_rollouts([study]), title="Study", confidence=0.95, arguments=[]
    )
    facts = [dict(entry.facts) for entry in content.provenance]
    assert [each["Served by"] for each in facts] == ["torch 2.7.0", "torch 2.8.0"]
    assert "a brush" in dict(content.shared_facts)["Simulated by"]

    # Each policy is held to its own: told before anything starts, and nothing is written.
    host(other, "2.9.0")
    again = {"max_episodes": 2, "output": tmp_path / "again", "like": study}
    capsys.readouterr()
    assert compare(**again) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert f"this evaluation of 'other' would not be like {study}/other/provenance.json" in first
    assert [line.strip() for line in lines] == ["server.torch: '2.8.0' there, '2.9.0' here"]
    assert not (tmp_path / "again" / "study.json").exists()

    # One file for all: another checkpoint is a difference like any other.
    one = study / "hold" / "provenance.json"
    assert compare(**again | {"like": one, "allow_different": ("server",)}) == 2
    assert "policy.checkpoint: 'one' there, 'two' here" in capsys.readouterr().err

    # A study that goes on, held to how it was begun.
    def vanish(step: Any) -> None:
        if step.scenario_index == 1:
            other.stop()

    other.before_step = vanish
    begun = {"output": tmp_path / "begun", "wait_for_server_s": 2.0}
    assert compare(**begun) == 1
    other.before_step = lambda step: None
    other.start()
    monkeypatch.setenv("FAKE_STATION_GL", "a pencil")
    goes_on = begun | {"like": tmp_path / "begun"}
    before = ledger_of(tmp_path / "begun", "hold")
    assert before
    assert compare(**goes_on) == 1
    assert "simulator.gl_renderer: 'a brush' there, 'a pencil' here" in capsys.readouterr().err
    assert ledger_of(tmp_path / "begun", "hold") == before
    assert compare(**goes_on, allow_different=("simulator.gl_renderer",)) == 0
    told = read_provenance(tmp_path / "begun" / "hold" / "provenance.json")
    assert [each["gl_renderer"] for each in told.simulators] == ["a brush", "a pencil"]


def test_a_corrupt_or_foreign_ledger_is_refused(
    compare: Compare, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare() == 0
    ledger = study / "hold" / "ledger.jsonl"
    good = ledger.read_text()
    first, last = good.splitlines()[0], good.splitlines()[-1]
    seed = '"scenario_index":0,"seed":100000100'
    for spoilt, complaint in (
        (good.replace(last, last[:40]), "line"),
        (good + last + "\n", "is counted on line"),
        (good.replace(seed, '"scenario_index":0,"seed":7'), "seed 7, but every policy of this"),
        (good.replace(seed, '"scenario_index":99,"seed":1'), "beyond the budget of this study"),
        (good.replace(first, first.replace(TASK, "PutMugOnSaucer")), "no policy and task of this"),
    ):
        assert spoilt != good
        ledger.write_text(spoilt)
        capsys.readouterr()
        assert compare() == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert "hold" in said
        assert ledger.read_text() == spoilt


def test_a_study_has_one_runner(
    compare: Compare, study: Path, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study.mkdir()
    with (study / "study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert compare() == 2
    assert "another process is running this study" in capsys.readouterr().err
    assert not served.reset_indices


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"policies": ("h:1",)}, "expected two policies or more"),
        ({"policies": ("h:1", "h:1")}, "named twice"),
        ({"names": ("a",)}, "--names: expected 2 names"),
        ({"max_episodes": 0}, "--max-episodes: expected at least 1"),
        ({"alpha": 0.7}, "--alpha: expected a number strictly between 0 and 0.5, got 0.7"),
        ({"alpha": float("nan")}, "--alpha"),
        ({"measure": "progress"}, "--measure progress needs --test betting"),
        ({"question": "best", "correction": "holm"}, "not with --question best"),
        ({"server_options": "'"}, "--server-options"),
        ({"workers": 0}, "--workers: expected at least 1"),
        ({"allow_different": ("server",)}, "--allow-different: only with --like"),
        ({"shift": "lightning=high"}, None),
    ],
)
def test_options_that_make_no_study_are_refused(
    options: dict[str, Any], complaint: str | None
) -> None:
    given = {"policies": ("h:1", "h:2"), "tasks": (TASK,)} | options
    if complaint is None:
        assert run(CompareConfig(**given)) == 2
    else:
        with pytest.raises(UsageError, match=complaint):
            CompareConfig(**given)
