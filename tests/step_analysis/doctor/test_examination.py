"""Each kind of finding: that it is found, with the right count, and what it does to the numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from step_analysis.doctor.examination import examine
from step_analysis.findings import Finding, Severity
from step_analysis.ledger import Ledger, LedgerError
from step_analysis.loading import load_rollouts, read_rollouts
from step_analysis.rollouts import Outcome

TASK = "PickAndPlaceBox"
SKILL = "pick_and_place_box"

_QUIET = {"protocol-unknown", "budget-not-recorded", "seeds-not-recorded"}
"""Notes about every results file that says none of it."""


def _examined(path: Path, **options: Any) -> dict[str, list[Finding]]:
    by_code: dict[str, list[Finding]] = {}
    for finding in examine(load_rollouts([path], **options)):
        by_code.setdefault(finding.code, []).append(finding)
    return by_code


def _only(path: Path, code: str, **options: Any) -> Finding:
    """The finding of this code, where nothing else is wrong."""
    found = _examined(path, **options)
    assert found.keys() - _QUIET == {code}
    (finding,) = found[code]
    return finding


@pytest.fixture
def results(tmp_path, write_results_json) -> Callable[..., Path]:
    """results("a", "110", time="2026-01-01", task="put_mug", ...) in VLA Foundry's layout."""

    def write(model: str, outcomes: str, *, task: str = SKILL, time: str = "1", **given) -> Path:
        path = tmp_path / model / task / "rollouts" / time / "results.json"
        write_results_json(path, task, outcomes, **given)
        return tmp_path

    return write


def test_a_sound_evaluation_has_no_findings(make_evaluation):
    make_evaluation("early", "0110100101" * 3)
    root = make_evaluation("trained", "1101101110" * 3)
    assert examine(load_rollouts([root])) == []
    assert examine([]) == []


class TestErrors:
    def test_counted_as_failures_by_the_file(self, results):
        finding = _only(results("a", "11e0e1", budget=6), "errors-counted-as-failures")
        assert (finding.severity, finding.policy, finding.task) == ("warning", "a", TASK)
        assert finding.count == 2
        assert "2 x 'SimFailure: no convergence'" in finding.text
        assert "count for nothing: 3/4 (75.0%); counted as failures it is 3/6 (50.0%)" in (
            finding.effect
        )
        assert "the 2 episodes before scenario 2, unless" in finding.effect
        assert finding.numbers == {"rate_without": 0.75, "rate_counted_as_failures": 0.5}

    def test_counted_as_failures_as_asked_for(self, results):
        finding = _only(
            results("a", "11e0e1", budget=6),
            "errors-counted-as-failures",
            count_infrastructure=True,
        )
        assert "as was asked for: 3/6 (50.0%); without them 3/4 (75.0%)" in finding.effect

    def test_unresolved(self, make_evaluation):
        finding = _only(make_evaluation("trained", "1e01"), "unresolved-errors")
        assert (finding.severity, finding.count) == ("warning", 1)
        assert "'server gone'" in finding.text
        assert "2/3 (66.7%) without them; 2/4 (50.0%) had all failed, 3/4 (75.0%)" in (
            finding.effect
        )
        assert "tests see the 1 episode before scenario 1" in finding.effect


class TestEarlySuccesses:
    def test_before_the_first_action(self, results):
        times = {0: 0.0, 3: 0.0}
        finding = _only(results("a", "1011", budget=4, total_time=times), "success-before-action")
        assert (finding.severity, finding.count) == ("error", 2)
        assert "scenario 0, 3" in finding.text
        assert finding.effect == "3/4 (75.0%) with them, 1/2 (50.0%) without"

    def test_without_a_control_step(self, make_evaluation, make_record):
        root = make_evaluation("trained", "0-")
        with Ledger(root / "trained" / "ledger.jsonl") as ledger:
            ledger.append(make_record(scenario_index=1, num_control_steps=0, duration_s=None))
        assert _only(root, "success-before-action").count == 1

    def test_too_soon_and_the_same_for_all(self, results):
        results("a", "1011", budget=4, total_time={0: 0.1, 3: 0.7})
        root = results("b", "1110", budget=4, total_time={0: 0.1})
        found = _examined(root)["early-success"]
        assert [(f.policy, f.count, f.severity) for f in found] == [
            ("a", 2, "warning"),
            ("b", 1, "warning"),
        ]
        assert "within 1 s" in found[0].text
        assert "1 of them so for all 2 policies" in found[0].text
        policies = load_rollouts([root])
        assert {f.code for f in examine(policies, early_s=0.05)} <= _QUIET

    def test_a_time_of_nought_everywhere_is_no_time(self, results):
        # VLA Foundry's LBM models: total_time is 0 in every entry.
        finding = _only(results("a", "1011", budget=4, total_time=0), "durations-not-recorded")
        assert finding.severity is Severity.NOTE

    def test_errors_alone_say_nothing_of_times(self, make_evaluation):
        assert _only(make_evaluation("a", "ee"), "unresolved-errors").count == 2


