"""How long a policy's forward pass takes by the size of its batch: given, or measured."""

from __future__ import annotations

import http.client
import json
import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy_interface.usage import UsageError

_METRICS_TIMEOUT_S = 5.0
_MAX_PAGE_BYTES = 8 * 2**20
# Fewer passes of one size than this say little of how long such a pass takes.
_MIN_PASSES = 5

_SAMPLE = re.compile(
    r'^policy_server_(batches|batch_seconds)_total\{size="([0-9]{1,6})"\} ([0-9.eE+-]{1,32})$',
    re.MULTILINE,
)


@dataclass(frozen=True)
class PassTime:
    """Seconds of a pass, measured at some sizes; straight lines between them.

    Beyond the largest size the last line goes on: see `is_measured`.
    """

    points_s: Mapping[int, float]

    def __post_init__(self) -> None:
        if not self.points_s:
            raise UsageError("no forward pass is known; expected one at a batch of 1 at least")
        for size, seconds in self.points_s.items():
            if size < 1 or not 0 < seconds < math.inf:
                raise UsageError(
                    f"a forward pass over {size} in {seconds:g} s: expected a batch of at least "
                    "1 and more than 0 seconds"
                )
        object.__setattr__(self, "points_s", dict(sorted(self.points_s.items())))

    @property
    def largest(self) -> int:
        """The largest batch that was measured."""
        return max(self.points_s)

    def seconds(self, size: int) -> float:
        """Of a pass over a batch of `size`; of the smallest measured one for smaller ones."""
        sizes = list(self.points_s)
        if size <= sizes[0] or len(sizes) == 1:
            return self.points_s[sizes[0]]
        upper = min(bisect_left(sizes, size), len(sizes) - 1)
        low, high = sizes[upper - 1], sizes[upper]
        low_s, high_s = self.points_s[low], self.points_s[high]
        slope_s = (high_s - low_s) / (high - low)
        # Noise may make a larger batch look faster; going on downwards would reach 0.
        return high_s + (slope_s if size < high else max(slope_s, 0.0)) * (size - high)

    @staticmethod
    def parse(text: str) -> PassTime:
        """From `1:14,4:30,16:90`: batch sizes and milliseconds."""
        points_s: dict[int, float] = {}
        for word in text.split(","):
            match = re.fullmatch(r"\s*([0-9]{1,6}):([0-9.eE+-]{1,32})\s*", word)
            try:
                if match is None or int(match[1]) in points_s:
                    raise ValueError
                points_s[int(match[1])] = float(match[2]) / 1e3
            except ValueError:
                raise UsageError(
                    f"--pass-ms {text!r}: expected SIZE:MS, each size once, such as "
                    f"1:14,4:30,16:90; got {word!r}"
                ) from None
        try:
            return PassTime(points_s)
        except UsageError as error:
            raise UsageError(f"--pass-ms: {error}") from None

    @staticmethod
    def from_benchmark(path: Path, variant: str) -> PassTime:
        """From what benchmarks/policy_inference.py printed, of its free plans."""
        try:
            plans = json.loads(path.read_bytes())["plan_by_batch_size"]["free"]
            return PassTime(
                {int(size): float(times[variant]["ms"]) / 1e3 for size, times in plans.items()}
            )
        except OSError as error:
            raise UsageError(f"--pass-file {path}: {error.strerror}") from error
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"--pass-file {path}: expected what benchmarks/policy_inference.py prints, with "
                f"the variant {variant!r}: {type(error).__name__}: {str(error)[:200]}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class ServerMeasurement:
    """What a policy server's metrics tell: its passes, and its own work on a control step."""

    pass_time: PassTime
    step_s: float


def from_metrics(address: str) -> ServerMeasurement:
    """Read `policy-server serve --metrics-address ADDRESS` as it has measured itself so far."""
    page = _page(address)
    counts: dict[str, dict[int, float]] = {"batches": {}, "batch_seconds": {}}
    for name, size, value in _SAMPLE.findall(page):
        counts[name][int(size)] = float(value)
    points_s = {
        size: counts["batch_seconds"].get(size, 0.0) / number
        for size, number in counts["batches"].items()
        if number >= _MIN_PASSES
    }
    if not points_s:
        raise UsageError(
            f"--server-metrics {address}: no batch size of which {_MIN_PASSES} forward passes were "
            "made; evaluate, or run policy-server bench, against this server first"
        )
    steps = _value(page, 'policy_server_phase_seconds_count{phase="total"}')
    loop_s = _value(page, "policy_server_event_loop_cpu_seconds_total")
    return ServerMeasurement(pass_time=PassTime(points_s), step_s=loop_s / steps if steps else 0.0)


def _value(page: str, sample: str) -> float:
    match = re.search(rf"^{re.escape(sample)} ([0-9.eE+-]{{1,32}})$", page, re.MULTILINE)
    return 0.0 if match is None else float(match[1])


def _page(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UsageError(
            f"--server-metrics {address!r}: expected HOST:PORT, such as 127.0.0.1:9464"
        )
    # Not urllib, which would send what is meant for loopback to a proxy.
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_METRICS_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        response = connection.getresponse()
        body = response.read(_MAX_PAGE_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(
            f"--server-metrics {address}: no page of metrics ({type(error).__name__}); does a "
            f"server run with --metrics-address {address}?"
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise UsageError(f"--server-metrics {address}: HTTP status {response.status}")
    return body.decode(errors="replace")
