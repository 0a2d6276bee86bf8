"""Steps by the million through one server process: does its memory grow? Prints one line of JSON.

    python benchmarks/serving_soak.py                   2,000,000 steps and 20,000 sessions
    python benchmarks/serving_soak.py --steps 50000

Small images, so that it is steps that are counted. Episodes are begun by call and by stream, ended
by their end, left behind unended (as LBM Eval's client leaves them), or cut off in the middle of a
call; whole processes are killed; and among all that go requests that are malformed. Resident memory
and descriptors of the server are sampled all along; the slopes are fitted to the second half, when
every buffer and table has reached its size. The exit code is 1 where memory or descriptors grow.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import platform
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from policy_interface.client_commands import END_EPISODE, EPISODE, RESET, STEP
from policy_interface.client_errors import CallFailure
from policy_interface.contract import ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.observation_bytes import (
    episode_step_bytes,
    observation_bytes,
    step_request_bytes,
)
from policy_server.bench.own_server import ending_with_us, own_server
from policy_server.bench.scene import scene_observations

_SIZE = ImageSize(height=16, width=16)
_NUM_OBSERVATIONS = 8
_CHUNK_LENGTH = 8
_NUM_SAMPLES = 400
_NUM_KILLS = 40
_CALL_TIMEOUT_S = 60.0

# Two bytes a step, or two hundred a session: 4 MB in the whole run. A descriptor in 100,000 steps.
_MAX_RSS_SLOPE_BYTES_PER_1000_STEPS = 2_000.0
_MAX_FD_SLOPE_PER_1000_STEPS = 0.01
# What is allowed for a slope's uncertainty: so many of its standard errors.
_NUM_STANDARD_ERRORS = 3.0
# Before this the server's buffers still grow to their sizes, and so does any slope.
_MIN_STEPS_TO_TELL = 200_000

# How an episode ends, and of how many in a hundred that is the way.
_ENDINGS = ("ended", "left", "cut")
_ENDING_WEIGHTS = (80, 15, 5)

_MALFORMED_EVERY = 40


@dataclass
class Progress:
    """Counted by all clients of the one event loop. `samples`: steps, RSS, descriptors."""

    num_steps_wanted: int
    num_sessions_wanted: int
    num_steps: int = 0
    num_sessions: int = 0
    num_cut: int = 0
    num_killed: int = 0
    num_left: int = 0
    num_malformed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[int, int, int]] = field(default_factory=list)

    def next_episode(self) -> int | None:
        """The number of the next one; None when there were enough."""
        if self.num_sessions >= self.num_sessions_wanted:
            return None
        self.num_sessions += 1
        return self.num_sessions

    async def reached(self, num_steps: int) -> None:
        """Return when there were so many steps."""
        while self.num_steps < num_steps:
            await asyncio.sleep(0.02)

    @property
    def steps_an_episode(self) -> int:
        return math.ceil(self.num_steps_wanted / self.num_sessions_wanted)


class Memory:
    """What the server's process holds, by Linux's account."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/statm")
        self._descriptors = Path(f"/proc/{pid}/fd")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def sample(self) -> tuple[int, int]:
        """Resident bytes and open descriptors."""
        resident_pages = int(self._status.read_text().split()[1])
        return resident_pages * self._page_bytes, len(list(self._descriptors.iterdir()))


class Requests:
    """All that a client says, as bytes."""

    def __init__(self, size: ImageSize) -> None:
        observations = scene_observations(num_cameras=2, size=size, num_steps=_NUM_OBSERVATIONS)
        raw = [observation_bytes(each) for each in observations]
        jpeg = [observation_bytes(each, encoding="jpeg") for each in observations]
        self._observations = raw[::2] + jpeg[1::2]
        stepped = PolicySession_pb2.EpisodeStep()
        self.stream_steps = [episode_step_bytes(stepped, each) for each in self._observations]

    def steps(self, identifier: str) -> list[bytes]:
        fields = PolicyStep_pb2.PolicyStepRequest(client_identifier=identifier)
        return [step_request_bytes(fields, each) for each in self._observations]

    def malformed(self, identifier: str, generator: random.Random) -> bytes:
        """A request that no server may answer with an action."""
        step = PolicyStep_pb2.PolicyStepRequest.FromString(self.steps(identifier)[0])
        image = step.observation.visuo[0].camera_rgb.image
        kind = generator.randrange(6)
        if kind == 0:
            return generator.randbytes(200) + b"\xff"
        if kind == 1:
            step.client_identifier = "not a UUID"
        elif kind == 2:
            step.client_identifier = str(uuid.uuid4())
        elif kind == 3:
            image.height += 1
        elif kind == 4:
            image.dtype = 17  # pyright: ignore[reportAttributeAccessIssue]
        else:
            step.observation.robot.actual.pose_status[0].pose.rotation[0] = math.nan
        return step.SerializeToString()


