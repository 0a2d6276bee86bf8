"""CSV and parquet with one episode a row."""

import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from step_analysis.ledger import LedgerError
from step_analysis.loading import load_rollouts
from step_analysis.rollouts import FormatError, Outcome


def _csv(folder: Path, *lines: str, name: str = "episodes.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


HEADER = "policy,task,scenario_index,outcome"


@pytest.mark.parametrize("is_named_itself", [False, True])
def test_our_own_words(tmp_path, is_named_itself):
    path = _csv(
        tmp_path,
        f"{HEADER},seed,duration_s,num_control_steps,message,max_sample_size,started_at,operator",
        "a,put mug,0,success,100,9.5,95,,50,2026-01-31T12:00:00+00:00,ann",
        "a,put mug,1,timeout,101,40,400,,50,2026-01-31T12:01:00+00:00,bob",
        "a,put mug,2,error,102,,,server gone,50,,bob",
        "a,put mug,3,,103,,,,50,,",
        "b,put mug,0,failure,100,12,120,,50,,",
    )
    a, b = load_rollouts([path if is_named_itself else tmp_path])
    task = a.tasks["put mug"]
    assert [r.outcome for r in task.outcomes.values()] == ["success", "timeout", "error"]
    assert [r.seed for r in task.outcomes.values()] == [100, 101, 102]
    assert (task.num_missing, task.max_sample_size, task.budget_is_recorded) == (1, 50, True)
    assert (task.outcomes[0].duration_s, task.outcomes[0].num_control_steps) == (9.5, 95)
    assert (b.policy, a.remarks, task.scored_as_failure) == ("b", (), frozenset())


def test_the_words_of_others_are_understood_and_told(tmp_path):
    _csv(tmp_path, "Model,skill,seed,is_success,comment", "a,t,7,True,x", "a,t,9,0,y")
    (policy,) = load_rollouts([tmp_path])
    assert {i: r.outcome.value for i, r in policy.tasks["t"].outcomes.items()} == {
        7: "success",
        9: "failure",
    }
    assert set(policy.remarks) == {
        "column 'Model' is read as the policy",
        "column 'skill' is read as the task",
        "column 'seed' is read as the scenario",
        "column 'is_success' is read as the outcome",
    }


@pytest.mark.parametrize("count", [False, True])
def test_a_failures_message_tells_an_error(tmp_path, count):
    _csv(
        tmp_path,
        "policy,task,scenario_index,success,failure_message",
        "a,t,0,0,RuntimeError: The server rejected this client uuid: 1",
        "a,t,1,0,timeout after 30 s",
        "a,t,2,0,dropped the mug",
    )
    (policy,) = load_rollouts([tmp_path], count_infrastructure=count)
    outcomes = [r.outcome for r in policy.tasks["t"].outcomes.values()]
    assert outcomes == [Outcome.FAILURE if count else Outcome.ERROR, "timeout", "failure"]
    assert policy.tasks["t"].scored_as_failure == {0}


def test_tabs_quotes_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "episodes.tsv"
    path.write_bytes('\ufeffpolicy\ttask\tepisode\tsuccess\r\n"a, b"\tt\t0\t1\r\n\r\n'.encode())
    (policy,) = load_rollouts([path])
    assert policy.policy == "a, b"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([""], "empty: a line with the columns' names"),
        (["policy,task,outcome", "a,t,1"], "no column for the scenario: one of scenario_index"),
        (["a,t,0,1"], "no column for the policy"),
        (
            [f"{HEADER},success", "a,t,0,1,1"],
            r"columns .*outcome.*success.* could each be the outc",
        ),
        ([f"{HEADER},task", "a,t,0,1,t"], "could each be the task"),
        ([HEADER, "a,t,0,0.5"], r"line 2: outcome: one of true, false, .* got '0\.5'"),
        ([HEADER, "a,t,0,1", "a,t,1,nan"], "line 3: outcome: .* got 'nan'"),
        ([HEADER, "a,t,0,yes"], "line 2: outcome: .* got 'yes'"),
        ([HEADER, "a,t,,1"], "line 2: scenario_index: empty"),
        ([HEADER, "a,t,x,1"], "line 2: scenario_index: an integer expected, got 'x'"),
        ([HEADER, "a,t,1.5,1"], "line 2: scenario_index: an integer expected"),
        ([HEADER, "a,t,1e400,1"], "line 2: scenario_index: an integer expected"),
        ([HEADER, "a,t,-1,1"], "line 2: scenario_index: an integer of at least 0"),
        ([HEADER, ",t,0,1"], "line 2: policy: a name of 1 to 200"),
        ([HEADER, "a,t,0"], "line 2: 3 values for 4 columns"),
        ([HEADER, 'a,"t,0,1'], "not CSV"),
        ([f"{HEADER},duration_s", "a,t,0,1,nan"], "line 2: duration_s: a finite number"),
        ([f"{HEADER},duration_s", "a,t,0,1,soon"], "line 2: duration_s: a number expected"),
        ([f"{HEADER},budget", "a,t,0,1,5", "a,t,1,1,6"], "line 3: budget: 6 here and 5 above"),
        ([f"{HEADER},budget", "a,t,0,1,0"], "line 2: budget: a positive integer"),
        ([f"{HEADER},budget", "a,t,0,1,1000001"], "line 2: budget: a positive integer of at most"),
        ([f"{HEADER},started_at", "a,t,0,1,noon"], "line 2: started_at: an ISO 8601 time"),
    ],
)
def test_wrong_tables_are_named_with_line_and_column(tmp_path, lines, complaint):
    path = _csv(tmp_path, *lines)
    with pytest.raises(LedgerError, match=rf"episodes\.csv: .*{complaint}"):
        load_rollouts([path])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"policy,task\x00,scenario,outcome\n"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "episodes.csv"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"episodes\.csv: (not UTF-8|no column)"):
        load_rollouts([path])


