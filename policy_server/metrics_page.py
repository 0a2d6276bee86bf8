"""A server's page of metrics, read and made sense of: what happened between two looks at it."""

from __future__ import annotations

import http.client
import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from policy_server.address import split_address
from policy_server.metrics_endpoint import PATH

_TIMEOUT_S = 5.0
# Ours has 20 KiB; whatever else listens there may send without end.
_MAX_PAGE_BYTES = 8 * 2**20

_PREFIX = "policy_server_"


class MetricsUnavailableError(RuntimeError):
    """No page, or none of a policy server's. The text is one line."""


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """A histogram: how many were at most each bound, the last of which is infinite."""

    bounds: Sequence[float] = (math.inf,)
    cumulative: Sequence[float] = (0.0,)
    sum: float = 0.0

    @property
    def count(self) -> float:
        return self.cumulative[-1]

    def since(self, before: Buckets) -> Buckets:
        """Those that came after `before`, which may be empty."""
        if before.bounds != self.bounds:
            return self
        return Buckets(
            bounds=self.bounds,
            cumulative=[
                new - old for new, old in zip(self.cumulative, before.cumulative, strict=True)
            ],
            sum=self.sum - before.sum,
        )

    def percentile(self, percent: float) -> float:
        """Taken to lie evenly in their bucket, as Prometheus's histogram_quantile does.

        NaN where there are none, infinite beyond the last finite bound.
        """
        if self.count <= 0:
            return math.nan
        rank = self.count * percent / 100
        index = bisect_left(self.cumulative, rank)
        lower, below = (self.bounds[index - 1], self.cumulative[index - 1]) if index else (0.0, 0.0)
        inside = self.cumulative[index] - below
        if math.isinf(self.bounds[index]) or inside <= 0:
            return self.bounds[index]
        return lower + (self.bounds[index] - lower) * (rank - below) / inside


_Labels = tuple[tuple[str, str], ...]


