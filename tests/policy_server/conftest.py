"""A client below PolicyClient: any bytes, any identifier, and calls that are left under way."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from policy_interface.codec import MAX_MESSAGE_BYTES, encode_observation
from policy_interface.contract import Contract, ImageSize
from policy_interface.demonstration import Demonstration, save_demonstration
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.types import Action, Observation

_RESPONSES = {
    "GetPolicyMetadata": GetPolicyMetadata_pb2.GetPolicyMetadataResponse,
    "PolicyReset": PolicyReset_pb2.PolicyResetResponse,
    "PolicyStep": PolicyStep_pb2.PolicyStepResponse,
}


class Wire:
    """One client identifier on one channel."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.max_send_message_length", 2 * MAX_MESSAGE_BYTES)]
        )
        self.identifier = str(uuid.uuid4())

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def begin(self, method: str, request: Message | bytes, timeout_s: float = 30) -> Any:
        """A call under way: .result(), .code(), .details(), .cancel()."""
        call = self._channel.unary_unary(
            f"/lbm_policy_interface.{method}Service/{method}",
            response_deserializer=_RESPONSES[method].FromString,
        )
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return call.future(data, timeout=timeout_s)

    def reset(self, *, seed: int) -> None:
        request = PolicyReset_pb2.PolicyResetRequest(client_identifier=self.identifier, seed=seed)
        assert self.begin("PolicyReset", request).result().success

    def begin_step(
        self, observation: Observation | PolicyStep_pb2.MultiarmObservation, timeout_s: float = 30
    ) -> Any:
        message = (
            encode_observation(observation) if isinstance(observation, Observation) else observation
        )
        request = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self.identifier, observation=message
        )
        return self.begin("PolicyStep", request, timeout_s)


@pytest.fixture
def wire() -> Callable[[str], Wire]:
    return Wire


@pytest.fixture
def recording(tmp_path: Path, make_observation: Callable[..., Observation]) -> Path:
    """A recorded episode of six steps with one camera."""
    camera = {"scene_right_0": ImageSize(height=8, width=12)}
    observations = [make_observation(step, cameras=camera, time_s=step / 10) for step in range(6)]
    commanded = [make_observation(100 + step).desired for step in range(6)]
    path = tmp_path / "episode_000007.npz"
    save_demonstration(
        Demonstration.from_steps(
            observations,
            [
                Action(poses=each.poses, gripper_widths_m=each.gripper_widths_m)
                for each in commanded
            ],
            task="PickAndPlaceBox",
            scenario_index=7,
            seed=107,
            success=True,
            teacher="random",
            contract=Contract(cameras=camera),
            provenance={},
        ),
        path,
    )
    return path
