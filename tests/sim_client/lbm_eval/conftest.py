"""LBM Eval's stand-in on the path of child processes, and a policy server on a loopback port."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from policy_interface import codec
from policy_interface.generate import SOURCES
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.types import PolicyMetadata
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.runner import run
from sim_client.lbm_eval.skills import SKILLS
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import RolloutRecord

STAND_IN = Path(__file__).with_name("stand_in")

FIRST_EVALUATION_SEED = 100_000_100
STEP_M = 0.02


class LoopbackPolicy(
    GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceServicer,
    PolicyReset_pb2_grpc.PolicyResetServiceServicer,
    PolicyStep_pb2_grpc.PolicyStepServiceServicer,
):
    """Moves the arms upwards after the first control step.

    num_held_steps: after how many instead, by scenario index.
    spoil: what to do once to the answer to a scenario's second control step, by its index.
    """

    def __init__(self) -> None:
        self.runtime_information: dict[str, str] = {"assay.checkpoint_sha256": "one"}
        self.num_held_steps: dict[int, int] = {}
        self.spoil: dict[int, Callable[[Any, grpc.ServicerContext], None]] = {}
        self.num_resets: dict[int, int] = {}
        self.after_reset: Callable[[int], None] = lambda index: None
        self._episodes: dict[str, list[int]] = {}
        server = grpc.server(futures.ThreadPoolExecutor(8))
        GetPolicyMetadata_pb2_grpc.add_GetPolicyMetadataServiceServicer_to_server(self, server)
        PolicyReset_pb2_grpc.add_PolicyResetServiceServicer_to_server(self, server)
        PolicyStep_pb2_grpc.add_PolicyStepServiceServicer_to_server(self, server)
        # Its other way to watch sends under a lock that the end of another watch waits for.
        servicer = health.HealthServicer(experimental_non_blocking=False)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        self._server = server
        server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def GetPolicyMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        metadata = PolicyMetadata(name="hold", runtime_information=self.runtime_information)
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=codec.encode_metadata(metadata)
        )

    def PolicyReset(self, request: Any, context: grpc.ServicerContext) -> Any:
        index = request.seed - FIRST_EVALUATION_SEED
        self.num_resets[index] = self.num_resets.get(index, 0) + 1
        self._episodes[request.client_identifier] = [index, 0]
        self.after_reset(index)
        return PolicyReset_pb2.PolicyResetResponse(success=True)

    def PolicyStep(self, request: Any, context: grpc.ServicerContext) -> Any:
        episode = self._episodes[request.client_identifier]
        episode[1] += 1
        index, number = episode
        response = PolicyStep_pb2.PolicyStepResponse(success=True)
        response.action.CopyFrom(request.observation.robot.actual)
        if number > self.num_held_steps.get(index, 1):
            for status in response.action.pose_status:
                status.pose.translation[2] += STEP_M
        if number == 2 and index in self.spoil:
            self.spoil.pop(index)(response, context)
        return response


@pytest.fixture
def policy() -> Iterator[LoopbackPolicy]:
    policy = LoopbackPolicy()
    yield policy
    policy.stop()


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LBM Eval's own stubs: compiled under the names that they have there."""
    from grpc_tools import protoc

    folder = tmp_path_factory.mktemp("stubs")
    package = folder / "grpc_workspace" / "proto"
    package.mkdir(parents=True)
    sources = SOURCES / "lbm_policy_interface"
    names = [source.name for source in sources.glob("*.proto")]
    assert protoc.main(["", f"--proto_path={sources}", f"--python_out={package}", *names]) == 0
    return folder


@pytest.fixture
def script(
    tmp_path: Path, stubs: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[int, str]], None]:
    """Install the stand-in for child processes; the fates of its scenarios, by index."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{STAND_IN}:{stubs}")
    monkeypatch.setenv("LBM_STAND_IN_MARKS", str(marks))
    monkeypatch.setenv("LBM_STAND_IN_SCRIPT", "{}")
    skills = [skill.snake_case_name for skill in SKILLS.values()]
    monkeypatch.setenv("LBM_STAND_IN_SKILLS", json.dumps(skills))

    def write(fates: Mapping[int, str]) -> None:
        monkeypatch.setenv("LBM_STAND_IN_SCRIPT", json.dumps(fates))

    return write


Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(
    policy: LoopbackPolicy, script: Callable[[Mapping[int, str]], None], tmp_path: Path
) -> Evaluate:
    """Evaluate in this process: the exit code."""

    def evaluate(episodes: str = "0:2", **options: Any) -> int:
        config = EvaluationConfig(
            **{
                "tasks": ("PutMugOnSaucer",),
                "episodes": EpisodeRange.parse(episodes),
                "simulator": "lbm-eval",
                "address": policy.address,
                "output": tmp_path / "rollouts",
                "workers": 1,
            }
            | options
        )
        return run(config)

    return evaluate


@pytest.fixture
def ledger(tmp_path: Path) -> Callable[[], list[RolloutRecord]]:
    return lambda: read_ledger(tmp_path / "rollouts" / "hold" / "ledger.jsonl")


@pytest.fixture
def event() -> Iterator[threading.Event]:
    """Set at the end, however the test ends, so that no server's thread waits on."""
    event = threading.Event()
    yield event
    event.set()
