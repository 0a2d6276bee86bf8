"""A real gRPC policy server on a loopback port, and evaluations against it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from policy_interface import codec
from policy_interface.contract import CONTRACT_KEY, Contract, ImageSize
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.types import Action, PolicyMetadata
from sim_client.compare.config import CompareConfig
from sim_client.compare.runner import run as run_study
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.runner import run
from tests.loopback_port import held_port

CAMERAS = {"scene_right_0": ImageSize(height=8, width=12)}
CONTRACT = Contract(cameras=CAMERAS, uses_language=True)
FIRST_EVALUATION_SEED = 100_000_100

# Within it a program of several processes has begun, where much else runs too.
PATIENCE_S = 240.0


@dataclass(frozen=True, kw_only=True)
class PolicyStep:
    """A request for an action. number: 1 for the first of its episode. cut_off: set when the
    call is over, by an answer or by the death of either side."""

    scenario_index: int
    number: int
    cut_off: threading.Event
    instruction: str | None = None


StepHook = Callable[[PolicyStep], None]
AnswerHook = Callable[[PolicyStep, Any], None]


class LoopbackPolicy(
    GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceServicer,
    PolicyReset_pb2_grpc.PolicyResetServiceServicer,
    PolicyStep_pb2_grpc.PolicyStepServiceServicer,
):
    """Holds still. `before_step` may block or do harm, `change_answer` spoils a message."""

    def __init__(self) -> None:
        self.name = "hold"
        self.runtime_information = {
            CONTRACT_KEY: CONTRACT.to_json(),
            "assay.checkpoint_sha256": "one",
            "assay.open_loop_steps": "8",
            "assay.max_batch_size": "16",
        }
        self.has_health = True
        self.before_step: StepHook = lambda step: None
        self.change_answer: AnswerHook = lambda step, action: None
        self.reset_indices: list[int] = []
        self._episodes: dict[str, list[int]] = {}
        self._held = contextlib.ExitStack()
        self._port = self._held.enter_context(held_port())
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, on the same port each time."""
        server = grpc.server(futures.ThreadPoolExecutor(8))
        GetPolicyMetadata_pb2_grpc.add_GetPolicyMetadataServiceServicer_to_server(self, server)
        PolicyReset_pb2_grpc.add_PolicyResetServiceServicer_to_server(self, server)
        PolicyStep_pb2_grpc.add_PolicyStepServiceServicer_to_server(self, server)
        if self.has_health:
            # Its other way to watch sends under a lock that the end of another watch waits for.
            servicer = health.HealthServicer(experimental_non_blocking=False)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        server.add_insecure_port(self.address)
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def close(self) -> None:
        self.stop()
        self._held.close()

    def GetPolicyMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        metadata = PolicyMetadata(name=self.name, runtime_information=self.runtime_information)
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=codec.encode_metadata(metadata)
        )

    def PolicyReset(self, request: Any, context: grpc.ServicerContext) -> Any:
        index = request.seed - FIRST_EVALUATION_SEED
        self.reset_indices.append(index)
        self._episodes[request.client_identifier] = [index, 0]
        return PolicyReset_pb2.PolicyResetResponse(success=True)

    def PolicyStep(self, request: Any, context: grpc.ServicerContext) -> Any:
        episode = self._episodes[request.client_identifier]
        episode[1] += 1
        cut_off = threading.Event()
        context.add_callback(cut_off.set)
        observation = codec.decode_observation(request.observation)
        step = PolicyStep(
            scenario_index=episode[0],
            number=episode[1],
            cut_off=cut_off,
            instruction=observation.language_instruction,
        )
        self.before_step(step)
        actual = observation.actual
        action = Action(poses=actual.poses, gripper_widths_m=actual.gripper_widths_m)
        message = codec.encode_action(action)
        self.change_answer(step, message)
        return PolicyStep_pb2.PolicyStepResponse(success=True, action=message)


class Gate:
    """Holds the policy's answer to one scenario's step until it is opened."""

    def __init__(self, scenario_index: int) -> None:
        self._scenario_index = scenario_index
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, step: PolicyStep) -> None:
        if (step.scenario_index, step.number) == (self._scenario_index, 2):
            self._reached.set()
            self._opened.wait()

    def wait_until_reached(self) -> None:
        assert self._reached.wait(timeout=PATIENCE_S), "the evaluation never came to the gate"

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def policy() -> Iterator[LoopbackPolicy]:
    """Not started yet, so that a test may change it first."""
    policy = LoopbackPolicy()
    yield policy
    policy.close()


@pytest.fixture
def served(policy: LoopbackPolicy) -> LoopbackPolicy:
    policy.start()
    return policy


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[int, str]], None]:
    """Write down what happens in which scenario of the fake station."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("FAKE_STATION_MARKS", str(marks))
    monkeypatch.setenv("FAKE_STATION_SCRIPT", "{}")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def write(fates: Mapping[int, str]) -> None:
        monkeypatch.setenv("FAKE_STATION_SCRIPT", json.dumps(fates))

    return write


Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(
    policy: LoopbackPolicy, script: Callable[[Mapping[int, str]], None], tmp_path: Path
) -> Evaluate:
    """Evaluate in this process, with the fake station: the exit code."""

    def evaluate(episodes: str = "0:4", **options: Any) -> int:
        config = EvaluationConfig(
            **{
                "tasks": ("PickAndPlaceBox",),
                "episodes": EpisodeRange.parse(episodes),
                "address": policy.address,
                "output": tmp_path / "rollouts",
                "workers": 1,
                "wait_for_server_s": 20.0,
                # An answer may be held until another process has begun.
                "step_timeout_s": 150.0,
                "time_limit_s": 1.0,
            }
            | options
        )
        return run(config, station_factory="fake_station:build")

    return evaluate


@pytest.fixture
def make_gate() -> Iterator[Callable[[int], Gate]]:
    """Gates that are opened at the end, however the test ends, so that no server thread stays."""
    gates: list[Gate] = []

    def make(scenario_index: int) -> Gate:
        gates.append(Gate(scenario_index))
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"


@pytest.fixture
def other(policy: Any) -> Iterator[Any]:
    """A second policy, which answers with what is no action in each scenario of `other.fails`."""
    second = type(policy)()
    second.name = "other"
    second.runtime_information |= {"assay.checkpoint_sha256": "two"}
    second.fails = range(10_000)

    def change_answer(step: Any, action: Any) -> None:
        if step.scenario_index in second.fails:
            del action.gripper_status[0]

    second.change_answer = change_answer
    second.start()
    yield second
    second.close()


@pytest.fixture
def compare(
    served: Any, other: Any, script: Callable[[Mapping[int, str]], None], study: Path
) -> Callable[..., int]:
    """Compare "hold", which succeeds, with "other", in this process: the exit code."""
    script({})

    def compare(*policies: str, **options: Any) -> int:
        config = CompareConfig(
            policies=policies or (served.address, other.address),
            **{
                "tasks": ("PickAndPlaceBox",),
                "max_episodes": 30,
                "output": study,
                "workers": 1,
                "wait_for_server_s": 20.0,
                "time_limit_s": 1.0,
            }
            | options,
        )
        return run_study(config, station_factory="fake_station:build")

    return compare
