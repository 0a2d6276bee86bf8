"""What a server did between two looks at its metrics, and how it is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from policy_server.metrics_page import Buckets, MetricsPage


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
