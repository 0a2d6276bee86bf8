"""The load: what it sends and counts, in closed and open loops, and what it says of failures."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from policy_interface.contract import Contract, ImageSize
from policy_interface.images import Encoding, encode_image
from policy_interface.types import Action, Observation
from policy_server.bench.load import Load, LoadError
from policy_server.bench.measurement import Measurement
from policy_server.bench.own_server import own_server
from policy_server.bench.processes import measure
from policy_server.bench.scene import scene_observations
from policy_server.command_line import main
from policy_server.server import ServerOptions
from policy_server.testing import NoisePolicy, RunningServer, running_server

_SIZE = ImageSize(height=24, width=32)
_CAMERAS = {f"camera_{index}": _SIZE for index in range(2)}


class SeeingPolicy(NoisePolicy):
    """Keeps the pixels of the first camera that it planned from, and how many plans it made."""

    def __init__(self, *, chunk_length: int = 1) -> None:
        super().__init__(chunk_length=chunk_length, contract=Contract(cameras=_CAMERAS))
        self.seen: list[np.ndarray] = []

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        self.seen += [history[-1].cameras["camera_0"].rgb for history in histories]
        return super().plan(histories, noise)


class StallingPolicy(NoisePolicy):
    """Answers at once, but for one plan, counted over all batches, that takes its time."""

    def __init__(self, *, stall_s: float, at_plan: int) -> None:
        super().__init__(chunk_length=1)
        self._stall_s = stall_s
        self._num_plans = 0
        self._at_plan = at_plan

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        num_before, self._num_plans = self._num_plans, self._num_plans + len(histories)
        if num_before < self._at_plan <= self._num_plans:
            threading.Event().wait(self._stall_s)
        return super().plan(histories, noise)


def _load(server: RunningServer, **changes: object) -> Load:
    load = Load(
        address=server.address, num_clients=2, num_cameras=2, size=_SIZE, seconds=0.3, timeout_s=20
    )
    return replace(load, **changes)  # type: ignore[arg-type]


def _measured(load: Load) -> Measurement:
    """For longer where a machine is so busy that nothing was answered."""
    for seconds in (load.seconds, 3.0, 30.0):
        measurement = measure(replace(load, seconds=seconds))
        if measurement.num_steps > 0:
            break
    return measurement


@pytest.mark.parametrize("encodes", [False, True])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_every_way_of_sending_reaches_the_policy(
    encoding: Encoding, streams: bool, encodes: bool
) -> None:
    policy = SeeingPolicy()
    with running_server(policy) as server:
        load = _load(server, encoding=encoding, streams=streams, encodes=encodes, wants_chunk=True)
        measurement = _measured(load)
        # Every episode was ended.
        server.wait_until(lambda running: running.num_sessions == 0)
    assert measurement.num_steps > 0
    assert not measurement.errors
    assert len(policy.seen) >= measurement.num_steps
    drawn = [
        observation.cameras["camera_0"].rgb
        for observation in scene_observations(num_cameras=2, size=_SIZE, num_steps=4)
    ]
    # What JPEG loses is small beside what differs between two images.
    tolerance = 0 if encoding != "jpeg" else 20
    nearest = [
        min(np.abs(pixels.astype(int) - image.astype(int)).mean() for image in drawn)
        for pixels in policy.seen[:20]
    ]
    assert max(nearest) <= tolerance


def test_what_is_counted_is_what_the_server_answered() -> None:
    policy = SeeingPolicy(chunk_length=3)
    with running_server(policy) as server:
        measurement = measure(_load(server, num_clients=3, seconds=1.0))
        num_answered = server.server.metrics.num_steps
    # Besides, ten steps of each client before the clock started, and one that it outran.
    assert 30 <= num_answered - measurement.num_steps <= 33
    assert set(measurement.control_steps % 3) == set(range(3))
    assert measurement.sent_bytes > measurement.num_steps * 2 * _SIZE.height * _SIZE.width * 3
    assert measurement.received_bytes > 0


def test_an_open_loop_keeps_its_rate() -> None:
    with running_server(NoisePolicy(chunk_length=1)) as server:
        load = _load(server, num_cameras=0, num_clients=2, rate_hz=40.0, seconds=1.0)
        measurement = measure(load)
    assert measurement.num_steps == 80
    assert not measurement.errors


def test_an_open_loop_omits_nothing_that_a_stall_delayed() -> None:
    """Coordinated omission: a closed loop would send nothing during the stall, and see one slow
    step; the schedule goes on, and each step that was due then is late."""
    stall_s, rate_hz = 0.6, 50.0
    policy = StallingPolicy(stall_s=stall_s, at_plan=60)
    with running_server(policy) as server:
        load = _load(server, num_cameras=0, num_clients=1, rate_hz=rate_hz, seconds=1.5)
        measurement = measure(load)
    assert measurement.num_steps == 75
    # Due evenly over the stall, so late evenly from all of it down to nothing.
    num_late = int((measurement.latencies_s > stall_s / 2).sum())
    assert num_late >= 0.8 * rate_hz * stall_s / 2


def test_refusals_are_counted_by_status() -> None:
    # As many at once as there are calls before the clock starts.
    options = ServerOptions(address="127.0.0.1:0", max_calls_per_s=11.0)
    with running_server(NoisePolicy(chunk_length=1), options) as server:
        measurement = measure(_load(server, num_clients=1, num_cameras=0, seconds=1.0))
    assert set(measurement.errors) == {"RESOURCE_EXHAUSTED"}
    assert measurement.figures()["errors"]["RESOURCE_EXHAUSTED"] == measurement.errors.total()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_server_that_does_not_take_the_load_is_an_error_that_says_why(num_processes) -> None:
    policy = NoisePolicy(contract=Contract(cameras={"wrist": _SIZE}))
    with (
        running_server(policy) as server,
        pytest.raises(LoadError, match=r"INVALID_ARGUMENT.*camera 'wrist' missing"),
    ):
        measure(_load(server, num_processes=num_processes))


def test_processes_share_the_clients() -> None:
    with running_server(NoisePolicy(chunk_length=1)) as server:
        measurement = _measured(_load(server, num_clients=3, num_processes=2, num_cameras=0))
        assert server.server.metrics.num_steps >= measurement.num_steps + 3 * 10
    assert measurement.num_steps > 0


def test_percentiles_and_rates() -> None:
    parts = [
        Measurement(
            seconds=2.0,
            latencies_s=np.arange(1, 51) / 1e3 + offset_s,
            control_steps=np.arange(50),
            errors=Counter(errors),
            sent_bytes=1000,
            received_bytes=10,
            generator_busy=busy,
        )
        for offset_s, errors, busy in ((0.0, {"ABORTED": 1}, 0.2), (0.05, {"ABORTED": 2}, 0.4))
    ]
    figures = Measurement.of(parts).figures()
    assert figures["steps"] == 100
    assert figures["steps_per_s"] == 50
    assert figures["sent_bytes_per_s"] == 1000
    assert figures["errors"] == {"ABORTED": 3}
    assert figures["generator_busy"] == 0.4
    assert figures["p50_ms"] == pytest.approx(50.5)
    assert figures["p95_ms"] == pytest.approx(95.05)
    assert figures["p99_ms"] == pytest.approx(99.01)


def test_scenes_compress_as_a_camera_s_images_do_and_move() -> None:
    size = ImageSize(height=224, width=224)
    first, second = scene_observations(num_cameras=1, size=size, num_steps=2)
    pixels = first.cameras["camera_0"].rgb
    jpeg = encode_image(pixels, "jpeg").data
    assert 8 < pixels.nbytes / len(jpeg) < 25
    assert np.abs(pixels.astype(int) - second.cameras["camera_0"].rgb).max() > 50


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of"),
        (["--null", "--address", "127.0.0.1:1"], "give one of"),
        (["--address", "127.0.0.1:1", "--chunk-length", "8"], "--chunk-length"),
        (["--null", "--clients", "0"], "num_clients: expected at least 1, got 0"),
        (["--null", "--clients", "1", "--processes", "2"], "num_processes"),
        (["--null", "--size", "224"], "WIDTHxHEIGHT"),
        (["--null", "--quality", "101"], "quality"),
        (["--null", "--open-loop", "-3"], "rate_hz"),
        (["--null", "--token-file", "nowhere"], "nowhere"),
        (["--address", "nowhere"], "HOST:PORT"),
    ],
)
def test_bad_usage_is_one_line(arguments, complaint, capsys) -> None:
    assert main(["bench", *arguments]) == 2
    told = capsys.readouterr()
    assert complaint in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_nobody_at_the_address(capsys) -> None:
    assert main(["bench", "--address", "127.0.0.1:1", "--seconds", "0.1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_the_verb_measures_a_server_of_its_own(capsys) -> None:
    arguments = ["--sleep-ms", "20", "--chunk-length", "4", "--cameras", "0", "--json"]
    assert main(["bench", *arguments, "--clients", "2", "--seconds", "1"]) == 0
    told = capsys.readouterr()
    (line,) = told.out.splitlines()
    figures = json.loads(line)
    assert figures["clients"] == 2
    assert figures["steps"] > 0
    # Every fourth step waits for a plan, and the others do not.
    assert figures["p50_ms"] < figures["p99_ms"] >= 20
    assert not figures["errors"]


def test_a_server_that_does_not_come_up_says_why() -> None:
    with pytest.raises(LoadError, match="no such folder"), own_server("nowhere-to-be-found"):
        pass
