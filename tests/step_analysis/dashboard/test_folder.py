"""A folder that is read again and again as files arrive."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from step_analysis.dashboard import analyses
from step_analysis.dashboard.analyses import Analyses
from step_analysis.dashboard.folder import ResultsFolder
from step_analysis.dashboard.query import Query
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.ledger import Ledger
from step_analysis.rollouts import Outcome, RolloutRecord


@pytest.fixture
def shown() -> list[Snapshot]:
    return []


@pytest.fixture
def folder(tmp_path: Path, shown: list[Snapshot]) -> ResultsFolder:
    return ResultsFolder(root=tmp_path, publish=shown.append)


def _num_counted(snapshot: Snapshot) -> int:
    return sum(
        len(task.counted)
        for policies in snapshot.conditions.values()
        for policy in policies
        for task in policy.tasks.values()
    )


def test_only_what_was_appended_is_parsed(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    monkeypatch: pytest.MonkeyPatch,
    record: Callable[..., RolloutRecord],
    write_evaluation: Callable[..., Path],
) -> None:
    ledger = write_evaluation(tmp_path / "a", "a", {"PickCup": "110"})
    folder.look()
    parsed: list[RolloutRecord] = []
    real = RolloutRecord.from_json
    monkeypatch.setattr(
        RolloutRecord, "from_json", lambda line: parsed.append(real(line)) or parsed[-1]
    )
    folder.look()
    assert (len(shown), parsed) == (1, [])
    line = record("a", "PickCup", 3, Outcome.SUCCESS).to_json()
    with ledger.open("a") as file:
        file.write(f"{line}\n{line[:30]}")
    folder.look()
    assert [each.scenario_index for each in parsed] == [3]
    assert [_num_counted(snapshot) for snapshot in shown] == [3, 4]


def test_only_the_policy_of_a_new_file_is_put_together_anew(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "1", "a", {"PickCup": "110"})
    write_evaluation(tmp_path / "2", "b", {"PickCup": "1e"})
    folder.look()
    write_evaluation(tmp_path / "3", "a", {"PutMug": "01"})
    folder.look()
    (earlier_a, earlier_b), (now_a, now_b) = (each.conditions["nominal"] for each in shown)
    assert now_b is earlier_b
    assert [*earlier_a.tasks] == ["PickCup"]
    assert [*now_a.tasks] == ["PickCup", "PutMug"]
    assert [r.scenario_index for r in shown[-1].error_attempts["nominal"]] == [1]
    for path in (tmp_path / "3").iterdir():
        path.unlink()
    folder.look()
    assert [*shown[-1].conditions["nominal"][0].tasks] == ["PickCup"]
    assert shown[-1].conditions["nominal"][1] is earlier_b


def test_a_replaced_ledger_is_read_from_its_beginning(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "a", "a", {"PickCup": "1"})
    folder.look()
    write_evaluation(tmp_path / "a", "a", {"PickCup": "0t1"})
    folder.look()
    outcomes = shown[-1].conditions["nominal"][0].tasks["PickCup"].outcomes
    assert "".join(outcomes[i].outcome.value[0] for i in range(3)) == "fts"


def test_a_corrupt_file_is_a_finding_and_the_others_are_shown(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "a", "a", {"PickCup": "11"})
    bad = write_evaluation(tmp_path / "b", "b", {"PickCup": "11"})
    good = bad.read_text()
    bad.write_text(good + "{broken\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "results.json").write_bytes(b"\xff\xfe not json")
    folder.look()
    assert [policy.policy for policy in shown[-1].conditions["nominal"]] == ["a"]
    texts = [fault.text for fault in shown[-1].faults]
    assert len(texts) == 2
    assert "ledger.jsonl, line 3" in texts[0]
    assert "results.json" in texts[1]
    bad.write_text(good)
    (tmp_path / "c" / "results.json").unlink()
    folder.look()
    assert shown[-1].faults == ()
    assert [policy.policy for policy in shown[-1].conditions["nominal"]] == ["a", "b"]


def test_conditions_are_kept_apart(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "bright", "a", {"PickCup": "0000"}, shift="lighting=high")
    write_evaluation(tmp_path / "usual", "a", {"PickCup": "1111"})
    folder.look()
    assert list(shown[-1].conditions) == ["nominal", "lighting=high"]
    for condition, outcome in (("nominal", "success"), ("lighting=high", "failure")):
        (policy,) = shown[-1].conditions[condition]
        assert {r.outcome.value for r in policy.tasks["PickCup"].counted} == {outcome}


def test_one_that_is_being_written_runs(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    record: Callable[..., RolloutRecord],
    write_evaluation: Callable[..., Path],
) -> None:
    path = write_evaluation(tmp_path / "a", "a", {"PickCup": "1"})
    with Ledger(path) as ledger:
        folder.look()
        assert shown[-1].running == {("nominal", "a")}
        ledger.append(record("a", "PickCup", 1, Outcome.TIMEOUT))
        folder.look()
    assert _num_counted(shown[-1]) == 2
    folder.look()
    assert shown[-1].running == frozenset()


def test_a_folder_without_rollouts_is_empty(folder: ResultsFolder, shown: list[Snapshot]) -> None:
    folder.look()
    assert shown[-1].is_complete
    assert shown[-1].conditions == {}


def test_nothing_is_tested_before_all_is_read(
    tmp_path: Path,
    folder: ResultsFolder,
    shown: list[Snapshot],
    write_evaluation: Callable[..., Path],
) -> None:
    for name, outcomes in (("a", "1" * 20), ("b", "0" * 20)):
        write_evaluation(tmp_path / name, name, {"PickCup": outcomes})
    folder.look()
    done = threading.Event()
    worker = Analyses(on_done=done.set)
    while_reading = replace(shown[-1], is_complete=False)
    counted = worker.get(while_reading, Query(), "nominal")
    assert counted is not None
    assert (counted.has_verdicts, done.is_set()) == (False, False)
    assert [each.successes for each in counted.comparison.task_panels[0].counts] == [20, 0]
    worker.get(shown[-1], Query(), "nominal")
    assert done.wait(timeout=60)
    worker.close()
    tested = worker.get(while_reading, Query(), "nominal")
    assert tested is not None
    assert (tested.has_verdicts, tested.is_current) == (True, False)


def _note(order: list[str], work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    order.append(work.__name__)
    return work(*args, **options)


def test_what_many_tests_are_about_is_counted_before_they_begin(
    folder: ResultsFolder,
    shown: list[Snapshot],
    monkeypatch: pytest.MonkeyPatch,
    write_evaluation: Callable[..., Path],
) -> None:
    # 13 policies on 4 tasks: 312 pairs.
    for number in range(13):
        outcomes = dict.fromkeys(("PickCup", "PutMug", "TurnLid", "PushBox"), f"{number % 2}1")
        write_evaluation(folder.root / f"p{number}", f"p{number}", outcomes)
    folder.look()
    order: list[str] = []
    done = threading.Event()
    for name in ("count_outcomes", "compare"):
        monkeypatch.setattr(analyses, name, partial(_note, order, getattr(analyses, name)))
    worker = Analyses(on_done=done.set)
    counted = worker.get(shown[-1], Query(), "nominal")
    assert counted is not None
    assert not counted.has_verdicts
    assert [each.successes for each in counted.comparison.task_panels[0].counts][:2] == [2, 2]
    assert order == ["count_outcomes"]
    worker.begin()
    assert done.wait(timeout=60)
    assert order == ["count_outcomes", "compare"]
    tested = worker.get(shown[-1], Query(), "nominal")
    assert tested is not None
    assert tested.has_verdicts
    worker.close()
