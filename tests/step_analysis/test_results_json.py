import json
from pathlib import Path

import pytest

from step_analysis.ledger import LedgerError
from step_analysis.results_json import (
    camel_case,
    read_results,
    read_results_tree,
    snake_case,
    write_results,
)
from step_analysis.rollouts import Outcome

TASK = "PutMugOnSaucer"


def _write(path: Path, make_record, outcomes: dict[int, Outcome], **given) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [make_record(task=TASK, scenario_index=i, outcome=o) for i, o in outcomes.items()]
    fields = {
        "requested": [(TASK, i) for i in range(6)],
        "max_sample_size": 6,
        "num_processes": 2,
        "elapsed_s": 12.5,
    }
    write_results(path, records, **fields | given)


@pytest.mark.parametrize(
    ("task", "skill_type"),
    [
        ("PutMugOnSaucer", "put_mug_on_saucer"),
        ("PickAndPlaceBox", "pick_and_place_box"),
        ("TurnCupUpsideDown", "turn_cup_upside_down"),
        ("BimanualPlaceAppleFromBowlIntoBin", "bimanual_place_apple_from_bowl_into_bin"),
    ],
)
def test_names_as_lbm_eval_has_them(task, skill_type):
    assert snake_case(task) == skill_type
    assert camel_case(skill_type) == task


def test_a_run_of_capitals_is_one_word():
    assert snake_case("TurnUSBStick") == "turn_usbstick"


def test_the_file_has_lbm_evals_fields(tmp_path, make_record):
    path = tmp_path / "results.json"
    outcomes = dict(enumerate([Outcome.SUCCESS, Outcome.FAILURE, Outcome.TIMEOUT, Outcome.ERROR]))
    _write(path, make_record, outcomes)
    value = json.loads(path.read_text(encoding="utf-8"))
    evaluations = value.pop("evaluations")
    assert value == {
        "num_processes": 2,
        "elapsed_time": 12.5,
        "num_evaluated": 3,
        "num_requested_evaluations": 6,
        "num_success": 1,
        "success_rate": 1 / 3,
        "max_sample_size_per_model": 6,
    }
    assert evaluations[0] == {
        "skill_type": "put_mug_on_saucer",
        "scenario_index": 0,
        "is_pending": False,
        "total_time": 9.5,
        "is_success": True,
        "failure_message": None,
        "seed": 100_000_103,
        "progress": 1.0,
        "instruction": "Put the mug on the saucer.",
    }
    # VLA Foundry takes a crash to be is_success null and not pending, with its message.
    crash = evaluations[3]
    assert (crash["is_success"], crash["is_pending"]) == (None, False)
    assert crash["failure_message"]
    assert [(e["is_success"], e["is_pending"]) for e in evaluations[4:]] == [(None, True)] * 2


def test_outcomes_survive_the_file(tmp_path, make_record):
    path = tmp_path / "results.json"
    outcomes = dict(enumerate(Outcome))
    _write(path, make_record, outcomes)
    read = read_results(path, "trained")
    assert {r.scenario_index: r.outcome for r in read.records} == outcomes
    assert [key.scenario_index for key in read.pending] == [4, 5]
    assert read.max_sample_size == 6
    assert {r.seed for r in read.records} == {None}


def test_records_of_two_policies_are_refused(tmp_path, make_record):
    records = [make_record(policy="a"), make_record(policy="b")]
    with pytest.raises(LedgerError, match="one policy a file"):
        write_results(
            tmp_path / "results.json",
            records,
            requested=[],
            max_sample_size=1,
            num_processes=1,
            elapsed_s=0.0,
        )


