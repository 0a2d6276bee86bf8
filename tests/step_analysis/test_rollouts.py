import json
import math
import pickle
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.strict_json import FormatError

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_numbers = st.floats(min_value=0.0, max_value=1e9)
_latencies = st.lists(_numbers, min_size=1, max_size=20).map(PolicyLatency.of)
_names = st.text(string.ascii_letters + string.digits + " -_/().", min_size=1).filter(
    lambda name: name == name.strip()
)
_records = st.builds(
    RolloutRecord,
    policy=_names,
    task=st.from_regex(r"[A-Z][A-Za-z0-9]{0,20}", fullmatch=True),
    scenario_index=st.integers(0, 2**40),
    seed=st.none() | st.integers(0, 2**62),
    outcome=st.sampled_from(Outcome),
    duration_s=st.none() | _numbers,
    num_control_steps=st.none() | st.integers(0, 10**6),
    message=st.none() | _text,
    attempt=st.integers(1, 100),
    started_at=st.none() | st.just("2026-01-31T12:00:00Z"),
    wall_s=st.none() | _numbers,
    detail=st.dictionaries(_text, _numbers | st.booleans() | _text, max_size=4),
    progress=st.none() | st.floats(0.0, 1.0),
    instruction=st.none() | _text,
    first_inference_s=st.none() | _numbers,
    policy_latency=st.none() | _latencies,
    state_digest=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


@given(record=_records)
def test_a_record_survives_json_in_one_ascii_line(record):
    line = record.to_json()
    assert line.isascii()
    assert "\n" not in line
    assert RolloutRecord.from_json(line) == record
    assert RolloutRecord.from_json(line.encode()) == record


@given(record=_records)
def test_a_record_travels_between_processes(record):
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301
    assert hash(record) == hash(RolloutRecord.from_json(record.to_json()))


@given(_records, _records)
def test_of_another_episode_what_is_given_is_other_and_checked(record, other):
    given = {name: getattr(other, name) for name in ("duration_s", "message")}
    made = record.of_episode(other.scenario_index, other.outcome, **given)
    assert made == replace(
        record, scenario_index=other.scenario_index, outcome=other.outcome, **given
    )
    for change in ({"scenario_index": -1}, {"duration_s": math.inf}, {"message": 3}):
        wrong = {"scenario_index": 0, "outcome": other.outcome} | given | change
        with pytest.raises(FormatError, match=next(iter(change))):
            record.of_episode(**wrong)


def test_only_an_error_does_not_count():
    assert [o for o in Outcome if not o.counts] == [Outcome.ERROR]


@given(text=st.text() | st.binary())
def test_arbitrary_input_is_a_clear_error(text):
    with pytest.raises(FormatError, match=r"^rollout record: "):
        RolloutRecord.from_json(text)


@given(data=st.data(), record=_records)
def test_a_damaged_line_is_a_record_or_a_clear_error(data, record):
    line = record.to_json()
    start = data.draw(st.integers(0, len(line)))
    length = data.draw(st.integers(0, 5))
    damaged = line[:start] + data.draw(st.text(max_size=3)) + line[start + length :]
    try:
        read = RolloutRecord.from_json(damaged)
    except FormatError as error:
        complaint = str(error)
    else:
        complaint = ""
        assert RolloutRecord.from_json(read.to_json()) == read
    assert "\n" not in complaint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"attempt": True}, "attempt: an integer of at least 1 expected, got True"),
        ({"attempt": 0}, "attempt: an integer of at least 1"),
        ({"scenario_index": 1.0}, "scenario_index: an integer"),
        ({"scenario_index": -1}, "scenario_index: an integer of at least 0"),
        ({"seed": "7"}, "seed: an integer"),
        ({"outcome": "sucess"}, "outcome: one of success, failure, timeout, error expected"),
        ({"outcome": {}}, "outcome: one of"),
        ({"duration_s": "9"}, "duration_s: a finite number"),
        ({"wall_s": -1.0}, "wall_s: a finite number of at least 0"),
        ({"wall_s": True}, "wall_s: a finite number"),
        ({"message": 3}, "message: text expected"),
        ({"policy": ""}, "policy: a name"),
        ({"policy": "a\nb"}, "control characters"),
        ({"policy": "x" * 201}, "policy: a name of 1 to 200"),
        ({"task": "put_mug_on_saucer"}, "task: a CamelCase name"),
        ({"task": "../Etc"}, "task: a CamelCase name"),
        ({"started_at": "yesterday"}, "started_at: an ISO 8601 time in UTC"),
        ({"started_at": "2026-01-31T12:00:00"}, "started_at: an ISO 8601 time in UTC"),
        ({"started_at": "2026-01-31T12:00:00+02:00"}, "started_at: an ISO 8601 time in UTC"),
        ({"detail": [1]}, "detail: a mapping"),
        ({"detail": {"x": None}}, "detail 'x': a finite number, a truth value or text"),
        ({"version": 3}, "version 3 can't be read, this code reads version 2"),
        ({"version": 1}, "unknown field 'progress'"),
        ({"progress": 1.5}, "progress: at most 1"),
        ({"progress": "half"}, "progress: a finite number"),
        ({"instruction": 3}, "instruction: text"),
        ({"first_inference_s": -0.1}, "first_inference_s: a finite number of at least 0"),
        ({"policy_latency": 12.5}, "policy_latency: a JSON object"),
        ({"policy_latency": {"num_steps": 3}}, "policy_latency: missing p50_ms"),
        (
            {"policy_latency": {"num_steps": 3, "p50_ms": 9.0, "p95_ms": 2.0, "max_ms": 9.5}},
            "policy_latency: p50_ms <= p95_ms <= max_ms expected",
        ),
        ({"state_digest": "AB"}, "state_digest: 64 hexadecimal digits"),
        ({"outcom": 1}, "unknown field 'outcom' .did you mean 'outcome'."),
    ],
)
def test_wrong_fields_are_named(make_record, change, complaint):
    value = json.loads(make_record().to_json()) | change
    with pytest.raises(FormatError, match=complaint):
        RolloutRecord.from_json(json.dumps(value))