async def _client(address: str, requests: Requests, progress: Progress, seed: int) -> None:
    """One episode after the other, over channels of which each has its own connection."""
    generator = random.Random(seed)  # noqa: S311 (repeats, guards nothing)
    while True:
        async with _channel(address) as channel:
            # A connection lasts for some episodes, as a robot's does.
            for _ in range(20):
                number = progress.next_episode()
                if number is None:
                    return
                ending = generator.choices(_ENDINGS, _ENDING_WEIGHTS)[0]
                run = _episode_by_stream if number % 3 == 0 else _episode_by_call
                await run(channel, requests, progress, generator, ending)


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


async def _episode_by_call(
    channel: grpc.aio.Channel,
    requests: Requests,
    progress: Progress,
    generator: random.Random,
    ending: str,
) -> None:
    identifier = str(uuid.uuid4())
    reset: Any = channel.unary_unary(RESET)
    step: Any = channel.unary_unary(STEP)
    end: Any = channel.unary_unary(END_EPISODE)
    begin = PolicyReset_pb2.PolicyResetRequest(client_identifier=identifier, seed=1)
    await reset(begin.SerializeToString(), timeout=_CALL_TIMEOUT_S)
    steps = itertools.cycle(requests.steps(identifier))
    for index in range(progress.steps_an_episode):
        if index % _MALFORMED_EVERY == 5:
            request = requests.malformed(identifier, generator)
            await _malformed(step(request, timeout=_CALL_TIMEOUT_S), progress)
        await step(next(steps), timeout=_CALL_TIMEOUT_S)
        progress.num_steps += 1
    if ending == "ended":
        request = PolicySession_pb2.EndEpisodeRequest(client_identifier=identifier)
        await end(request.SerializeToString(), timeout=_CALL_TIMEOUT_S)
    elif ending == "left":
        progress.num_left += 1
    else:
        # Killed while a call is under way.
        call = step(next(steps), timeout=_CALL_TIMEOUT_S)
        await asyncio.sleep(0)
        call.cancel()
        progress.num_cut += 1


async def _malformed(call: Awaitable[Any], progress: Progress) -> None:
    try:
        await call
    except grpc.RpcError as error:
        progress.statuses[CallFailure.of(error).status.name] += 1
    else:
        progress.statuses["ANSWERED"] += 1
    progress.num_malformed += 1


async def _episode_by_stream(
    channel: grpc.aio.Channel,
    requests: Requests,
    progress: Progress,
    generator: random.Random,
    ending: str,
) -> None:
    stream: Any = channel.stream_stream(EPISODE)(timeout=10 * _CALL_TIMEOUT_S)
    begin = PolicySession_pb2.EpisodeRequest(begin=PolicySession_pb2.EpisodeBegin(seed=2))
    await stream.write(begin.SerializeToString())
    await stream.read()
    for _, request in zip(
        range(progress.steps_an_episode), itertools.cycle(requests.stream_steps), strict=False
    ):
        await stream.write(request)
        answer = await stream.read()
        if not isinstance(answer, bytes):
            raise SystemExit(f"soak: a stream ended: {await stream.code()}")
        progress.num_steps += 1
    if ending == "ended":
        await stream.done_writing()
        await stream.read()
    elif ending == "left":
        # Malformed: an episode begins but once.
        await _malformed(_second_begin(stream, begin), progress)
    else:
        await stream.write(requests.stream_steps[0])
        stream.cancel()
        progress.num_cut += 1


