"""A robot's control loop that keeps its rate while the policy takes longer than a period.

    policy-server serve sleep:100:16 --open-loop-steps 8
    python examples/robot_loop.py --address 127.0.0.1:50051 --rate 50 --seconds 10

The loop never waits for the network. A thread beside it asks the server for a chunk of actions each
time that the next plan is due, with the robot's newest observation; the loop executes what the
newest chunk says for the time it is now. What a late chunk says of the past is skipped. Where no
chunk says anything of the present, the last command stays, and that is counted: then a chunk should
reach further beyond the next plan, by more than planning takes (--open-loop-steps of the server).

The robot here is a made-up one, two arms that follow their commands with a lag, so that this runs
anywhere. To drive yours, give FakeRobot's methods what they do on it.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from policy_interface.action_chunk import ActionChunk
from policy_interface.client import PolicyClient
from policy_interface.client_errors import PolicyServerError
from policy_interface.contract import Contract
from policy_interface.types import (
    Action,
    CameraView,
    InvalidValueError,
    Observation,
    Pose,
    RobotState,
)

# How long an answer may take before the robot holds still for good.
STEP_TIMEOUT_S = 5.0


class FakeRobot:
    """Arms that close the distance to their command with a time constant, and cameras of noise."""

    time_constant_s = 0.15

    def __init__(self, contract: Contract) -> None:
        """contract: the policy's; this robot has whatever is asked for."""
        generator = np.random.default_rng(0)
        self._contract = contract
        self._images = {
            name: generator.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
            for name, size in contract.cameras.items()
        }
        self._actual = RobotState(
            poses={
                arm: Pose(rotation=np.eye(3), translation_m=np.array([0.4, 0.3 * side, 0.3]))
                for side, arm in enumerate(contract.arms)
            },
            gripper_widths_m=dict.fromkeys(contract.grippers, 0.08),
        )
        self._desired = self._actual

    def observe(self, time_s: float) -> Observation:
        """time_s: since the episode began."""
        return Observation(
            actual=self._actual,
            desired=self._desired,
            cameras={
                name: CameraView(rgb=image, intrinsics=np.eye(3), X_TC=Pose.identity())
                for name, image in self._images.items()
            },
            language_instruction="hold still" if self._contract.uses_language else None,
            time_s=time_s,
        )

    def command(self, action: Action) -> None:
        self._desired = RobotState(poses=action.poses, gripper_widths_m=action.gripper_widths_m)

    def move(self, seconds: float) -> None:
        """Let so much time pass: on a real robot, this does nothing."""
        share = 1 - math.exp(-seconds / self.time_constant_s)
        self._actual = RobotState(
            poses={
                arm: Pose(
                    rotation=self._desired.poses[arm].rotation,
                    translation_m=pose.translation_m
                    + share * (self._desired.poses[arm].translation_m - pose.translation_m),
                )
                for arm, pose in self._actual.poses.items()
            },
            gripper_widths_m=self._desired.gripper_widths_m,
        )


