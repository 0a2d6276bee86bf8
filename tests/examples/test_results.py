"""docs/results.md says what its ledgers say, and a ledger what was evaluated."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, Ledger, write_design
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.strict_json import FormatError

_PROJECT = Path(__file__).parents[2]
_DOCS = _PROJECT / "docs"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of examples/, by its name."""
    monkeypatch.syspath_prepend(_PROJECT / "examples")
    return importlib.import_module


def test_page_is_fresh(example: Any):
    drawn = example("results_page").draw(_DOCS / "results")
    assert "results.md" in drawn
    for path, content in drawn.items():
        assert (_DOCS / path).read_text() == content, f"docs/{path}: run `make results`"


def test_kept_results_are_of_whole_evaluations_without_errors(example: Any):
    for group in example("results_page").GROUPS:
        for result in example("results_ledger").read_results(_DOCS / "results" / group):
            for evaluated in result.evaluations:
                assert "E" not in evaluated.outcomes, result.name


def _evaluate(folder: Path, outcomes: list[Outcome], *, num_episodes: int) -> None:
    """A ledger of these outcomes, the last episode of them first."""
    folder.mkdir(parents=True)
    design = EvaluationDesign(
        policy="box",
        policy_digest="0" * 64,
        tasks=("PickAndPlaceBox",),
        first_episode=500,
        num_episodes=num_episodes,
        max_sample_size=num_episodes,
        station={"shift": "", "latency_ms": 100.0},
        software={"assay": "0", "assay.execution": "rtc", "assay.max_batch_size": "16"},
    )
    write_design(folder / DESIGN_FILE_NAME, design)
    with Ledger(folder / LEDGER_FILE_NAME) as ledger:
        for index, outcome in reversed(list(enumerate(outcomes))):
            ledger.append(
                RolloutRecord(
                    policy="box",
                    task="PickAndPlaceBox",
                    scenario_index=500 + index,
                    seed=index,
                    outcome=outcome,
                    duration_s=4.0 + index,
                )
            )


def test_collecting_keeps_whole_evaluations(example: Any, tmp_path: Path):
    outcomes = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.TIMEOUT]
    _evaluate(tmp_path / "run" / "whole" / "box", outcomes, num_episodes=4)
    _evaluate(tmp_path / "run" / "half" / "box", outcomes, num_episodes=5)
    ledgers = example("results_ledger")
    (evaluated,) = ledgers.read_evaluations(tmp_path / "run")
    assert (evaluated.outcomes, evaluated.episodes) == ("SFST", "500:504")
    assert (evaluated.latency_ms, evaluated.execution) == (100.0, "rtc")
    assert evaluated.success_s == 5.0  # of 4 and 6
    result = ledgers.Result(name="box", training=None, evaluations=[evaluated])
    ledgers.write_result(tmp_path / "kept", result)
    assert ledgers.read_results(tmp_path / "kept") == [result]


def test_a_result_with_a_field_too_many_is_refused(example: Any, tmp_path: Path):
    ledgers = example("results_ledger")
    path = ledgers.write_result(tmp_path, ledgers.Result(name="box", training=None, evaluations=[]))
    path.write_text(path.read_text().replace('"name"', '"mark": 1, "name"'))
    with pytest.raises(FormatError, match=r"box\.json: .*mark"):
        ledgers.read_results(tmp_path)
