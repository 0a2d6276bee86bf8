"""The report of a study: its own verdicts, the same whatever was run beyond them."""

import json
from pathlib import Path

import numpy as np
import pytest

from step_analysis.command_line import main
from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, Ledger, write_design
from step_analysis.loading import read_rollouts
from step_analysis.rollouts import EvaluationDesign, Outcome
from step_analysis.study.allocation import next_rollout
from step_analysis.study.folder import StudyFolder, read_study
from step_analysis.study.ranking import ranking
from step_analysis.study.reporting import study_comparison
from step_analysis.study.study import Study

TASK = "PickAndPlaceBox"


@pytest.fixture
def write_study(tmp_path, record_of):
    """write_study(design, succeeds, surplus): run to its end, and `surplus` episodes beyond.

    `spoil` is given the records and says which are written.
    """

    def write(design, succeeds, surplus=0, name="study", spoil=lambda records: records):
        study = Study(design)
        records = []
        while (key := next_rollout(study)) is not None:
            records.append(record_of(*key, succeeds(*key), progress=0.5))
            study.add(records[-1])
        for policy in design.policies:
            begin = max(r.scenario_index for r in records if r.policy == policy.name) + 1
            for index in range(begin, min(begin + surplus, design.max_episodes)):
                records.append(record_of(policy.name, TASK, index, True, progress=1.0))
        records = spoil(records)
        path = tmp_path / name
        with StudyFolder(path) as folder:
            folder.agree(design)
        for policy in design.policies:
            place = path / policy.name
            place.mkdir()
            own = EvaluationDesign(
                policy=policy.name,
                policy_digest=policy.digest,
                tasks=design.tasks,
                num_episodes=design.max_episodes,
                max_sample_size=design.max_episodes,
            )
            write_design(place / DESIGN_FILE_NAME, own)
            with Ledger(place / LEDGER_FILE_NAME) as ledger:
                for record in records:
                    if record.policy == policy.name:
                        ledger.append(record)
        return path

    return write


def report(*arguments):
    """The exit code."""
    try:
        main(["report", *map(str, arguments)])
    except SystemExit as ended:
        return ended.code
    return 0


def test_the_report_says_the_verdict_the_test_and_the_savings(
    make_design, write_study, tmp_path, capsys
):
    study = write_study(make_design(2, 1, 40), lambda policy, task, index: policy == "p1")
    assert report(study, "--output", tmp_path / "report") == 0
    said = json.loads((tmp_path / "report" / "report.json").read_text())
    assert said["headline"].startswith(f"p1 is better than p0 on {TASK}")
    assert "of the 80 rollouts of the budget" in said["headline"]
    (pair,) = said["panels"][0]["pairs"]
    assert (pair["winner"], pair["method"], pair["n_max"]) == ("p1", "Sequential McNemar", 40)
    assert said["study"]["num_rollouts_used"] == 2 * pair["time"] < 80
    assert "shared" in said["study"]["why"] or "same seeds" in said["study"]["why"]
    lower, upper = pair["difference_interval"]
    assert lower <= pair["difference"] == 1.0 <= upper + 1e-9
    assert "locked before the first episode" in (tmp_path / "report" / "report.md").read_text()
    assert "files-left-out" not in {each["code"] for each in said["findings"]}
    assert f"Verdict: {said['headline']}" in capsys.readouterr().out


def test_surplus_episodes_change_no_number_but_their_own(make_design, write_study, tmp_path):
    said = []
    for surplus in (0, 5):
        design = make_design(3, 1, 40)
        study = write_study(design, lambda p, t, i: p == "p1" or i % 3 == 0, surplus, f"s{surplus}")
        assert report(study, "--output", tmp_path / f"r{surplus}") == 0
        said.append(json.loads((tmp_path / f"r{surplus}" / "report.json").read_text()))
    calm, wild = said
    assert wild["panels"] == calm["panels"]
    assert wild["headline"] == calm["headline"]
    assert wild["study"]["num_rollouts_run"] > calm["study"]["num_rollouts_run"]


@pytest.mark.parametrize(
    "choices",
    [
        {"scope": "tasks"},
        {"scope": "overall"},
        {"question": "best"},
        {"test": "betting", "measure": "progress"},
    ],
    ids=str,
)
def test_every_kind_of_study_has_a_report(make_design, write_study, tmp_path, choices):
    design = make_design(3, 2, 20, **choices)
    study = write_study(design, lambda p, t, i: p == "p1" or i % 4 == 0)
    assert report(study, "--output", tmp_path / "report") == 0