class MetricsPage:
    """The samples of one look, without the prefix policy_server_."""

    def __init__(self, text: str, *, taken_s: float) -> None:
        """taken_s: when, in Unix time. Raises MetricsUnavailableError."""
        self.taken_s = taken_s
        self._samples: dict[str, dict[_Labels, Sample]] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    name = sample.name.removeprefix(_PREFIX)
                    labels = tuple(sorted(sample.labels.items()))
                    self._samples.setdefault(name, {})[labels] = sample
        except ValueError as error:
            raise MetricsUnavailableError(
                f"what is there is no page of metrics: {error}"
            ) from error
        if "step_seconds_count" not in self._samples:
            raise MetricsUnavailableError("what is there is no policy server's page of metrics")

    @property
    def started_s(self) -> float:
        """When the server's process began, in Unix time; NaN where it does not say."""
        return self.value("process_start_time_seconds")

    def value(self, name: str, **labels: str) -> float:
        """NaN where the page has none."""
        sample = self._samples.get(name, {}).get(tuple(sorted(labels.items())))
        return math.nan if sample is None else float(sample.value)

    def by_label(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Each sample of the name, by its labels' values."""
        return {
            tuple(sample.labels.get(label, "") for label in labels): float(sample.value)
            for sample in self._samples.get(name, {}).values()
        }

    def buckets(self, name: str, **labels: str) -> Buckets:
        """Empty where the page has none."""
        counts = sorted(
            (float(sample.labels["le"]), float(sample.value))
            for sample in self._samples.get(f"{name}_bucket", {}).values()
            if "le" in sample.labels and labels.items() <= sample.labels.items()
        )
        # Bounds of a page that is not ours might not rise; then the histogram is of no use.
        is_sound = bool(counts) and math.isinf(counts[-1][0])
        if not is_sound or any(low[1] > high[1] for low, high in pairwise(counts)):
            return Buckets()
        return Buckets(
            bounds=[bound for bound, _ in counts],
            cumulative=[count for _, count in counts],
            sum=self.value(f"{name}_sum", **labels),
        )


def read_page(address: str) -> MetricsPage:
    """Ask the server for its page. Raises AddressError and MetricsUnavailableError."""
    host, port = split_address(address)
    # Not urllib, which would send what is meant for loopback to a proxy.
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", PATH, headers={"Accept": "text/plain"})
        response = connection.getresponse()
        body = response.read(_MAX_PAGE_BYTES)
    except TimeoutError as error:
        raise MetricsUnavailableError(f"{address}: no answer within {_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise MetricsUnavailableError(
            f"{address}: {(error.strerror or str(error)).lower()}; does a server run with "
            f"--metrics-address {address}?"
        ) from error
    except http.client.HTTPException as error:
        raise MetricsUnavailableError(
            f"{address}: what listens there does not speak HTTP; is it the server's --address?"
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise MetricsUnavailableError(f"{address}{PATH}: HTTP status {response.status}")
    try:
        return MetricsPage(body.decode(errors="replace"), taken_s=time.time())
    except MetricsUnavailableError as error:
        raise MetricsUnavailableError(f"{address}{PATH}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Latency:
    """In milliseconds; NaN where there was none, infinite beyond what the server measures."""

    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Refusals:
    method: str
    code: str
    total: int
    new: int


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a server did within a stretch of time, and how it is at its end.

    over_s: how long the stretch is. is_whole_life: whether it began with the server.
    steps: by `planned` and `cached`. phases: by their names. passes: the policies' forward passes.
    batch_fill: the mean of batch size over the largest one allowed.
    episodes_ended: since the server's start, by reason.
    """

    over_s: float
    is_whole_life: bool
    uptime_s: float
    resident_bytes: float
    open_descriptors: float
    sessions: float
    in_flight: float
    queue_depth: float
    steps: Mapping[str, Latency]
    phases: Mapping[str, Latency]
    passes: Latency
    max_batch_size: float
    mean_batch_size: float
    batch_fill: float
    episodes_begun: int
    episodes_ended: Mapping[str, int]
    stale_chunks: int
    new_stale_chunks: int
    reloads: int
    refusals: Sequence[Refusals]

    @property
    def steps_per_s(self) -> float:
        return sum(latency.per_s for latency in self.steps.values())

    def to_json(self) -> dict[str, Any]:
        """With null for what is unknown or beyond measure."""
        return _finite({**asdict(self), "steps_per_s": self.steps_per_s})


class Watch:
    """Looks at one server, each told from one some looks before."""

    def __init__(self, *, num_looks: int) -> None:
        """num_looks: from how many looks back on, at most."""
        self._looks: deque[MetricsPage] = deque(maxlen=num_looks)

    def look(self, page: MetricsPage) -> Activity:
        if self._looks and self._looks[-1].started_s != page.started_s:
            # Another process now, which counts from zero.
            self._looks.clear()
        shown = activity(page, self._looks[0] if self._looks else None)
        self._looks.append(page)
        return shown


def activity(page: MetricsPage, before: MetricsPage | None) -> Activity:
    """before: an earlier look at the same process; None for all of its life."""
    uptime_s = page.taken_s - page.started_s
    over_s = uptime_s if before is None else page.taken_s - before.taken_s

    def histogram(name: str, **labels: str) -> Buckets:
        now = page.buckets(name, **labels)
        return now if before is None else now.since(before.buckets(name, **labels))

    def latency(name: str, **labels: str) -> Latency:
        durations_s = histogram(name, **labels)
        p50_ms, p95_ms, p99_ms = (durations_s.percentile(p) * 1e3 for p in (50, 95, 99))
        return Latency(
            per_s=durations_s.count / over_s if over_s > 0 else math.nan,
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
        )

    def earlier(name: str, *labels: str) -> dict[tuple[str, ...], float]:
        return {} if before is None else before.by_label(name, *labels)

    refusals = page.by_label("refusals_total", "method", "code")
    refusals_before = earlier("refusals_total", "method", "code")
    stale = _count(page.value("stale_chunks_total"))
    batches = histogram("batch_size")
    fills = histogram("batch_fill_ratio")
    return Activity(
        over_s=over_s,
        is_whole_life=before is None,
        uptime_s=uptime_s,
        resident_bytes=page.value("process_resident_memory_bytes"),
        open_descriptors=page.value("process_open_fds"),
        sessions=page.value("sessions"),
        in_flight=page.value("in_flight"),
        queue_depth=page.value("queue_depth"),
        steps={
            "planned": latency("step_seconds", planned="true"),
            "cached": latency("step_seconds", planned="false"),
        },
        phases={
            phase: latency("phase_seconds", phase=phase)
            for (phase,) in page.by_label("phase_seconds_count", "phase")
        },
        passes=latency("forward_pass_seconds"),
        max_batch_size=page.value("max_batch_size"),
        mean_batch_size=batches.sum / batches.count if batches.count > 0 else math.nan,
        batch_fill=fills.sum / fills.count if fills.count > 0 else math.nan,
        episodes_begun=_count(page.value("episodes_begun_total")),
        episodes_ended={
            reason: _count(value)
            for (reason,), value in page.by_label("episodes_ended_total", "reason").items()
        },
        stale_chunks=stale,
        new_stale_chunks=stale
        - (0 if before is None else _count(before.value("stale_chunks_total"))),
        reloads=_count(sum(page.by_label("policy_reloads_total", "policy").values())),
        refusals=[
            Refusals(
                method=method,
                code=code,
                total=_count(total),
                new=_count(total - refusals_before.get((method, code), 0)),
            )
            for (method, code), total in sorted(refusals.items())
        ],
    )


def _count(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