def test_parquet_says_what_the_csv_says(tmp_path):
    columns = {
        "model": ["a", "a", "b"],
        "task": ["t", "t", "t"],
        "episode": [0, 1, 0],
        "success": [True, None, False],
        "seed": [7, None, 7],
        "total_time": [1.5, None, 2.0],
    }
    path = tmp_path / "episodes.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    for named in (path, tmp_path):
        a, b = load_rollouts([named])
        task = a.tasks["t"]
        assert (list(task.outcomes), task.num_missing) == ([0], 1)
        assert (task.outcomes[0].seed, task.outcomes[0].duration_s) == (7, 1.5)
        assert b.tasks["t"].outcomes[0].outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"policy": ["a"]}, "no column for the task"),
        (
            {"policy": ["a"], "task": ["t"], "episode": [0], "success": [0.25]},
            r"row 1: success: one of .* got 0\.25",
        ),
        (
            {"policy": ["a"], "task": ["t"], "episode": [0.5], "success": [1.0]},
            r"row 1: episode: an integer expected, got 0\.5",
        ),
        (
            {"policy": [3], "task": ["t"], "episode": [0], "success": [1]},
            "row 1: policy: a name of 1 to 200 characters expected, got 3",
        ),
    ],
)
def test_wrong_parquet_is_named_with_row_and_column(tmp_path, columns, complaint):
    path = tmp_path / "episodes.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(LedgerError, match=rf"episodes\.parquet: .*{complaint}"):
        load_rollouts([path])


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "episodes.parquet"
    path.write_bytes(b"PAR1 and then nothing PAR1")
    with pytest.raises(LedgerError, match=r"episodes\.parquet: not parquet"):
        load_rollouts([path])


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "episodes.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        LedgerError, match="reading parquet needs pyarrow; run: pip install pyarrow"
    ):
        load_rollouts([path])


def test_names_of_others_stay_out_of_a_ledger(tmp_path):
    _csv(tmp_path, HEADER, "a,put mug,0,1")
    (policy,) = load_rollouts([tmp_path])
    with pytest.raises(FormatError, match="task: a CamelCase name"):
        policy.tasks["put mug"].outcomes[0].to_json()