def test_a_missing_field_is_named(make_record):
    value = json.loads(make_record().to_json())
    del value["seed"]
    with pytest.raises(FormatError, match="missing seed"):
        RolloutRecord.from_json(json.dumps(value))


def test_a_line_of_version_1_is_read_with_what_it_has():
    line = (
        '{"version":1,"policy":"trained","task":"PickAndPlaceBox","scenario_index":3,'
        '"seed":100000103,"outcome":"timeout","duration_s":30.0,"num_control_steps":300,'
        '"message":"timeout: not done after 30.0 s","attempt":1,'
        '"started_at":"2026-01-31T12:00:00.000+00:00","wall_s":4.25,"detail":{"box_in_bin":false}}'
    )
    record = RolloutRecord.from_json(line)
    assert (record.outcome, record.num_control_steps) == (Outcome.TIMEOUT, 300)
    assert record.detail == {"box_in_bin": False}
    new = (record.progress, record.instruction, record.first_inference_s)
    assert new == (None, None, None)
    assert (record.policy_latency, record.state_digest) == (None, None)
    assert RolloutRecord.from_json(record.to_json()) == record


def test_latencies_are_summed_up_in_milliseconds():
    latency = PolicyLatency.of([0.001 * ms for ms in range(1, 102)])
    assert latency == PolicyLatency(num_steps=101, p50_ms=51.0, p95_ms=96.0, max_ms=101.0)
    assert PolicyLatency.of([0.25]) == PolicyLatency(
        num_steps=1, p50_ms=250.0, p95_ms=250.0, max_ms=250.0
    )
    assert PolicyLatency.of([]) is None


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"version":1,"seed":' + "9" * 5000 + "}",
        '{"version":1,"version":1}',
        '{"version":1,"wall_s":NaN}',
        '{"version":1,"wall_s":Infinity}',
        '{"version":1,"wall_s":1e999}',
        '{"version":1,"policy":"\\ud800"}',
        b"\xff\xfe{}",
    ],
)
def test_hostile_json_is_refused_briefly(hostile):
    with pytest.raises(FormatError) as caught:
        RolloutRecord.from_json(hostile)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e16"])
@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('"wall_s":4.25', "wall_s"),
        ('"duration_s":12.5', "duration_s"),
        ('"distance_m":0.0125', "distance_m"),
        ('"max_ms":31.0', "max_ms"),
    ],
)
def test_numbers_that_nothing_can_have_are_refused_briefly(make_record, field, name, number):
    """A whole number in JSON may have any number of digits, more than a float can hold."""
    line = make_record(duration_s=12.5).to_json()
    assert field in line
    with pytest.raises(FormatError, match=name) as caught:
        RolloutRecord.from_json(line.replace(field, f'"{name}":{number}'))
    assert len(str(caught.value)) < 300


def _design(**given) -> EvaluationDesign:
    fields = {
        "policy": "trained",
        "policy_digest": "sha256:1",
        "tasks": ("PickAndPlaceBox",),
        "num_episodes": 50,
        "max_sample_size": 50,
        "station": {"name": "two-arm", "cameras": {"scene_right_0": [256, 256]}},
        "software": {"drake": "1.51.1"},
    }
    return EvaluationDesign(**fields | given)


def test_a_design_survives_json():
    design = _design()
    assert EvaluationDesign.from_json(design.to_json()) == design
    assert design.seed_range == "evaluation"


def test_differences_name_each_thing_once():
    other = _design(
        num_episodes=20,
        station={"name": "two-arm", "cameras": {"scene_right_0": [128, 128], "wrist": [64, 64]}},
    )
    assert _design().differences(_design()) == []
    assert _design().differences(other) == [
        "num_episodes: 50 here, 20 there",
        "station.cameras.scene_right_0: [256, 256] here, [128, 128] there",
        "station.cameras.wrist: absent here, [64, 64] there",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tasks": ()}, "tasks: at least one"),
        ({"tasks": ("A", "A")}, "twice"),
        ({"tasks": "PickAndPlaceBox"}, "tasks: a list of names"),
        ({"num_episodes": 0}, "num_episodes"),
        ({"num_episodes": 51}, "more than the budget"),
        ({"max_sample_size": 2**62}, "max_sample_size: at most 1000000 episodes of a task"),
        ({"station": {"x": float("nan")}}, "station: can't be written as JSON"),
        ({"software": {"drake": 1}}, "software.drake: text expected"),
    ],
)
def test_an_impossible_design_is_refused(change, complaint):
    with pytest.raises(FormatError, match=complaint):
        _design(**change)