async def _kill_clients(address: str, progress: Progress) -> None:
    """All through the soak, processes with calls under way that end without a word."""
    for wanted in itertools.count(0, max(progress.num_steps_wanted // _NUM_KILLS, 1)):
        await progress.reached(wanted)
        process = await asyncio.create_subprocess_exec(
            *ending_with_us(),
            *(sys.executable, __file__, "--victim", address),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            await process.stdout.readline()
        finally:
            process.kill()
            await process.wait()
        progress.num_killed += 1


async def _be_killed(address: str) -> None:
    """Call without end. Says so on standard output once it does."""
    progress = Progress(num_steps_wanted=10**9, num_sessions_wanted=10**7)
    requests = Requests(_SIZE)
    async with asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(_client(address, requests, progress, seed))
        await progress.reached(20)
        print("under way", flush=True)


async def _second_begin(stream: Any, begin: PolicySession_pb2.EpisodeRequest) -> None:
    await stream.write(begin.SerializeToString())
    await stream.read()


async def _watch(memory: Memory, progress: Progress) -> None:
    """Sample at even numbers of steps."""
    step = max(progress.num_steps_wanted // _NUM_SAMPLES, 1)
    began_s = time.monotonic()
    for wanted in itertools.count(0, step):
        await progress.reached(wanted)
        progress.samples.append((progress.num_steps, *memory.sample()))
        if len(progress.samples) % (_NUM_SAMPLES // 20) == 0:
            rate = progress.num_steps / (time.monotonic() - began_s)
            _, resident_bytes, descriptors = progress.samples[-1]
            print(
                f"{progress.num_steps} steps of {progress.num_sessions} sessions, "
                f"{rate:.0f} steps/s, {resident_bytes / 2**20:.1f} MiB, {descriptors} descriptors",
                file=sys.stderr,
                flush=True,
            )


async def _soak(address: str, pid: int, arguments: argparse.Namespace) -> Progress:
    progress = Progress(num_steps_wanted=arguments.steps, num_sessions_wanted=arguments.sessions)
    requests = Requests(_SIZE)
    async with asyncio.TaskGroup() as watchers:
        watching = watchers.create_task(_watch(Memory(pid), progress))
        killing = watchers.create_task(_kill_clients(address, progress))
        async with asyncio.TaskGroup() as clients:
            for seed in range(arguments.clients):
                clients.create_task(_client(address, requests, progress, seed))
        watching.cancel()
        killing.cancel()
    return progress


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Of the least-squares line, and its standard error.

    The residuals are correlated (memory stays for a while where it is), so the error is that of
    the means of ten stretches, which hardly are.
    """
    x_means = np.array([part.mean() for part in np.array_split(x, 10)])
    y_means = np.array([part.mean() for part in np.array_split(y, 10)])
    centred = x_means - x_means.mean()
    slope = float(centred @ y_means / (centred @ centred))
    residuals = y_means - y_means.mean() - slope * centred
    variance = residuals @ residuals / (len(x_means) - 2)
    return slope, math.sqrt(variance / float(centred @ centred))


def _report(progress: Progress, duration_s: float) -> dict[str, Any]:
    samples = np.array(progress.samples, dtype=np.float64)
    steps, resident_bytes, descriptors = samples[len(samples) // 2 :].T
    rss_slope, rss_error = (1000 * each for each in _slope(steps, resident_bytes))
    fd_slope, fd_error = (1000 * each for each in _slope(steps, descriptors))
    is_flat = (
        rss_slope - _NUM_STANDARD_ERRORS * rss_error <= _MAX_RSS_SLOPE_BYTES_PER_1000_STEPS
        and fd_slope - _NUM_STANDARD_ERRORS * fd_error <= _MAX_FD_SLOPE_PER_1000_STEPS
    )
    verdict = "flat" if is_flat else "it grows"
    if progress.num_steps < _MIN_STEPS_TO_TELL:
        verdict = "too few steps to tell"
    if progress.statuses["ANSWERED"]:
        verdict = "a malformed request was answered"
    return {
        "steps": progress.num_steps,
        "sessions": progress.num_sessions,
        "left_behind": progress.num_left,
        "cut_off": progress.num_cut,
        "processes_killed": progress.num_killed,
        "malformed": progress.num_malformed,
        "malformed_by_status": dict(sorted(progress.statuses.items())),
        "steps_per_s": round(progress.num_steps / duration_s),
        "duration_s": round(duration_s),
        "rss_mib_first": round(samples[0, 1] / 2**20, 1),
        "rss_mib_halfway": round(samples[len(samples) // 2, 1] / 2**20, 1),
        "rss_mib_last": round(samples[-1, 1] / 2**20, 1),
        "rss_slope_bytes_per_1000_steps": round(rss_slope, 1),
        "rss_slope_standard_error": round(rss_error, 1),
        "descriptors_halfway": int(samples[len(samples) // 2, 2]),
        "descriptors_last": int(samples[-1, 2]),
        "fd_slope_per_1000_steps": round(fd_slope, 5),
        "fd_slope_standard_error": round(fd_error, 5),
        "verdict": verdict,
    }


def _server_options(arguments: argparse.Namespace) -> Iterator[str]:
    # Episodes that are left behind make room for others only once they are old enough.
    yield from ("--max-sessions", str(arguments.sessions + arguments.clients))
    yield from ("--idle-s", str(arguments.idle_s))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--sessions", type=int, help="one for each 100 steps by default")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--victim", help=argparse.SUPPRESS)
    parser.add_argument("--idle-s", type=float, default=30.0, help="until a session is forgotten")
    arguments = parser.parse_args()
    if arguments.victim is not None:
        asyncio.run(_be_killed(arguments.victim))
    if arguments.sessions is None:
        arguments.sessions = max(arguments.steps // 100, arguments.clients)
    if min(arguments.steps, arguments.sessions, arguments.clients) < 1:
        parser.error("--steps, --sessions and --clients: expected at least 1")
    options = [*_server_options(arguments)]
    with own_server(f"null:{_CHUNK_LENGTH}", options) as server:
        begun_s = time.monotonic()
        progress = asyncio.run(_soak(server.address, server.pid, arguments))
        report = _report(progress, time.monotonic() - begun_s)
    environment = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "clients": arguments.clients,
    }
    print(json.dumps(environment | report))
    return 0 if report["verdict"] in ("flat", "too few steps to tell") else 1


if __name__ == "__main__":
    sys.exit(main())