class ChunkSource:
    """Asks for chunks in a thread of its own; `newest` is always there to be executed."""

    def __init__(self, client: PolicyClient, first: Observation) -> None:
        """Returns with the first chunk. first: what the robot, still at rest, observes."""
        self.newest: ActionChunk = client.step_chunk(first)
        self.num_chunks = 1
        self.answer_times_s: list[float] = []
        self.failure: Exception | None = None
        self._client = client
        self._changed = threading.Condition()
        self._observation = first
        self._control_step = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._ask, name="chunk-source", daemon=True)
        self._thread.start()

    def show(self, observation: Observation, control_step: int) -> None:
        """What the robot observes now, and which control step of the policy it is."""
        with self._changed:
            self._observation = observation
            self._control_step = control_step
            self._changed.notify()

    def stop(self) -> None:
        """Once an answer under way has come, or has not come in time."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()

    def _is_next_due(self) -> bool:
        return self._is_over or self._control_step >= self.newest.next_plan_step

    def _ask(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._is_next_due)
                    if self._is_over:
                        return
                    observation, control_step = self._observation, self._control_step
                asked_s = time.perf_counter()
                self.newest = self._client.step_chunk(observation, control_step=control_step)
                self.answer_times_s.append(time.perf_counter() - asked_s)
                self.num_chunks += 1
        except (PolicyServerError, InvalidValueError) as error:
            # For the loop, which stops the robot.
            self.failure = error


class Ticker:
    """Ticks at fixed times: a tick that comes late does not put off those after it."""

    def __init__(
        self, period_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self.period_s = period_s
        self.num_missed = 0
        self.lateness_s: list[float] = []
        self._clock = clock
        self._sleep = sleep
        self._start_s = clock()
        self._index = -1

    def wait(self) -> float:
        """Until the next tick; the time that it was due, in seconds since the first."""
        self._index += 1
        now_s = self._clock() - self._start_s
        # Ticks that are gone are not made up for: a robot is to be commanded once for a period.
        overdue = math.floor(now_s / self.period_s) - self._index
        if overdue > 0:
            self.num_missed += overdue
            self._index += overdue
        due_s = self._index * self.period_s
        if now_s < due_s:
            self._sleep(due_s - now_s)
            now_s = self._clock() - self._start_s
        self.lateness_s.append(now_s - due_s)
        return due_s


@dataclass(frozen=True, kw_only=True)
class LoopReport:
    """How well the loop kept its time."""

    rate_hz: float
    achieved_rate_hz: float
    num_ticks: int
    num_missed: int
    lateness_p50_ms: float
    lateness_p99_ms: float
    lateness_max_ms: float
    num_stale: int
    num_chunks: int
    longest_answer_ms: float

    def __str__(self) -> str:
        return (
            f"rate      {self.achieved_rate_hz:.2f} Hz of {self.rate_hz:g} Hz: "
            f"{self.num_ticks} ticks, {self.num_missed} missed\n"
            f"jitter    p50 {self.lateness_p50_ms:.2f} ms, p99 {self.lateness_p99_ms:.2f} ms, "
            f"max {self.lateness_max_ms:.2f} ms after their time\n"
            f"policy    {self.num_chunks} chunks, those after the first within "
            f"{self.longest_answer_ms:.0f} ms\n"
            f"stale     {self.num_stale} ticks held the last command: no chunk reached them"
        )


def control(
    robot: FakeRobot,
    source: ChunkSource,
    *,
    rate_hz: float,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> LoopReport:
    """The loop itself. Raises what the source failed with."""
    num_stale = 0
    ticker = Ticker(1 / rate_hz, clock, sleep)
    while (time_s := ticker.wait()) < seconds:
        if source.failure is not None:
            raise source.failure
        chunk = source.newest
        # A tick's time may fall a rounding error short of the step that it begins.
        control_step = math.floor(time_s * chunk.control_rate_hz + 1e-6)
        action = chunk.action_at(control_step)
        if action is None:
            num_stale += 1
        else:
            robot.command(action)
        robot.move(ticker.period_s)
        source.show(robot.observe(time_s), control_step)
    lateness_ms = 1e3 * np.array(ticker.lateness_s[:-1])
    num_ticks = len(lateness_ms)
    return LoopReport(
        rate_hz=rate_hz,
        achieved_rate_hz=num_ticks / time_s,
        num_ticks=num_ticks,
        num_missed=ticker.num_missed,
        lateness_p50_ms=float(np.percentile(lateness_ms, 50)),
        lateness_p99_ms=float(np.percentile(lateness_ms, 99)),
        lateness_max_ms=float(lateness_ms.max()),
        num_stale=num_stale,
        num_chunks=source.num_chunks,
        longest_answer_ms=1e3 * max(source.answer_times_s, default=0.0),
    )


def run(client: PolicyClient, *, rate_hz: float, seconds: float, seed: int) -> LoopReport:
    """One episode. Raises PolicyServerError, and InvalidValueError for a chunk that is none."""
    contract = client.handshake().policy_contract
    robot = FakeRobot(contract)
    # A real robot states what it has, and is told here what it lacks.
    client.reset(seed=seed, station_contract=contract)
    source = ChunkSource(client, robot.observe(0.0))
    try:
        report = control(robot, source, rate_hz=rate_hz, seconds=seconds)
    finally:
        source.stop()
    client.end_episode()
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", default="127.0.0.1:50051", help="HOST:PORT of the server")
    parser.add_argument("--rate", type=float, default=50.0, help="of the robot's loop, in Hz")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", help="which of the server's policies, by name")
    parser.add_argument("--encoding", choices=["raw", "jpeg", "png"], default="raw")
    options = parser.parse_args(arguments)
    if not (0 < options.rate <= 1000 and 0 < options.seconds < math.inf):
        parser.error("--rate: expected up to 1000 Hz; --seconds: expected more than 0")
    # Python lets a thread run for 5 ms before another gets its turn, which is a quarter of a period
    # at 50 Hz: the loop would come late each time that an observation is being encoded.
    sys.setswitchinterval(5e-4)
    try:
        with PolicyClient(
            options.address,
            timeout_s=STEP_TIMEOUT_S,
            policy=options.policy,
            encoding=options.encoding,
        ) as client:
            report = run(client, rate_hz=options.rate, seconds=options.seconds, seed=options.seed)
    except (PolicyServerError, InvalidValueError) as error:
        print(f"robot_loop: the robot holds still: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
