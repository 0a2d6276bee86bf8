import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from step_analysis.ledger import (
    Ledger,
    LedgerError,
    is_being_written,
    latest_outcomes,
    merge_ledgers,
    read_design,
    read_ledger,
    write_design,
)
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutKey
from tests.prepared_process import with_files_of_at_most

_APPENDER = """
import sys
from step_analysis.ledger import Ledger
from step_analysis.rollouts import Outcome, RolloutRecord

with Ledger(sys.argv[1]) as ledger:
    print("open", flush=True)
    if sys.argv[2] == "hold":
        sys.stdin.read()
    first = len(ledger.records)
    for index in range(first, first + int(sys.argv[3])):
        ledger.append(
            RolloutRecord(
                policy="trained", task="PickAndPlaceBox", scenario_index=index, seed=index,
                outcome=Outcome.SUCCESS, message="x" * 300,
            )
        )
        print(index, flush=True)
"""


def _appender(path: Path, mode: str, count: int, *, started=list) -> subprocess.Popen:
    return subprocess.Popen(
        started([sys.executable, "-c", _APPENDER, str(path), mode, str(count)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_what_is_appended_is_read(path, make_record):
    records = [make_record(scenario_index=i, outcome=o) for i, o in enumerate(Outcome)]
    with Ledger(path) as ledger:
        for record in records:
            ledger.append(record)
            assert read_ledger(path)[-1] == record
    assert read_ledger(path) == records


def test_a_counted_episode_is_recorded_once_even_after_reopening(path, make_record):
    with Ledger(path) as ledger:
        ledger.append(make_record(outcome=Outcome.FAILURE))
        with pytest.raises(LedgerError, match=r"scenario 3 has its outcome already .failure."):
            ledger.append(make_record(outcome=Outcome.SUCCESS))
    with Ledger(path) as ledger, pytest.raises(LedgerError, match="exactly once"):
        ledger.append(make_record(outcome=Outcome.TIMEOUT))
    assert [r.outcome for r in read_ledger(path)] == [Outcome.FAILURE]


def test_an_error_leaves_its_key_open(path, make_record):
    key = RolloutKey("trained", "PickAndPlaceBox", 3)
    with Ledger(path) as ledger:
        assert ledger.next_attempt(key) == 1
        ledger.append(make_record(outcome=Outcome.ERROR, attempt=1))
        assert key not in ledger.finished_keys()
        assert ledger.next_attempt(key) == 2
        ledger.append(make_record(outcome=Outcome.ERROR, attempt=2))
        ledger.append(make_record(outcome=Outcome.SUCCESS, attempt=3))
        assert ledger.finished_keys() == {key}
    with Ledger(path) as ledger:
        assert ledger.finished_keys() == {key}
        assert ledger.next_attempt(key) == 4


def test_a_tail_torn_at_any_byte_is_ignored_and_cut(path, make_record):
    with Ledger(path) as ledger:
        ledger.append(make_record(scenario_index=0))
        whole = path.stat().st_size
        ledger.append(make_record(scenario_index=1, message="é\u2028\n"))
    content = path.read_bytes()
    for size in range(whole, len(content)):
        path.write_bytes(content[:size])
        assert [r.scenario_index for r in read_ledger(path)] == [0]
        with Ledger(path) as ledger:
            assert [r.scenario_index for r in ledger.records] == [0]
            assert path.stat().st_size == whole
            ledger.append(make_record(scenario_index=2))
        assert [r.scenario_index for r in read_ledger(path)] == [0, 2]


def test_a_corrupt_line_names_file_and_line(path, make_record):
    line = make_record(scenario_index=0).to_json()
    path.write_text(f"{line}\n{line[:40]}\n{line}\n", encoding="ascii")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl, line 2: rollout record: not strict"):
        read_ledger(path)
    with pytest.raises(LedgerError, match="line 2"), Ledger(path):
        pass
    path.write_text(f"{line}\n{line}\n", encoding="ascii")
    with pytest.raises(LedgerError, match=r"line 2: .*scenario 0 is counted on line 1 already"):
        read_ledger(path)


def test_a_second_writer_is_refused_and_the_first_goes_on(path):
    holder = _appender(path, "hold", 2)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(LedgerError, match="another process is writing this ledger"), Ledger(path):
        pass
    output, errors = holder.communicate()
    assert (output, errors, holder.returncode) == ("0\n1\n", "", 0)
    with Ledger(path) as ledger:
        assert len(ledger.records) == 2


def test_several_writers_who_share_it_hear_of_each_other_and_append_in_turn(path, make_record):
    with Ledger(path, shared=True) as first, Ledger(path, shared=True) as second:
        with first.turn():
            assert not first.is_ours_alone()
            first.append(make_record(scenario_index=0, outcome=Outcome.ERROR))
        with second.turn() as news:
            assert [record.scenario_index for record in news] == [0]
            assert second.next_attempt(make_record(scenario_index=0).key) == 2
            second.append(make_record(scenario_index=0, attempt=2))
        with first.turn() as news:
            assert [record.attempt for record in news] == [2]
            with pytest.raises(LedgerError, match="exactly once"):
                first.append(make_record(scenario_index=0, outcome=Outcome.FAILURE))
        with second.turn() as news:
            assert not news
        assert first.records == second.records == tuple(read_ledger(path))
    with Ledger(path, shared=True) as ledger, ledger.turn():
        assert ledger.is_ours_alone()
        assert len(ledger.records) == 2


def test_who_shares_it_and_who_does_not_keep_each_other_out(path):
    with (
        Ledger(path, shared=True),
        pytest.raises(LedgerError, match="another process is writing this ledger"),
        Ledger(path),
    ):
        pass
    with (
        Ledger(path),
        pytest.raises(LedgerError, match="another process is writing this ledger"),
        Ledger(path, shared=True),
    ):
        pass
    with Ledger(path, shared=True), Ledger(path, shared=True):
        assert is_being_written(path)
    assert not is_being_written(path)


def test_a_line_that_a_killed_sharer_left_torn_is_cut_off_at_the_next_turn(path, make_record):
    with Ledger(path, shared=True) as ledger:
        with ledger.turn():
            ledger.append(make_record(scenario_index=0))
        with path.open("ab") as dead_sharer:
            dead_sharer.write(make_record(scenario_index=1).to_json().encode()[:40])
        with ledger.turn() as news:
            assert not news
            ledger.append(make_record(scenario_index=2))
    assert [record.scenario_index for record in read_ledger(path)] == [0, 2]


def test_no_acknowledged_record_is_lost_when_the_writer_is_killed(path):
    acknowledged = -1
    for _ in range(3):
        writer = _appender(path, "go", 100_000)
        assert writer.stdout is not None
        for line in writer.stdout:
            if line.strip().isdigit():
                acknowledged = int(line)
                if acknowledged % 40 == 39:
                    break
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        indices = [record.scenario_index for record in read_ledger(path)]
        assert indices == list(range(len(indices)))
        assert len(indices) > acknowledged


def test_a_full_disk_leaves_whole_records_and_goes_on_later(path):
    full = _appender(path, "go", 100, started=partial(with_files_of_at_most, 1900))
    output, errors = full.communicate()
    written = [line for line in output.splitlines() if line.isdigit()]
    assert full.returncode == 1
    assert "OSError" in errors
    assert len(read_ledger(path)) == len(written) > 0
    assert path.read_bytes().endswith(b"\n")
    _appender(path, "go", 3).communicate()
    assert len(read_ledger(path)) == len(written) + 3


def test_a_ledger_outside_a_with_statement_is_refused(path, make_record):
    with pytest.raises(LedgerError, match="not open"):
        Ledger(path).append(make_record())


def test_an_unusable_place_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), Ledger(tmp_path / "absent" / "ledger.jsonl"):
        pass


def test_the_latest_outcome_prefers_what_counts(make_record):
    error1 = make_record(outcome=Outcome.ERROR, attempt=1)
    error2 = make_record(outcome=Outcome.ERROR, attempt=2)
    success = make_record(attempt=3)
    assert latest_outcomes([error1, error2]) == {error1.key: error2}
    assert latest_outcomes([error1, success, error2]) == {success.key: success}
    with pytest.raises(LedgerError, match="two counted records"):
        latest_outcomes([success, make_record(attempt=4)])


def test_ledgers_merge_without_repeats_or_contradictions(tmp_path, make_record):
    first, second, both = (tmp_path / f"{name}.jsonl" for name in ("a", "b", "all"))
    shared, other = make_record(scenario_index=0), make_record(scenario_index=1)
    with Ledger(first) as ledger:
        ledger.append(shared)
    with Ledger(second) as ledger:
        ledger.append(shared)
        ledger.append(other)
    assert merge_ledgers([first, second], both) == [shared, other]
    assert read_ledger(both) == [shared, other]
    with pytest.raises(LedgerError, match="exists already"):
        merge_ledgers([first], both)
    contradiction = tmp_path / "c.jsonl"
    with Ledger(contradiction) as ledger:
        ledger.append(make_record(scenario_index=0, outcome=Outcome.FAILURE))
    with pytest.raises(LedgerError, match="two counted records"):
        merge_ledgers([first, contradiction], tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


def test_a_design_is_written_whole_and_read_strictly(tmp_path):
    path = tmp_path / "evaluation.json"
    design = EvaluationDesign(
        policy="trained",
        policy_digest="sha256:1",
        tasks=("PickAndPlaceBox",),
        num_episodes=5,
        max_sample_size=50,
    )
    write_design(path, design)
    assert read_design(path) == design
    assert list(tmp_path.iterdir()) == [path]
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(LedgerError, match=r"evaluation\.json: evaluation design: not strict JSON"):
        read_design(path)
