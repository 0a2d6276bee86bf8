import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from step_analysis.command_line import main
from step_analysis.ledger import LEDGER_FILE_NAME, read_ledger

REPOSITORY = Path(__file__).parents[2]


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, capsys.readouterr().err


@pytest.fixture
def rollouts(make_evaluation) -> Path:
    make_evaluation("early", "0" * 20)
    return make_evaluation("trained", "1" * 20)


def test_report_prints_its_path_and_the_verdict(rollouts, tmp_path, capsys):
    output = tmp_path / "out" / "report"
    main(["report", str(rollouts), "--output", str(output), "--title", "Night run"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Report: {output / 'index.html'}"
    assert re.fullmatch(r"Verdict: trained .* is better than early .*: STEP decided .*\.", second)
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "<title>Night run</title>" in page
    assert f"step-analysis report {rollouts} --output {output}" in page


def test_paths_may_be_several(rollouts, tmp_path, capsys):
    paths = [str(rollouts / "early" / LEDGER_FILE_NAME), str(rollouts / "trained")]
    main(["report", *paths, "--output", str(tmp_path / "report"), "--method", "savi"])
    assert "SAVI decided" in capsys.readouterr().out


def test_no_rollouts_is_bad_input(tmp_path, capsys, make_evaluation):
    code, error = _fails(capsys, "report", tmp_path, "--output", tmp_path / "report")
    assert (code, error.count("\n")) == (2, 1)
    assert "no rollouts in" in error
    root = make_evaluation("trained", "---")
    code, error = _fails(capsys, "report", root, "--output", tmp_path / "report")
    assert code == 2
    assert "no rollouts in" in error
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["report"], "name at least one folder"),
        (["report", "absent"], "absent: no such file or folder"),
        (["report", "{root}", "--alpha", "0"], "--alpha must lie strictly between 0 and 1, got 0"),
        (["report", "{root}", "--alpha", "nan"], "--alpha must lie strictly between"),
        (["report", "{root}", "--confidence", "95"], "--confidence must lie strictly between"),
        (["report", "{root}", "--output", "{root}/trained/ledger.jsonl"], "ledger.jsonl"),
        (["merge", "--output", "all.jsonl"], "name at least one ledger"),
    ],
)
def test_bad_input_is_one_clear_line(rollouts, capsys, arguments, complaint):
    code, error = _fails(capsys, *(a.replace("{root}", str(rollouts)) for a in arguments))
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("step-analysis: ")
    assert complaint in error


def test_a_corrupt_ledger_is_one_clear_line(rollouts, capsys):
    with (rollouts / "early" / LEDGER_FILE_NAME).open("a", encoding="ascii") as ledger:
        ledger.write("garbage\n")
    code, error = _fails(capsys, "report", rollouts)
    assert code == 2
    assert re.fullmatch(r"step-analysis: .*ledger\.jsonl, line 21: rollout record: .*\n", error)


@pytest.mark.parametrize(
    "arguments",
    [[], ["reprot"], ["report", "x", "--alhpa", "0.1"], ["report", "x", "--method", "magic"]],
)
def test_misspelt_usage_exits_with_2(capsys, arguments):
    code, error = _fails(capsys, *arguments)
    assert code == 2
    assert error


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["report", "--help"])
    assert caught.value.code == 0
    assert "Example: step-analysis report rollouts --output report" in capsys.readouterr().out


def test_merge_joins_ledgers(rollouts, tmp_path, capsys):
    sources = [str(rollouts / policy / LEDGER_FILE_NAME) for policy in ("early", "trained")]
    joined = tmp_path / "all.jsonl"
    main(["merge", *sources, "--output", str(joined)])
    assert len(read_ledger(joined)) == 40
    assert "40 records of 2 ledgers" in capsys.readouterr().out
    code, error = _fails(capsys, "merge", *sources, "--output", joined)
    assert code == 2
    assert "exists already" in error


def test_ctrl_c_exits_with_130_and_leaves_nothing_half_made(
    rollouts, tmp_path, monkeypatch, capsys
):
    def interrupted(*_: object) -> str:
        signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr("step_analysis.report.writing.html_page", interrupted)
    output = tmp_path / "report"
    code, error = _fails(capsys, "report", rollouts, "--output", output)
    assert (code, error) == (130, "step-analysis: interrupted\n")
    assert not output.exists()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    code, error = _fails(capsys, "report", "x")
    assert code == 2
    install = "pip install '.[analysis]' in Assay's checkout"
    assert error == f"step-analysis: tyro is not installed; run: {install}\n"


def test_records_and_ledger_need_the_standard_library_alone():
    # -S leaves site-packages out: an import of anything else fails.
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); "
        "import step_analysis.rollouts, step_analysis.ledger, step_analysis.results_json"
    )
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
