"""Watching an evaluation, finished or running."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from policy_interface.usage import UsageError
from sim_client.evaluation.live_page import announced, live_pages
from sim_client.watch.page import WIDTH, lines
from sim_client.watch.run import WatchConfig, run
from sim_client.watch.standing import standing
from step_analysis.ledger import Ledger, LedgerError, is_being_written, write_design
from step_analysis.ledger_follower import LedgerFollower
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

BOX, LAY = "PickAndPlaceBox", "BimanualLayCerealBoxOnCuttingBoardFromTopShelf"


def record(index: int, outcome: str = "success", **given: Any) -> RolloutRecord:
    """Each a minute after the one before, and half a minute long."""
    fields = {
        "policy": "trained",
        "task": BOX,
        "scenario_index": index,
        "seed": index,
        "outcome": Outcome(outcome),
        "started_at": f"2026-01-31T12:{index:02}:00.000+00:00",
        "wall_s": 30.0,
    }
    return RolloutRecord(**fields | given)


def design(num_episodes: int = 4, tasks: tuple[str, ...] = (BOX,)) -> EvaluationDesign:
    return EvaluationDesign(
        policy="trained",
        policy_digest="sha256:1",
        tasks=tasks,
        num_episodes=num_episodes,
        max_sample_size=num_episodes,
    )


def test_errors_stand_apart_and_never_count() -> None:
    records = [
        record(0, progress=1.0),
        record(1, "error", message="the server died"),
        record(2, "timeout", progress=0.25),
        record(1, "failure", attempt=2, started_at="2026-01-31T12:03:00+00:00", progress=0.25),
    ]
    seen = standing(design(), records, is_running=True)
    (task,) = seen.tasks
    assert (task.num_successes, task.num_failures, task.num_timeouts) == (1, 1, 1)
    assert task.num_errors == 1
    assert task.mean_progress == pytest.approx(0.5)
    # Wilson's interval of 1 of 3.
    assert task.interval == pytest.approx((0.0615, 0.7923), abs=1e-4)
    # Three verdicts in the three minutes and a half from the first start to the last end.
    assert seen.episodes_per_min == pytest.approx(3 / 3.5)
    assert seen.time_left_s == pytest.approx(70.0)


def test_the_pace_is_of_the_latest_run() -> None:
    records = [record(0), record(1), record(40), record(41)]
    seen = standing(design(60), records, is_running=True)
    assert seen.episodes_per_min == pytest.approx(2 / 1.5)


def test_before_the_first_verdict_nothing_is_claimed() -> None:
    seen = standing(design(), [record(0, "error")], is_running=True)
    assert seen.episodes_per_min is None
    assert seen.time_left_s is None
    text = "\n".join(lines(seen))
    assert "0/0" in text
    assert "0/4 episodes" in text


def test_a_page_fits_80_columns_and_tells_long_names_apart() -> None:
    other = LAY.replace("TopShelf", "UnderShelf")
    records = [record(0, task=LAY), record(0, "error", task=other, message="a\nb" + "x" * 200)]
    seen = standing(design(2, (LAY, other)), records, is_running=True)
    page = lines(seen, pages=["http://localhost:7000"])
    assert all(len(line) <= WIDTH for line in page)
    assert sum("FromTopShelf" in line for line in page) == 1
    assert sum("FromUnderShelf" in line for line in page) == 2
    assert "running" in page[0]
    assert "http://localhost:7000" in page[-1]
    assert any("\x1b[1m" in line for line in lines(seen, is_colored=True))


def test_a_ledger_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    follower = LedgerFollower(path)
    first, second = (record(index).to_json() + "\n" for index in range(2))
    path.write_text(first + second[:40])
    assert [r.scenario_index for r in follower.read()] == [0]
    path.write_text(first + second)
    assert [r.scenario_index for r in follower.read()] == [0, 1]
    path.write_text(first + second + "no record\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl, line 3"):
        follower.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_design(tmp_path / "evaluation.json", design(2))
    return tmp_path


def test_a_finished_evaluation_is_shown_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(folder / "ledger.jsonl") as ledger:
        ledger.append(record(0))
        ledger.append(record(1, "timeout"))
    assert run(WatchConfig(run=folder)) == 0
    out = capsys.readouterr().out
    assert "done" in out.splitlines()[0]
    assert "1/2" in out
    assert out.count("evaluation of") == 1


def test_one_that_was_stopped_is_said_to_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(folder / "ledger.jsonl") as ledger:
        ledger.append(record(0))
    assert run(WatchConfig(run=folder)) == 1
    assert "not running" in capsys.readouterr().out
    assert run(WatchConfig(run=folder, once=True)) == 0


def test_a_running_one_is_followed_to_its_end(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_once = threading.Event()
    show = "sim_client.watch.run._show"
    from sim_client.watch import run as watching

    real_show = watching._show

    def note(*arguments: Any, **options: Any) -> None:
        real_show(*arguments, **options)
        seen_once.set()

    monkeypatch.setattr(show, note)
    codes: list[int] = []
    with Ledger(folder / "ledger.jsonl") as ledger:
        ledger.append(record(0))
        watcher = threading.Thread(
            target=lambda: codes.append(run(WatchConfig(run=folder, interval=0.01, json=True)))
        )
        watcher.start()
        assert seen_once.wait(timeout=30)
        ledger.append(record(1, "error"))
        ledger.append(record(1, "failure", attempt=2))
        watcher.join(timeout=30)
    assert codes == [0]
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert looks[0]["is_running"]
    assert looks[0]["num_decided"] == 1
    assert looks[-1]["is_complete"]
    (task,) = looks[-1]["tasks"]
    assert (task["num_successes"], task["num_failures"], task["num_errors"]) == (1, 1, 1)


def test_asking_whether_it_is_written_disturbs_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        assert is_being_written(path)
        assert is_being_written(path)
        ledger.append(record(0))
    assert not is_being_written(path)
    with Ledger(path):
        pass


def test_pages_are_announced_while_something_listens_there(folder: Path) -> None:
    assert live_pages(folder) == []
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        with announced(folder, first_port=port, num_workers=1):
            assert live_pages(folder) == [f"http://localhost:{port}"]
        assert live_pages(folder) == []
    (folder / "live.json").write_text("{")
    assert live_pages(folder) == []


def test_a_browser_without_pages_and_a_wrong_interval_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="--meshcat-port"):
        run(WatchConfig(run=folder, browser=True))
    with pytest.raises(UsageError, match="--interval"):
        run(WatchConfig(run=folder, interval=0.0))
    with pytest.raises(UsageError, match="holds no evaluation"):
        run(WatchConfig(run=folder / "missing"))
