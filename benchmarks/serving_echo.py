"""A bare grpc.aio server that parses each PolicyStep and answers the same every time.

    python benchmarks/serving_echo.py HOST:PORT [--tuned]

What gRPC in Python costs by itself: no server in it can be faster. Without --tuned its options are
gRPC's own, but for the sizes of messages; with it, those that our server sets for large ones.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np

from policy_interface.client_commands import RESET, STEP
from policy_interface.codec import MAX_MESSAGE_BYTES, encode_action
from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.types import Action, Pose

_TUNED_OPTIONS = [
    ("grpc.http2.max_frame_size", 4 * 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),
]


async def _serve(address: str, *, is_tuned: bool) -> None:
    pose = Pose(rotation=np.eye(3), translation_m=np.array([0.4, 0.1, 0.3]))
    action = Action(
        poses={RIGHT_ARM: pose, LEFT_ARM: pose},
        gripper_widths_m={RIGHT_GRIPPER: 0.04, LEFT_GRIPPER: 0.04},
    )
    step_answer = PolicyStep_pb2.PolicyStepResponse(
        success=True, action=encode_action(action)
    ).SerializeToString()
    reset_answer = PolicyReset_pb2.PolicyResetResponse(success=True).SerializeToString()

    async def step(data: bytes, context: Any) -> bytes:
        PolicyStep_pb2.PolicyStepRequest.FromString(data)
        return step_answer

    async def reset(data: bytes, context: Any) -> bytes:
        return reset_answer

    server = grpc.aio.server(
        options=[
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            *(_TUNED_OPTIONS if is_tuned else []),
        ]
    )
    for path, behaviour in ((STEP, step), (RESET, reset)):
        _, service, method = path.split("/")
        handler = grpc.unary_unary_rpc_method_handler(behaviour)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
    host = address.rpartition(":")[0]
    port = server.add_insecure_port(address)
    await server.start()
    print(f"serving an echo at {host}:{port} (nothing else)", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], is_tuned="--tuned" in sys.argv[2:]))
