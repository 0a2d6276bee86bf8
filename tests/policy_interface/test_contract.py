"""Every mismatch is listed, and nothing malformed passes for a contract."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.contract import (
    RIGHT_ARM,
    Contract,
    ContractError,
    ImageSize,
    action_violations,
    differences,
    violations,
)
from policy_interface.types import Action, Pose

SMALL, LARGE = ImageSize(height=96, width=96), ImageSize(height=480, width=640)
POLICY = Contract(cameras={"scene_right_0": SMALL, "wrist_right_minus": SMALL})

contracts = st.builds(
    Contract,
    cameras=st.dictionaries(
        st.text(max_size=8),
        st.builds(ImageSize, height=st.integers(1, 8192), width=st.integers(1, 8192)),
        max_size=4,
    ),
    arms=st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    grippers=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    control_rate_hz=st.floats(0.1, 1000),
    uses_language=st.booleans(),
)


@given(contracts)
def test_json_gives_the_contract_back(contract: Contract) -> None:
    assert Contract.from_json(contract.to_json()) == contract


@given(contracts)
def test_a_contract_fits_itself(contract: Contract) -> None:
    assert differences(policy=contract, station=contract) == []


def test_every_difference_is_listed() -> None:
    station = Contract(
        cameras={"scene_right_0": LARGE, "wrist_right_plus": SMALL},
        arms=(RIGHT_ARM,),
        frame="world",
        end_effector="panda_hand",
        gripper_unit="mm",
        control_rate_hz=20.0,
    )
    policy = Contract(cameras=POLICY.cameras, uses_language=True)
    found = differences(policy=policy, station=station)
    assert found == [
        "camera 'scene_right_0': the station gives 640x480, the policy requires 96x96",
        (
            "camera 'wrist_right_minus' missing: the station has "
            "['scene_right_0', 'wrist_right_plus']; the policy requires "
            "['scene_right_0', 'wrist_right_minus'] (did you mean 'wrist_right_plus'?)"
        ),
        "arms: the station has ['right::panda'], the policy ['left::panda', 'right::panda']",
        "frame of poses: the station uses 'world', the policy 'manipuland_table::table_top_center'",
        "end effector: the station uses 'panda_hand', the policy 'panda_link8'",
        "gripper unit: the station uses 'mm', the policy 'm'",
        "control rate in Hz: the station uses 20.0, the policy 10.0",
        "language: the policy needs an instruction, the station gives none",
    ]


def test_a_station_may_see_more_than_the_policy_looks_at() -> None:
    station = Contract(cameras={**POLICY.cameras, "scene_left_0": LARGE})
    assert differences(policy=POLICY, station=station) == []


def test_an_observation_is_held_to_the_contract(make_observation) -> None:
    contract = Contract(cameras=POLICY.cameras, uses_language=True)
    kept = make_observation(cameras=dict(POLICY.cameras), instruction="")
    assert violations(contract, kept) == []
    broken = make_observation(cameras={"scene_right_0": LARGE})
    found = violations(contract, broken)
    assert len(found) == 3
    assert "640x480" in found[0]
    assert "'wrist_right_minus' missing" in found[1]
    assert "language" in found[2]


def test_an_action_must_command_every_arm() -> None:
    action = Action(poses={RIGHT_ARM: Pose.identity()}, gripper_widths_m={})
    found = action_violations(POLICY, action)
    assert [line.split(" missing")[0] for line in found] == [
        "arm 'left::panda'",
        "gripper 'right::panda_hand'",
        "gripper 'left::panda_hand'",
    ]


def broken(**changes: object) -> str:
    return json.dumps(json.loads(POLICY.to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        pytest.param("[" * 60_000, "not JSON", id="deeply nested"),
        ("[]", "object"),
        (broken(version=2), "version 2"),
        (broken(colour="red"), "unknown fields"),
        ("{}", "version None"),
        (broken(cameras={"a": [1]}), "'cameras' is malformed"),
        (broken(cameras={"a": [True, 1]}), "'cameras' is malformed"),
        (broken(cameras={"a": [0, 1]}), "1 to 8192"),
        (broken(arms="right"), "'arms' is malformed"),
        (broken(arms=[]), "at least one arm"),
        (broken(control_rate_hz=0), "control rate"),
        (broken(uses_language=1), "'uses_language' is malformed"),
    ],
)
def test_what_is_no_contract_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        Contract.from_json(text)


@pytest.mark.parametrize("text", ["96", "96x", "x96", "axb", "0x96", "-1x96", "96x96x3", "²x96"])
def test_an_image_size_is_width_x_height(text: str) -> None:
    with pytest.raises(ContractError):
        ImageSize.parse(text)


def test_an_image_size_reads_width_first() -> None:
    assert ImageSize.parse("640x480") == LARGE
    assert str(LARGE) == "640x480"


def test_a_contract_larger_than_any_stations_is_refused_unread(monkeypatch) -> None:
    """Comparing a megabyte of cameras' names with a policy's takes seconds."""

    def read(text: str) -> None:
        raise AssertionError("it was read")

    sizes = {f"camera {index}": ImageSize(height=1, width=1) for index in range(20_000)}
    text = Contract(cameras=sizes).to_json()
    largest = Contract(cameras=dict(list(sizes.items())[:1000])).to_json()
    assert Contract.from_json(largest).cameras["camera 999"] == sizes["camera 999"]
    monkeypatch.setattr(json, "loads", read)
    with pytest.raises(ContractError, match="expected at most 65536 characters, got"):
        Contract.from_json(text)
