"""`step-analysis compare`: what a CI asks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from step_analysis.command_line import main

MakeEvaluation = Callable[..., Path]
GOOD, BAD = "1" * 40, "0" * 40


@pytest.fixture
def folders(tmp_path: Path, evaluation_in: MakeEvaluation) -> Callable[[str, str], list[str]]:
    """folders(old outcomes, new outcomes): their paths, of one policy's name."""

    def make(old: str, new: str) -> list[str]:
        for name, outcomes in (("old", old), ("new", new)):
            evaluation_in(tmp_path / name, "policy", outcomes)
        return [str(tmp_path / "old"), str(tmp_path / "new")]

    return make


@pytest.mark.parametrize(
    ("old", "new", "code", "verdict"),
    [(GOOD, BAD, 1, "worse"), (BAD, GOOD, 0, "better"), (GOOD, GOOD, 0, "undecided")],
)
def test_only_what_is_shown_to_be_worse_fails(
    folders: Callable[[str, str], list[str]],
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    code: int,
    verdict: str,
) -> None:
    paths = folders(old, new)
    main(["compare", *paths])
    assert capsys.readouterr().out.split()[:2] == [verdict, "PickAndPlaceBox:"]
    if code:
        with pytest.raises(SystemExit) as caught:
            main(["compare", *paths, "--fail-if-worse"])
        assert caught.value.code == code
        assert "worse on PickAndPlaceBox" in capsys.readouterr().err
    else:
        main(["compare", *paths, "--fail-if-worse"])


def test_it_is_told_to_programs(
    folders: Callable[[str, str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", *folders(GOOD, BAD), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["worse_on"] == ["PickAndPlaceBox"]
    assert told["verdicts"]["PickAndPlaceBox"]["winner"] == told["old"] == "old/policy"


def test_tasks_must_be_shared(
    tmp_path: Path, evaluation_in: MakeEvaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation_in(tmp_path / "old", "a", {"PickCup": "11"})
    evaluation_in(tmp_path / "new", "b", {"PutMug": "11"})
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(tmp_path / "old"), str(tmp_path / "new")])
    error = capsys.readouterr().err
    assert (caught.value.code, "no task in common" in error) == (2, True)


@pytest.mark.parametrize("verb", ["compare", "report"])
def test_a_budget_that_a_test_does_not_take_is_no_verdict(
    tmp_path: Path, evaluation_in: MakeEvaluation, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """Python's exit code after a traceback is that of a policy which is worse."""
    for name in ("old", "new"):
        evaluation_in(tmp_path, name, GOOD, budget=6000)
    paths = {"compare": [str(tmp_path / "old"), str(tmp_path / "new")], "report": [str(tmp_path)]}
    output = {"compare": [], "report": ["--output", str(tmp_path / "report")]}
    with pytest.raises(SystemExit) as caught:
        main([verb, *paths[verb], *output[verb], "--method", "barnard"])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert "at most 5000 episodes of each arm, got 6000" in error


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg"])
@pytest.mark.parametrize("alpha", ["0.6", "0.99"])
def test_any_alpha_below_one_has_its_verdict(
    tmp_path: Path,
    evaluation_in: MakeEvaluation,
    folders: Callable[[str, str], list[str]],
    capsys: pytest.CaptureFixture[str],
    alpha: str,
    correction: str,
) -> None:
    """Of one pair the last level of a procedure is alpha, where no test of two sides is."""
    main(["compare", *folders(GOOD, BAD), "--alpha", alpha])
    assert capsys.readouterr().out.startswith("worse")
    for name, outcomes in (("a", GOOD), ("b", BAD)):
        evaluation_in(tmp_path / "both", name, outcomes)
    options = ["--alpha", alpha, "--correction", correction, "--output", str(tmp_path / "report")]
    main(["report", str(tmp_path / "both"), *options])
    assert "Verdict: a (40/40, 100 %) is better than b" in capsys.readouterr().out