def test_all_tasks_together_are_counted_as_far_as_their_own_comparisons_read(
    make_design, record_of, write_study
):
    """A task that is decided early, by how it went, has not less weight there for it."""
    rng = np.random.default_rng(4)
    rates = {"p0": (0.05, 0.5), "p1": (0.95, 0.5), "p2": (0.05, 0.5)}
    for num_policies in (2, 3):
        design = make_design(num_policies, 2, 40)
        path = write_study(
            design,
            lambda policy, task, _, tasks=design.tasks: (
                rng.random() < rates[policy][tasks.index(task)]
            ),
            name=f"of{num_policies}",
        )
        study = read_study(path)
        comparison = study_comparison(study, read_rollouts([path]).policies)
        assert comparison.aggregate is not None
        first, second = (
            study.standing().num_used("p1", task) for task in comparison.aggregate.tasks
        )
        assert first < second
        found = {c.policy: (c.successes, c.num_counted) for c in comparison.aggregate.counts}
        assert found == {r.policy: (r.total, r.episodes) for r in ranking(study, design.tasks)}
        pairs = {(e.arm0, e.arm1): e.time for e in comparison.aggregate.pairs}
        assert found["p1"][1] == max(time for arms, time in pairs.items() if "p1" in arms)


def test_an_error_that_holds_up_a_comparison_is_in_its_report(
    make_design, record_of, write_study, tmp_path
):
    def spoil(records):
        """p1 fails for good where it would be read next; what it and p0 have beyond is there."""
        errors = [
            record_of("p1", TASK, 3, Outcome.ERROR, message="no ground truth", attempt=n)
            for n in (1, 2, 3)
        ]
        return [r for r in records if r.key != errors[0].key] + errors

    path = write_study(make_design(2, 1, 40), lambda p, t, i: p == "p1", spoil=spoil)
    assert report(path, "--output", tmp_path / "report") == 0
    said = json.loads((tmp_path / "report" / "report.json").read_text())
    assert said["headline"].startswith("undecided so far")
    (error,) = said["errors"]
    assert (error["policy"], error["scenario_index"], error["attempt"]) == ("p1", 3, 3)
    assert said["findings"][0]["code"] == "unresolved-errors"
    (pair,) = said["panels"][0]["pairs"]
    assert pair["time"] == 3
    reason = f"p1 met an error in {TASK} scenario 3"
    assert reason in pair["stopped_because"]
    assert reason in pair["sentence"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "no attempt ended in an error" not in text


def test_a_locked_design_is_not_overridden(make_design, write_study, tmp_path, capsys):
    study = write_study(make_design(2, 1, 6), lambda p, t, i: True)
    assert report(study, "--output", tmp_path / "report", "--alpha", "0.2") == 2
    assert "design was locked" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda text: text[:50], "study.json: study design: not strict JSON"),
        (lambda text: text.replace('"alpha": 0.05', '"alpha": 5.0'), "alpha: a number strictly"),
        (lambda text: text.replace('"alpha"', '"alhpa"'), "unknown field 'alhpa'"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version 9 can't be read"),
        (lambda text: text.replace("sha256:0", "sha256:9"), "is none of the study"),
    ],
)
def test_a_spoilt_design_is_named(make_design, write_study, tmp_path, capsys, spoil, complaint):
    study = write_study(make_design(2, 1, 6), lambda p, t, i: True)
    path = study / "study.json"
    path.write_text(spoil(path.read_text()))
    assert report(study, "--output", tmp_path / "report") == 2
    assert complaint in capsys.readouterr().err


def test_the_published_study_of_two_checkpoints_is_reported_as_it_was(tmp_path, monkeypatch):
    examples = Path(__file__).parents[3] / "docs" / "examples"
    monkeypatch.chdir(examples)
    main(["report", "early_late", "--output", str(tmp_path)])
    kept = (examples / "early_late" / "report.md").read_text(encoding="utf-8").splitlines()
    anew = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    of_its_making = ("- Read from: ", "    step-analysis report", "Made ")
    changed = [(old, new) for old, new in zip(kept, anew, strict=True) if old != new]
    assert [old for old, _ in changed if not old.startswith(of_its_making)] == []
    assert "decided after 13 of up to 200 episodes of each" in anew[2]
