"""A client like LBM Eval's: a channel for each call, no deadlines, waiting for the server."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_workspace.lbm_policy_conversions import (
    grpc_msg_to_poses_and_grippers,
    policy_observation_to_grpc_msg,
)
from grpc_workspace.proto import GetPolicyMetadata_pb2, PolicyReset_pb2, PolicyStep_pb2


@dataclass
class LbmPolicyClientConfig:
    wait_for_server: bool = True
    server_uri: str = "localhost:50051"

    def create(self) -> LbmPolicyClient:
        return LbmPolicyClient(config=self)


class LbmPolicyClient:
    def __init__(self, config: LbmPolicyClientConfig) -> None:
        self._server_uri = config.server_uri
        self._id = str(uuid.uuid4())
        if config.wait_for_server:
            with grpc.insecure_channel(self._server_uri) as channel:
                health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), wait_for_ready=True
                )

    def get_policy_metadata(self):
        request = GetPolicyMetadata_pb2.GetPolicyMetadataRequest(client_identifier=self._id)
        return self._call(
            "GetPolicyMetadata", request, GetPolicyMetadata_pb2.GetPolicyMetadataResponse
        ).policy_metadata

    def reset(self, *, seed=None, options=None) -> None:
        request = PolicyReset_pb2.PolicyResetRequest(client_identifier=self._id, seed=seed)
        self._call("PolicyReset", request, PolicyReset_pb2.PolicyResetResponse)

    def step(self, observation):
        request = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self._id, observation=policy_observation_to_grpc_msg(observation)
        )
        response = self._call("PolicyStep", request, PolicyStep_pb2.PolicyStepResponse)
        return grpc_msg_to_poses_and_grippers(response.action)

    def close(self) -> None:
        pass

    def _call(self, name, request, response_type):
        with grpc.insecure_channel(self._server_uri) as channel:
            call = channel.unary_unary(
                f"/lbm_policy_interface.{name}Service/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response_type.FromString,
            )
            response = call(request, wait_for_ready=True)
        if not response.success:
            raise RuntimeError(f"The server rejected this client uuid: {self._id}.")
        return response
