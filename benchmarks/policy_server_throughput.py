"""Steps a second of the policy server with a policy that does next to nothing; prints JSON.

    python benchmarks/policy_server_throughput.py --clients 1 16
    python benchmarks/policy_server_throughput.py --reference PATH_TO_A_CHECKOUT_OF_lbm_eval

With --reference, LBM Eval's own sample server (grpc_workspace/wave_around_policy_server.py, with
batches as large as there are clients and as small as one) takes the same load in the same run.
Compare the ratios, not the numbers: these depend on the machine and on what else it does. Every
step carries raw RGB images and waits for its action; each client keeps one channel. (LBM
Eval's client opens one a call, so with it the sample server is slower than here.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from policy_interface.client import PolicyClient
from policy_interface.codec import MAX_MESSAGE_BYTES, encode_observation
from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER, ImageSize
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.types import CameraView, Observation, Pose, RobotState

_RESET = "/lbm_policy_interface.PolicyResetService/PolicyReset"
_STEP = "/lbm_policy_interface.PolicyStepService/PolicyStep"
_CHANNEL_OPTIONS = [("grpc.max_send_message_length", MAX_MESSAGE_BYTES)]
_NUM_WARM_UP_STEPS = 10
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What each client sends, and for how long."""

    num_cameras: int
    size: ImageSize
    seconds: float

    def observation(self) -> Observation:
        generator = np.random.default_rng(0)
        state = RobotState(
            poses={RIGHT_ARM: Pose.identity(), LEFT_ARM: Pose.identity()},
            gripper_widths_m={RIGHT_GRIPPER: 0.04, LEFT_GRIPPER: 0.04},
            joint_positions_rad={RIGHT_ARM: np.zeros(7), LEFT_ARM: np.zeros(7)},
        )
        shape = (self.size.height, self.size.width, 3)
        return Observation(
            actual=state,
            desired=state,
            cameras={
                f"camera_{index}": CameraView(
                    rgb=generator.integers(0, 256, shape, dtype=np.uint8),
                    intrinsics=np.eye(3),
                    X_TC=Pose.identity(),
                )
                for index in range(self.num_cameras)
            },
        )


async def _client_latencies_s(address: str, load: Load) -> list[float]:
    """One client's episode: the time of each step, sent as soon as the one before is answered."""
    identifier = str(uuid.uuid4())
    reset = PolicyReset_pb2.PolicyResetRequest(client_identifier=identifier, seed=0)
    step = PolicyStep_pb2.PolicyStepRequest(
        client_identifier=identifier, observation=encode_observation(load.observation())
    ).SerializeToString()
    # A channel of its own: gRPC would share one connection among channels that look alike.
    options = [*_CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        await channel.unary_unary(_RESET)(reset.SerializeToString())
        call_step: Any = channel.unary_unary(_STEP)
        for _ in range(_NUM_WARM_UP_STEPS):
            response = PolicyStep_pb2.PolicyStepResponse.FromString(await call_step(step))
            assert response.success
            assert len(response.action.pose_status) == 2
        latencies_s = []
        end_s = time.perf_counter() + load.seconds
        while (start_s := time.perf_counter()) < end_s:
            await call_step(step)
            latencies_s.append(time.perf_counter() - start_s)
        return latencies_s


async def _measure(address: str, num_clients: int, load: Load) -> dict[str, float]:
    by_client = await asyncio.gather(
        *(_client_latencies_s(address, load) for _ in range(num_clients))
    )
    latencies_ms = 1e3 * np.concatenate(by_client)
    p50, p95, p99 = np.percentile(latencies_ms, [50, 95, 99])
    return {
        "steps_per_s": len(latencies_ms) / load.seconds,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
    }


@contextlib.contextmanager
def _server(command: list[str], environment: Mapping[str, str], address: str) -> Iterator[str]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        request, answer = b"", b"\x08\x01"  # HealthCheckRequest(), SERVING
        with grpc.insecure_channel(address) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            status = check(request, timeout=_START_TIMEOUT_S, wait_for_ready=True)
        if status != answer:
            # Ours listens before its policy is loaded.
            with PolicyClient(address) as client:
                client.wait_until_serving(timeout_s=_START_TIMEOUT_S)
        yield address
    finally:
        process.terminate()
        process.wait()


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _ours() -> contextlib.AbstractContextManager[str]:
    address = _free_address()
    command = [sys.executable, "-m", "policy_server.command_line", "serve", "hold"]
    return _server([*command, "--address", address], {}, address)


def _theirs(folder: Path, max_batch_size: int) -> contextlib.AbstractContextManager[str]:
    address = _free_address()
    command = [sys.executable, "-m", "grpc_workspace.wave_around_policy_server"]
    options = ["--server-uri", address, "--batch-max-size", str(max_batch_size)]
    return _server([*command, *options], {"PYTHONPATH": str(folder.resolve())}, address)


def _median_of_rounds(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]}


def _measurements(arguments: argparse.Namespace, load: Load) -> list[dict[str, Any]]:
    results = []
    for num_clients in arguments.clients:
        servers = {"assay": _ours}
        if arguments.reference is not None:
            for size in sorted({1, num_clients}):
                servers[f"reference, batches of {size}"] = lambda size=size: _theirs(
                    arguments.reference, size
                )
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        # In turns, so that a slow moment of the machine falls on all of them alike.
        for _ in range(arguments.rounds):
            for name, start in servers.items():
                with start() as address:
                    rounds[name].append(asyncio.run(_measure(address, num_clients, load)))
        result: dict[str, Any] = {"num_clients": num_clients}
        result |= {name: _median_of_rounds(each) for name, each in rounds.items()}
        others = [result[name] for name in servers if name != "assay"]
        if others:
            best = max(others, key=lambda each: each["steps_per_s"])
            result["throughput_ratio"] = round(
                result["assay"]["steps_per_s"] / best["steps_per_s"], 2
            )
            result["p50_ratio"] = round(best["p50_ms"] / result["assay"]["p50_ms"], 2)
        results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--size", type=ImageSize.parse, default=ImageSize(height=224, width=224))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the medians of so many are printed")
    parser.add_argument("--reference", type=Path, help="a checkout of lbm_eval to compare with")
    arguments = parser.parse_args()
    reference = arguments.reference
    if reference is not None and not (reference / "grpc_workspace").is_dir():
        parser.error(f"--reference: {reference} holds no grpc_workspace")
    load = Load(num_cameras=arguments.cameras, size=arguments.size, seconds=arguments.seconds)
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "images": f"{load.num_cameras} raw {load.size}",
        "step_bytes": encode_observation(load.observation()).ByteSize(),
        "seconds": load.seconds,
        "rounds": arguments.rounds,
        "results": _measurements(arguments, load),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
