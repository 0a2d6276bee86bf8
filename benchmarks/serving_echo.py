"""A bare grpc.aio server that parses each PolicyStep and answers the same every time.

    python benchmarks/serving_echo.py HOST:PORT [--tuned]

What gRPC in Python costs by itself: no server in it can be faster. Without --tuned its options are
gRPC's own, but for the sizes of messages; with it, it has what our server does for large messages,
to its connections and to its memory.

It imports next to nothing, and that matters: untuned, glibc decides by what a program has freed
so far whether it keeps a freed request's half megabyte or returns it to the kernel, and the second
makes the very same loop take twice as long. With numpy's and our own modules imported it does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2

# As policy_interface.codec has it.
_MAX_MESSAGE_BYTES = 30 * 1024 * 1024


def _step_answer() -> bytes:
    """An action for two arms and two grippers."""
    pose = PolicyStep_pb2.RigidTransform(
        translation=[0.4, 0.1, 0.3], rotation=[1, 0, 0, 0, 1, 0, 0, 0, 1]
    )
    action = PolicyStep_pb2.PosesAndGrippers(timestamp_data=PolicyStep_pb2.Time(sec=-1))
    for side in ("right", "left"):
        action.pose_status.add(robot_name=f"{side}::panda", pose=pose)
        action.gripper_status.add(gripper_name=f"{side}::panda_hand", gripper_position=0.04)
    return PolicyStep_pb2.PolicyStepResponse(success=True, action=action).SerializeToString()


async def _serve(address: str, *, is_tuned: bool) -> None:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ]
    if is_tuned:
        from policy_server.message_memory import keep_message_memory

        keep_message_memory()
        options += [
            ("grpc.http2.max_frame_size", 4 * 1024 * 1024),
            ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
            ("grpc.http2.bdp_probe", 0),
        ]
    step_answer = _step_answer()
    reset_answer = PolicyReset_pb2.PolicyResetResponse(success=True).SerializeToString()

    async def step(data: bytes, context: Any) -> bytes:
        PolicyStep_pb2.PolicyStepRequest.FromString(data)
        return step_answer

    async def reset(data: bytes, context: Any) -> bytes:
        return reset_answer

    server = grpc.aio.server(options=options)
    for method, behaviour in (("PolicyStep", step), ("PolicyReset", reset)):
        handler = grpc.unary_unary_rpc_method_handler(behaviour)
        service = f"lbm_policy_interface.{method}Service"
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
