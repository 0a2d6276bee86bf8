import json

import pytest

from step_analysis.command_line import main


def _exit_of(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


@pytest.fixture
def doubtful(tmp_path, write_results_json):
    """One policy with an error counted as a failure."""
    path = tmp_path / "a" / "TaskA" / "rollouts" / "1" / "results.json"
    write_results_json(path, "task_a", "11e0", budget=4)
    return tmp_path


def test_findings_are_listed_in_json(doubtful, capsys):
    main(["doctor", str(doubtful), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings[0] == {
        "code": "errors-counted-as-failures",
        "severity": "warning",
        "policy": "a",
        "task": "TaskA",
        "count": 1,
        "text": findings[0]["text"],
        "effect": findings[0]["effect"],
        "numbers": {"rate_without": 2 / 3, "rate_counted_as_failures": 0.5},
    }
    assert [finding["code"] for finding in findings[1:]] == ["protocol-unknown"]


def test_findings_are_listed_for_people(doubtful, capsys):
    main(["doctor", str(doubtful)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warning: errors-counted-as-failures: a, TaskA: 1 episode scored")
    assert lines[1].startswith("    they count for nothing: 2/3 (66.7%)")
    assert lines[-1] == "1 warning, 1 note in the rollouts of 1 policy on 1 task"


def test_counting_errors_as_their_writer_does(doubtful, capsys):
    main(["doctor", str(doubtful), "--count-errors-as-failures"])
    assert "as was asked for: 2/4 (50.0%)" in capsys.readouterr().out


def test_strict_exits_with_1_after_the_list(doubtful, capsys):
    code, out, _ = _exit_of(capsys, "doctor", doubtful, "--strict", "--json")
    assert code == 1
    assert json.loads(out)["findings"]


def test_strict_is_content_with_notes(tmp_path, write_results_json, capsys):
    write_results_json(tmp_path / "a" / "results-1.json", "task_a", "1101")
    main(["doctor", str(tmp_path), "--strict"])
    assert capsys.readouterr().out.endswith("2 notes in the rollouts of 1 policy on 1 task\n")


def test_two_checkpoints_under_one_name_are_a_finding(make_evaluation, tmp_path, capsys):
    root = make_evaluation("trained", "11")
    again = make_evaluation("trained", "11", root=tmp_path / "again")
    design = again / "trained" / "evaluation.json"
    design.write_text(design.read_text().replace("sha256:trained", "sha256:x"), encoding="utf-8")
    main(["doctor", str(root), str(again)])
    assert "error: mixed-checkpoints: trained: one name" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"evaluations": [', "not strict JSON"),
        ('{"evaluations": [{"total_time": NaN}]}', "in evaluations[0].total_time"),
        ('{"evaluations": ' + "[" * 10_000, "nested too deeply, in evaluations[0][0]"),
        (
            '{"evaluations": [{"skill_type": "a", "scenario_index": 0, "is_success": 0.5}]}',
            "evaluations[0]: is_success: true, false or null expected, got 0.5",
        ),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_field(tmp_path, capsys, content, complaint):
    path = tmp_path / "a" / "results-1.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    for verb in ("doctor", "letters", "table"):
        code, out, err = _exit_of(capsys, verb, tmp_path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(path) in err
        assert complaint in err


@pytest.mark.parametrize("verb", ["doctor", "letters", "table"])
def test_nothing_to_read_is_one_line(tmp_path, capsys, verb):
    assert _exit_of(capsys, verb)[2].startswith("step-analysis: name at least one folder")
    code, _, err = _exit_of(capsys, verb, tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert f"no rollouts in {tmp_path}" in err
    assert "no such file" in _exit_of(capsys, verb, tmp_path / "absent")[2]
    (tmp_path / "rates.csv").write_text("task,rate\n", encoding="utf-8")
    assert "rates.csv: no column for the policy" in _exit_of(capsys, verb, tmp_path)[2]


def test_from_overrides_what_a_file_seems(tmp_path, capsys):
    path = tmp_path / "results-1.json"
    path.write_text("policy,task,episode,success\na,t,0,1\n", encoding="utf-8")
    assert "not strict JSON" in _exit_of(capsys, "doctor", path)[2]
    main(["doctor", str(path), "--from", "csv"])
    assert "1 policy on 1 task" in capsys.readouterr().out
    assert _exit_of(capsys, "doctor", path, "--from", "xml")[0] == 2


@pytest.mark.parametrize(
    ("started_at", "wall_s"),
    [("9999-12-31T23:59:59+00:00", 5.0), ("2026-01-31T12:00:00+00:00", 1e15)],
)
def test_times_beyond_the_calendar_end_nothing(make_evaluation, started_at, wall_s, capsys):
    root = make_evaluation("a", "10" * 10)
    ledger = root / "a" / "ledger.jsonl"
    text = ledger.read_text().replace("2026-01-31T12:00:00+00:00", started_at)
    ledger.write_text(text.replace('"wall_s":4.25', f'"wall_s":{wall_s}'))
    main(["doctor", str(root)])
    assert "rollouts of 1 policy on 1 task" in capsys.readouterr().out