class TestEpisodes:
    def test_missing(self, results):
        finding = _only(results("a", "110--", budget=5), "missing-episodes")
        assert (finding.count, finding.severity) == (2, "warning")
        assert "2 of 5 episodes asked for not done: scenario 3, 4" in finding.text
        assert "2/3 (66.7%) so far, between 40.0% and 80.0%" in finding.effect

    def test_dropped_from_the_range(self, results):
        results("a", "110", budget=9)
        root = results("a", "01", time="2", first=5, budget=9)
        found = _examined(root)
        (finding,) = found["gaps-in-scenarios"]
        assert (finding.count, finding.severity) == (2, "warning")
        assert "3 to 4" in finding.text
        assert "between 42.9% and 71.4%" in finding.effect

    def test_seeds_as_indices_have_no_gaps(self, tmp_path):
        path = tmp_path / "episodes.csv"
        path.write_text(
            "policy,task,seed,success\na,t,12,1\na,t,999,0\na,t,31337,1\n", encoding="utf-8"
        )
        assert "gaps-in-scenarios" not in _examined(path)

    def test_not_asked_of_all(self, results):
        results("a", "1100", budget=9)
        finding = _only(results("b", "110011", budget=9), "unequal-indices")
        assert (finding.count, finding.policy, finding.task) == (2, None, TASK)
        assert "2 scenarios of 6 not asked of all 2 policies: 4, 5" in finding.text
        assert "b 4/6 (66.7%), on the common ones 2/4 (50.0%)" in finding.effect

    def test_duplicates_that_contradict(self, results):
        results("a", "111", budget=3)
        root = results("a", "00", time="2", budget=3)
        (finding,) = _examined(root)["contradicting-duplicates"]
        assert (finding.count, finding.severity) == (2, "error")
        assert "scenario 0, 1; the later one is in" in finding.text
        assert finding.effect == (
            "the first record decides: 3/3 (100.0%); with the last it is 1/3 (33.3%)"
        )

    def test_duplicates_that_agree(self, tmp_path):
        path = tmp_path / "episodes.csv"
        path.write_text(
            "policy,task,episode,success,duration_s\na,t,0,1,5\na,t,0,1,6\na,t,1,0,9\n",
            encoding="utf-8",
        )
        (finding,) = _examined(path)["duplicates"]
        assert (finding.count, finding.severity) == (1, "warning")
        assert (
            finding.effect == "each counts once: 1/2 (50.0%); counted each time it is 2/3 (66.7%)"
        )

    def test_a_copy_of_a_ledger_is_a_note(self, make_evaluation, tmp_path):
        root = make_evaluation("trained", "110")
        ledger = root / "trained" / "ledger.jsonl"
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(ledger.read_bytes())
        found = {f.code: f for f in examine(load_rollouts([root, copy]))}
        assert found["duplicates"].severity is Severity.NOTE


class TestBudgets:
    def test_one_that_grew(self, results):
        results("a", "110", budget=3)
        root = results("a", "11", time="2", first=3, budget=5)
        found = _examined(root)
        (finding,) = found["budget-grew"]
        assert (finding.severity, finding.count) == ("error", 2)
        assert "from file to file: 3, 5" in finding.text
        assert "2/3 (66.7%) within it, 4/5 (80.0%) over all" in finding.effect
        assert found["over-budget"][0].count == 2

    def test_one_that_shrank(self, results):
        results("a", "110", budget=9)
        root = results("a", "11", time="2", first=3, budget=5)
        assert _examined(root)["budget-changed"][0].severity is Severity.WARNING

    def test_exceeded(self, results):
        finding = _only(results("a", "00111", budget=4), "over-budget")
        assert (finding.severity, finding.count) == ("error", 1)
        assert "first 4 are tested: 2/4 (50.0%); 3/5 (60.0%) over all" in finding.effect

    def test_of_two_policies(self, results):
        results("a", "1100", budget=4)
        finding = _only(results("b", "1111", budget=8), "budgets-differ")
        assert (finding.numbers["smallest"], finding.numbers["largest"]) == (4, 8)
        assert "b 4/4 (100.0%), 4/4 (100.0%) of its first 4" in finding.effect

    def test_of_two_tasks(self, results):
        results("a", "1100", task="task_a", budget=2)
        root = results("a", "1111", task="task_b", budget=4)
        finding = next(f for f in _examined(root)["budgets-differ"] if f.policy == "a")
        assert "TaskA 2, TaskB 4" in finding.text
        assert "up to the smallest, 2, on each task: 4/4 (100.0%) within it, 6/8 (75.0%)" in (
            finding.effect
        )

    def test_not_recorded(self, results):
        (finding,) = _examined(results("a", "1100"))["budget-not-recorded"]
        assert (finding.severity, finding.policy) == ("note", "a")
        assert "(a 4)" in finding.effect


