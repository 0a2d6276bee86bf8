"""A client of our own messages with nothing in between, and a server to call."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from policy_interface.client_errors import ERROR_DETAIL_KEY
from policy_interface.codec import decode_action, encode_observation
from policy_interface.generated.assay_policy_interface import (
    PolicySession_pb2,
    PolicySession_pb2_grpc,
)
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.images import Encoding
from policy_interface.types import Observation
from policy_server.server import ServerOptions
from policy_server.testing import RunningServer, running_server

PATIENCE_S = 30.0


class Caller:
    """Our messages, with nothing in between."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.session = PolicySession_pb2_grpc.PolicySessionStub(self.channel)
        self._reset = PolicyReset_pb2_grpc.PolicyResetServiceStub(self.channel)
        self._step = PolicyStep_pb2_grpc.PolicyStepServiceStub(self.channel)
        self._metadata = GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceStub(self.channel)
        self.identifier = str(uuid.uuid4())

    def reset(self, *, metadata: Any = (), **fields: Any) -> None:
        request = PolicyReset_pb2.PolicyResetRequest(client_identifier=self.identifier, **fields)
        assert self._reset.PolicyReset(request, timeout=PATIENCE_S, metadata=metadata).success

    def name(self, *, metadata: Any = ()) -> str:
        request = GetPolicyMetadata_pb2.GetPolicyMetadataRequest()
        response = self._metadata.GetPolicyMetadata(request, timeout=PATIENCE_S, metadata=metadata)
        return response.policy_metadata.name

    def begin_step(
        self,
        observation: Observation,
        timeout_s: float = PATIENCE_S,
        encoding: Encoding = "raw",
        **fields: Any,
    ) -> Any:
        request = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self.identifier,
            observation=encode_observation(observation, encoding=encoding),
            **fields,
        )
        return self._step.PolicyStep.future(request, timeout=timeout_s)

    def step(self, observation: Observation, **fields: Any) -> PolicyStep_pb2.PolicyStepResponse:
        return self.begin_step(observation, **fields).result()

    def end(self) -> bool:
        request = PolicySession_pb2.EndEpisodeRequest(client_identifier=self.identifier)
        return self.session.EndEpisode(request, timeout=PATIENCE_S).was_known


@contextmanager
def served(policy: Any, **options: Any) -> Iterator[tuple[RunningServer, Caller]]:
    """options: the server's."""
    with running_server(policy, ServerOptions(address="127.0.0.1:0", **options)) as server:
        caller = Caller(server.address)
        with caller.channel:
            yield server, caller


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, PolicySession_pb2.ErrorDetail]:
    """The status code, its text and the details of a call that the server refuses."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    detail = next(value for key, value in error.trailing_metadata() if key == ERROR_DETAIL_KEY)
    return error.code(), error.details(), PolicySession_pb2.ErrorDetail.FromString(detail)


def numbers(action: PolicyStep_pb2.PosesAndGrippers) -> np.ndarray:
    """Of all arms, one after the other by name."""
    decoded = decode_action(action)
    return np.concatenate([pose.matrix().ravel() for _, pose in sorted(decoded.poses.items())])