# Last lines of tracebacks in the rollouts released with VLA Foundry, and of its own fixtures.
@pytest.mark.parametrize(
    ("is_success", "message", "outcome"),
    [
        (True, None, Outcome.SUCCESS),
        (False, None, Outcome.FAILURE),
        (False, "gripper miss", Outcome.FAILURE),
        (False, "object not placed", Outcome.FAILURE),
        (False, "Timeout after 30 s", Outcome.TIMEOUT),
        (
            False,
            "Traceback (most recent call last):\n ...\nOSError: [Errno 28] No space left",
            Outcome.ERROR,
        ),
        (False, "simulation_bases.SimFailure: The initial guess for line search", Outcome.ERROR),
        (False, "RuntimeError: The server rejected this client uuid: 1dbf8a8c", Outcome.ERROR),
        (False, "RuntimeError: SceneGraph encountered a non-finite value", Outcome.ERROR),
        (None, "gRPC connection reset", Outcome.ERROR),
        (None, "SIGSEGV in Drake", Outcome.ERROR),
    ],
)
def test_faults_of_the_infrastructure_are_no_failures(tmp_path, is_success, message, outcome):
    path = tmp_path / "results.json"
    entry = {"skill_type": "put_mug_on_saucer", "scenario_index": 0, "is_success": is_success}
    entry |= {"is_pending": False, "total_time": None, "failure_message": message}
    path.write_text(json.dumps({"evaluations": [entry]}), encoding="utf-8")
    (record,) = read_results(path, "model").records
    assert (record.outcome, record.message, record.task) == (outcome, message, TASK)


def test_closed_set_files_lack_optional_fields(tmp_path):
    path = tmp_path / "results.json"
    entry = {"skill_type": "a", "scenario_index": 0, "is_success": False, "total_time": 3.0}
    path.write_text(json.dumps({"evaluations": [entry]}), encoding="utf-8")
    (record,) = read_results(path, "model").records
    assert (record.outcome, record.duration_s) == (Outcome.FAILURE, 3.0)


def test_policies_are_named_by_their_folders(tmp_path, make_record):
    moment = "rollouts/2026-01-01T00:00:00+00:00/results.json"
    for place in (f"CS/model_a/{TASK}/{moment}", f"OSS/model_a/{TASK}/{moment}"):
        _write(tmp_path / "sets" / place, make_record, {0: Outcome.SUCCESS})
    public = tmp_path / "public" / "model_b" / "results-2026-01-01T00:00:00.json"
    _write(public, make_record, {0: Outcome.SUCCESS})

    def policies(*below: str) -> list[str]:
        return [results.policy for results in read_results_tree(tmp_path.joinpath(*below))]

    assert policies("sets") == ["CS/model_a", "OSS/model_a"]
    assert policies("sets", "CS") == ["model_a"]
    assert policies("sets", "CS", "model_a", TASK) == ["model_a"]
    assert policies("sets", "CS", "model_a", TASK, *moment.split("/")) == ["model_a"]
    assert policies("public") == ["model_b"]
    with pytest.raises(LedgerError, match="name a folder further down"):
        read_results_tree(tmp_path)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{}", "a list 'evaluations' expected, got None"),
        ("[]", "a JSON object was expected"),
        ("{", "not strict JSON"),
        ('{"evaluations": [3]}', r"evaluations\[0\]: a JSON object expected"),
        ('{"evaluations": [{"skill_type": "a\\nb"}]}', r"evaluations\[0\]: skill_type: .* control"),
        ('{"evaluations": [{"skill_type": "a"}]}', r"evaluations\[0\]: is_success: missing"),
        (
            '{"evaluations": [{"skill_type": "a", "scenario_index": "0", "is_success": true}]}',
            "scenario_index: an integer",
        ),
        ('{"evaluations": [{"total_time": NaN}]}', r"NaN .*, in evaluations\[0\]\.total_time"),
        ('{"evaluations": [{"skill_type": "a", "is_suc', r"strict JSON: .*, in evaluations\[0\]"),
        ('{"evaluations": ' + "[" * 100_000, r"nested too deeply, in evaluations\[0\]\[0\]"),
        (
            '{"evaluations": [{"skill_type": "a", "scenario_index": 0, "is_success": 1}]}',
            "is_success: true, false or null",
        ),
        ('{"evaluations": [], "max_sample_size_per_model": 0}', "a positive integer"),
        (
            '{"evaluations": [], "max_sample_size_per_model": 4611686018427387904}',
            "at most 1000000",
        ),
    ],
)
def test_wrong_files_are_named_with_the_reason(tmp_path, document, complaint):
    path = tmp_path / "results.json"
    path.write_text(document, encoding="utf-8")
    with pytest.raises(LedgerError, match=rf"results\.json: .*{complaint}"):
        read_results(path, "model")