class TestTasks:
    def test_not_run_by_all(self, results):
        for task in ("task_a", "task_b"):
            results("a", "11", task=task, budget=2)
        root = results("b", "10", task="task_a", budget=2)
        finding = _only(root, "unequal-tasks")
        assert (finding.count, finding.severity) == (1, "warning")
        assert "1 task of 2 not run by all 2 policies: TaskB" in finding.text
        assert "over the 1 common task: a 100.0% over its own, 100.0% over" in finding.effect

    def test_of_different_weight(self, results):
        results("a", "1111", task="task_a", budget=4)
        finding = _only(results("a", "00", task="task_b", budget=4), "unequal-task-weights")
        assert finding.numbers == {"pooled_rate": 4 / 6, "equal_weight_rate": 0.5}


def _change_design(root: Path, policy: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / policy / "evaluation.json"
    design = json.loads(path.read_text(encoding="utf-8"))
    change(design)
    path.write_text(json.dumps(design), encoding="utf-8")


class TestProtocols:
    @pytest.mark.parametrize(
        ("change", "text", "severity"),
        [
            (lambda d: d["station"].update(control_rate_hz=20), "station.control_rate_hz", "error"),
            (lambda d: d["software"].update(assay="0.2.0"), "software.assay", "warning"),
            (lambda d: d.update(seed_range="demonstration"), "seed_range", "error"),
        ],
    )
    def test_mixed_between_policies(self, make_evaluation, change, text, severity):
        make_evaluation("early", "01")
        root = make_evaluation("trained", "11")
        _change_design(root, "trained", change)
        finding = _only(root, "mixed-protocols")
        assert finding.text.startswith(f"{text} differs: ")
        assert (finding.severity, finding.count, finding.policy) == (severity, 2, None)
        assert "early 1/2 (50.0%)" in finding.effect

    def test_mixed_within_a_policy(self, make_evaluation, tmp_path):
        root = make_evaluation("trained", "11")
        again = make_evaluation("trained", "11", root=tmp_path / "again")
        _change_design(again, "trained", lambda d: d["station"].update(max_steps=400))
        _change_design(root, "trained", lambda d: d["station"].update(max_steps=300))
        found = {f.code: f for f in examine(load_rollouts([root, again]))}
        assert found["mixed-protocols"].policy == "trained"
        assert "mixes episodes" in found["mixed-protocols"].effect

    def test_two_checkpoints_under_one_name(self, make_evaluation, tmp_path):
        root = make_evaluation("trained", "11")
        again = make_evaluation("trained", "11", root=tmp_path / "again")
        _change_design(again, "trained", lambda d: d.update(policy_digest="sha256:other"))
        with pytest.raises(LedgerError, match="two checkpoints"):
            load_rollouts([root, again])
        policies = read_rollouts([root, again], allow_mixed_checkpoints=True).policies
        found = {f.code: f for f in examine(policies)}
        assert (found["mixed-checkpoints"].severity, found["mixed-checkpoints"].count) == (
            "error",
            2,
        )

    def test_other_seeds_for_the_same_scenarios(self, make_evaluation, make_record):
        make_evaluation("early", "01")
        root = make_evaluation("trained", "--")
        with Ledger(root / "trained" / "ledger.jsonl") as ledger:
            for index in range(2):
                ledger.append(make_record(scenario_index=index, seed=7 + index))
        finding = _only(root, "differing-seeds")
        assert (finding.severity, finding.count) == ("error", 2)
        assert "100000103 for early, 7 for trained" in finding.text

    def test_other_time_limits(self, tmp_path):
        path = tmp_path / "episodes.csv"
        lines = ["policy,task,episode,outcome,duration_s,budget"]
        lines += ["a,t,0,timeout,30,2", "a,t,1,success,12,2"]
        lines += ["b,t,0,timeout,60,2", "b,t,1,success,45,2"]
        path.write_text("\n".join(lines), encoding="utf-8")
        (finding,) = _examined(path)["time-limits-differ"]
        assert (finding.severity, finding.count) == ("error", 2)
        assert "b 1/2 (50.0%), 0/2 (0.0%) within 30 s" in finding.effect

    def test_conventions_are_told(self, tmp_path):
        path = tmp_path / "episodes.csv"
        path.write_text("model,task,episode,outcome\na,t,0,1\n", encoding="utf-8")
        assert {finding.text for finding in _examined(path)["read-by-convention"]} == {
            "column 'model' is read as the policy",
            "column 'episode' is read as the scenario",
        }


class TestOrder:
    def test_a_trend_along_the_scenarios(self, results):
        finding = _only(results("a", "0" * 30 + "1" * 30, budget=60), "order-effect")
        assert finding.severity is Severity.WARNING
        assert finding.numbers["adjusted_p_value"] < 1e-6
        assert "first half 0/30 (0.0%), second half 30/30 (100.0%)" in finding.effect

    def test_alternation(self, results):
        finding = _only(results("a", "01" * 30, budget=60), "order-effect")
        assert "clusters or alternation" in finding.text

    def test_a_trend_along_the_time_of_completion(self, make_evaluation, make_record):
        root = make_evaluation("trained", "-" * 60)
        shuffled = np.random.default_rng(1).permutation(60)
        with Ledger(root / "trained" / "ledger.jsonl") as ledger:
            for place, index in enumerate(shuffled.tolist()):
                outcome = Outcome.SUCCESS if place < 30 else Outcome.FAILURE
                started_at = f"2026-01-31T12:{place:02}:00+00:00"
                ledger.append(
                    make_record(scenario_index=index, outcome=outcome, started_at=started_at)
                )
        found = _examined(root)["order-effect"]
        assert {f.text.split(" along the ")[1].split(":")[0] for f in found} == {
            "time of completion"
        }


class TestStopping:
    # Drawn at rates of 0.4 and 0.6: a pooled z-test at 5% turns at the 40th of 41 episodes.
    WORSE = "01000111010001011110000000010000110000001"
    BETTER = "11101001110110101000001100101011011100111"

    def test_at_a_verdict_without_a_plan(self, results):
        results("a", self.WORSE)
        finding = _only(results("b", self.BETTER), "optional-stopping")
        assert (finding.severity, finding.count) == ("warning", 1)
        assert "a and b at episode 40 of 41" in finding.text
        assert "no budget is recorded" in finding.effect

    def test_at_a_verdict_within_a_plan_is_a_note(self, results):
        results("a", self.WORSE, budget=200)
        finding = _only(results("b", self.BETTER, budget=200), "optional-stopping")
        assert finding.severity is Severity.NOTE

    def test_at_the_budget_is_no_choice(self, results):
        results("a", self.WORSE, budget=41)
        assert _examined(results("b", self.BETTER, budget=41)).keys() <= _QUIET

    @pytest.mark.parametrize(("budget", "severity"), [(None, "warning"), (9, "note")])
    def test_several_runs(self, results, budget, severity):
        results("a", "110", budget=budget)
        root = results("a", "01", time="2", first=3, budget=budget)
        finding = _only(root, "optional-stopping-several-runs")
        assert (finding.severity, finding.count) == (severity, 2)
        assert f"{TASK}: 3 + 2" in finding.text

    def test_uneven_numbers_without_a_plan(self, results):
        results("a", "1100")
        found = _examined(results("b", "110011"))
        assert found["optional-stopping-uneven"][0].count == 1


def test_files_left_out_are_told_and_the_worst_comes_first(results):
    root = results("a", "00111e", budget=4)
    (root / "rates.csv").write_text("task,rate\n", encoding="utf-8")
    rollouts = read_rollouts([root])
    findings = examine(rollouts.policies, left_out=rollouts.left_out)
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=list(Severity).index)
    (left_out,) = [f for f in findings if f.code == "files-left-out"]
    assert "rates.csv: no column for the policy" in left_out.effect
