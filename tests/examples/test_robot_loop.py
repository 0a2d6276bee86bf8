"""The robot's loop keeps its time whatever the policy takes, and says what it did without it."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from policy_interface.client import PolicyClient
from policy_interface.contract import Contract, ImageSize
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import GatedPolicy, NoisePolicy, running_server

_FILE = Path(__file__).parents[2] / "examples" / "robot_loop.py"


@pytest.fixture(scope="module")
def robot_loop() -> Any:
    specification = importlib.util.spec_from_file_location("robot_loop", _FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["robot_loop"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["robot_loop"]


class VirtualTime:
    """Passes by sleeping; `late_s` holds by how much to oversleep, by the number of the sleep."""

    def __init__(self, late_s: dict[int, float] | None = None) -> None:
        self.now_s = 100.0
        self._late_s = late_s or {}
        self._num_sleeps = 0

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + self._late_s.get(self._num_sleeps, 0.0)
        self._num_sleeps += 1


def test_ticks_are_at_fixed_times(robot_loop) -> None:
    time = VirtualTime({0: 0.004, 2: 0.001})
    ticker = robot_loop.Ticker(0.02, time.clock, time.sleep)
    due_s = []
    for _ in range(5):
        due_s.append(ticker.wait())
        # The work of a tick.
        time.now_s += 0.003
    assert due_s == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])
    # A tick that came late puts off none of the others.
    assert ticker.lateness_s == pytest.approx([0.0, 0.004, 0.0, 0.001, 0.0])
    assert ticker.num_missed == 0


def test_ticks_that_are_gone_are_not_made_up_for(robot_loop) -> None:
    time = VirtualTime()
    ticker = robot_loop.Ticker(0.02, time.clock, time.sleep)
    assert ticker.wait() == 0.0
    time.now_s += 0.07
    assert ticker.wait() == pytest.approx(0.06)
    assert ticker.lateness_s[-1] == pytest.approx(0.01)
    assert ticker.num_missed == 2
    assert ticker.wait() == pytest.approx(0.08)


@pytest.mark.parametrize("rate_hz", [10, 50])
def test_the_loop_does_not_wait_for_a_plan(robot_loop, rate_hz) -> None:
    """The second plan is never made; the first one's 8 actions last for 0.8 s of 2 s."""
    policy = GatedPolicy(NoisePolicy(chunk_length=8))
    time = VirtualTime()
    with running_server(policy) as server, PolicyClient(server.address) as client:
        contract = client.handshake().policy_contract
        robot = robot_loop.FakeRobot(contract)
        client.reset(seed=0)
        policy.let_go()
        source = robot_loop.ChunkSource(client, robot.observe(0.0))
        report = robot_loop.control(
            robot, source, rate_hz=rate_hz, seconds=2.0, clock=time.clock, sleep=time.sleep
        )
        policy.let_go()
        source.stop()
    assert report.num_ticks == 2 * rate_hz
    assert report.achieved_rate_hz == pytest.approx(rate_hz)
    assert report.num_missed == 0
    assert report.num_stale == pytest.approx(1.2 * rate_hz)
    assert report.num_chunks == 1


def test_a_late_chunk_is_entered_where_the_time_is(robot_loop) -> None:
    """The plan that is due at step 4 comes at step 6; its actions 2 and 3 are left of it."""
    executed: list[Any] = []

    class Robot(robot_loop.FakeRobot):
        def command(self, action: Any) -> None:
            executed.append(action)
            super().command(action)

    policy = GatedPolicy(NoisePolicy(chunk_length=4))
    late: list[Any] = []
    time = VirtualTime()
    with running_server(policy) as server, PolicyClient(server.address) as client:
        robot = Robot(client.handshake().policy_contract)
        client.reset(seed=0)
        policy.let_go()
        source = robot_loop.ChunkSource(client, robot.observe(0.0))
        policy.next_batch_size()
        first = source.newest

        def sleep(seconds: float) -> None:
            if math.isclose(time.now_s, 100.4):
                # Step 4 has been shown: the plan is asked for.
                policy.next_batch_size()
            time.sleep(seconds)
            if math.isclose(time.now_s, 100.6):
                policy.let_go()
                source.stop()
                late.append(source.newest)

        report = robot_loop.control(
            robot, source, rate_hz=10, seconds=1.0, clock=time.clock, sleep=sleep
        )
    (second,) = late
    assert second.first_control_step == 4
    assert executed == [*first.actions, *second.actions[2:]]
    # Steps 4 and 5, before it came, and 8 and 9, after it.
    assert report.num_stale == 4


def test_a_server_that_fails_stops_the_robot(robot_loop, capsys) -> None:
    class OnePlan(HoldPolicy):
        num_plans = 0

        def plan(self, histories: Any, noise: Any) -> Any:
            self.num_plans += 1
            if self.num_plans > 1:
                raise ZeroDivisionError("no more")
            return super().plan(histories, noise)

    with running_server(OnePlan()) as server:
        assert robot_loop.main(["--address", server.address, "--rate", "100"]) == 1
    said = capsys.readouterr().err
    assert "holds still" in said
    assert "PolicyStep" in said


def test_it_runs_as_told(robot_loop, capsys) -> None:
    contract = Contract(
        cameras={"wrist": ImageSize(height=8, width=12)}, uses_language=True, control_rate_hz=100
    )
    policy = NoisePolicy(chunk_length=8, open_loop_steps=4, contract=contract)
    with running_server(policy) as server:
        arguments = ["--address", server.address, "--rate", "100", "--seconds", "0.3"]
        assert robot_loop.main([*arguments, "--encoding", "jpeg"]) == 0
        server.wait_until(lambda running: running.num_sessions == 0)
    said = capsys.readouterr().out
    assert "Hz of 100 Hz" in said
    assert "chunks" in said


def test_no_server_is_one_line(robot_loop, capsys) -> None:
    assert robot_loop.main(["--address", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
