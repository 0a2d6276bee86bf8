"""What the server counts while it runs, and how Prometheus sees it.

The counts are plain numbers: a step passes through here half a dozen times, and prometheus_client's
own instruments, each with a lock, would take several times as long. They become Prometheus's when
it asks. The event loop's thread writes; any thread may read.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from policy_server.histograms import EXPOSED_S, DurationHistogram

Phase = Literal["decode", "queue", "inference", "encode", "total"]
EndReason = Literal["ended", "idle", "replaced", "evicted", "stream"]

_FILL_TENTHS = range(1, 11)


class ServerMetrics:
    """Counts since the start.

    planning: steps that waited for a plan. cached: those that did not.
    registry: all of it, and the process's memory and descriptors, for a MetricsEndpoint.
    """

    def __init__(self, *, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self.planning = DurationHistogram()
        self.cached = DurationHistogram()
        self.num_episodes = 0
        self.num_late_plans = 0
        self._phases: dict[str, DurationHistogram] = {
            phase: DurationHistogram() for phase in get_args(Phase)
        }
        self._passes = DurationHistogram()
        self._batch_sizes = [0] * (max_batch_size + 1)
        self._batch_seconds = [0.0] * (max_batch_size + 1)
        self._refusals: dict[tuple[str, str], int] = {}
        self._episode_ends: dict[str, int] = dict.fromkeys(get_args(EndReason), 0)
        self._reloads: dict[str, int] = {}
        self._gauges: Mapping[str, Callable[[], int]] = {}
        self._loop_clock: int | None = None
        self._loop_begun_s = 0.0
        self.registry = CollectorRegistry()
        self.registry.register(_Exposition(self))
        ProcessCollector(registry=self.registry)

    def observe_phase(self, phase: Phase, duration_s: float) -> None:
        """A part of a step took so long; `total` is the whole call."""
        self._phases[phase].add(duration_s)

    def step_answered(self, is_planned: bool, duration_s: float) -> None:
        """is_planned: whether it waited for a plan."""
        (self.planning if is_planned else self.cached).add(duration_s)

    def batch_done(self, size: int, duration_s: float) -> None:
        """A forward pass for `size` episodes ended, well or not."""
        size = min(size, self.max_batch_size)
        self._batch_sizes[size] += 1
        self._batch_seconds[size] += duration_s
        self._passes.add(duration_s)

    def refused(self, method: str, code_name: str) -> None:
        """method: the name of a method of ours, never text of a client's: each is a time series."""
        key = (method, code_name)
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def episode_begun(self) -> None:
        self.num_episodes += 1

    def episode_ended(self, reason: EndReason) -> None:
        self._episode_ends[reason] += 1

    def plan_was_late(self) -> None:
        """A step had to wait for a plan that was meant to be there: its chunk is stale."""
        self.num_late_plans += 1

    def policy_reloaded(self, name: str) -> None:
        self._reloads[name] = self._reloads.get(name, 0) + 1

    def bind_gauges(
        self,
        *,
        sessions: Callable[[], int],
        queue_depth: Callable[[], int],
        in_flight: Callable[[], int],
    ) -> None:
        """Asked whenever somebody looks, from another thread. Called on the event loop's."""
        if hasattr(time, "pthread_getcpuclockid"):
            self._loop_clock = time.pthread_getcpuclockid(threading.get_ident())
            # What loading the policy took in this thread is no step's.
            self._loop_begun_s = time.clock_gettime(self._loop_clock)
        self._gauges = {
            "sessions": sessions,
            "queue_depth": queue_depth,
            "in_flight": in_flight,
        }

    @property
    def num_steps(self) -> int:
        return self.planning.count + self.cached.count

    @property
    def num_refusals(self) -> int:
        return sum(self._refusals.values())

    @property
    def num_batches(self) -> int:
        return sum(self._batch_sizes)

    @property
    def num_plans(self) -> int:
        return sum(size * count for size, count in enumerate(self._batch_sizes))

    @property
    def mean_batch_size(self) -> float:
        return self.num_plans / self.num_batches if self.num_batches else math.nan

    @property
    def forward_pass_s(self) -> float:
        """Time spent in the policy, in total."""
        return self._passes.sum_s

    def phase(self, phase: Phase) -> DurationHistogram:
        """To look at."""
        return self._phases[phase]

    def summary(self) -> str:
        """One line."""
        if self.num_steps + self.num_refusals == 0:
            return f"answered no steps; {self.num_episodes} episodes begun"
        return (
            f"answered {self.num_steps} steps of {self.num_episodes} episodes, "
            f"refused {self.num_refusals} calls; {self.num_plans} plans in {self.num_batches} "
            f"forward passes (mean batch {self.mean_batch_size:.2f}, "
            f"{self.forward_pass_s:.1f} s in all), {self.num_late_plans} late; "
            f"latency with a plan: {self.planning}, without: {self.cached}"
        )

    def families(self) -> Iterable[Metric]:
        """What Prometheus is told."""
        yield _durations(
            "policy_server_phase_seconds",
            "Time that a part of a control step took.",
            "phase",
            self._phases,
        )
        yield _durations(
            "policy_server_step_seconds",
            "Time to answer a control step, by whether it waited for a plan.",
            "planned",
            {"true": self.planning, "false": self.cached},
        )
        passes = HistogramMetricFamily(
            "policy_server_forward_pass_seconds", "Time that a policy's forward pass took."
        )
        passes.add_metric([], *_buckets(self._passes))
        yield passes
        yield from self._batch_families()
        yield _counts(
            "policy_server_refusals",
            "Calls answered with an error status.",
            ("method", "code"),
            dict(self._refusals),
        )
        yield CounterMetricFamily(
            "policy_server_episodes_begun", "Episodes begun.", value=self.num_episodes
        )
        yield _counts(
            "policy_server_episodes_ended",
            "Episodes ended, and why.",
            ("reason",),
            {(reason,): count for reason, count in self._episode_ends.items()},
        )
        yield CounterMetricFamily(
            "policy_server_stale_chunks",
            "Steps that waited for an asynchronous plan that was late.",
            value=self.num_late_plans,
        )
        yield _counts(
            "policy_server_policy_reloads",
            "Policies replaced by newly loaded ones.",
            ("policy",),
            {(name,): count for name, count in dict(self._reloads).items()},
        )
        yield from self._gauge_families()
        loop_s = self._loop_cpu_s()
        if loop_s is not None:
            yield CounterMetricFamily(
                "policy_server_event_loop_cpu_seconds",
                "CPU time of the thread that answers calls, whatever threads the policy runs in.",
                value=loop_s,
            )

    def _loop_cpu_s(self) -> float | None:
        """None where the system does not tell, or the thread has ended."""
        if self._loop_clock is None:
            return None
        try:
            return time.clock_gettime(self._loop_clock) - self._loop_begun_s
        except OSError:
            return None

    def _batch_families(self) -> Iterable[Metric]:
        sizes = list(self._batch_sizes)
        num_batches = sum(sizes)
        num_plans = sum(size * count for size, count in enumerate(sizes))
        powers = (2**i for i in range(self.max_batch_size.bit_length()))
        bounds = sorted({*powers, self.max_batch_size})
        by_size = HistogramMetricFamily(
            "policy_server_batch_size", "Episodes planned for in one forward pass."
        )
        by_size.add_metric(
            [],
            [(str(float(bound)), sum(sizes[: bound + 1])) for bound in bounds]
            + [("+Inf", num_batches)],
            num_plans,
        )
        yield by_size
        by_fill = HistogramMetricFamily(
            "policy_server_batch_fill_ratio", "Batch size over the largest one allowed."
        )
        by_fill.add_metric(
            [],
            [
                (str(tenth / 10), sum(sizes[: self.max_batch_size * tenth // 10 + 1]))
                for tenth in _FILL_TENTHS
            ]
            + [("+Inf", num_batches)],
            num_plans / self.max_batch_size,
        )
        yield by_fill
        # What `sim-client plan` computes with: how a pass's time grows with its batch.
        seen = [size for size, count in enumerate(sizes) if count]
        yield _counts(
            "policy_server_batches",
            "Forward passes, by how many episodes they planned for.",
            ("size",),
            {(str(size),): sizes[size] for size in seen},
        )
        yield _counts(
            "policy_server_batch_seconds",
            "Time that they took, by how many episodes they planned for.",
            ("size",),
            {(str(size),): self._batch_seconds[size] for size in seen},
        )

    def _gauge_families(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "policy_server_max_batch_size",
            "The most episodes in one forward pass.",
            value=self.max_batch_size,
        )
        for name, text in (
            ("sessions", "Episodes that are remembered."),
            ("queue_depth", "Steps that wait for a forward pass to begin."),
            ("in_flight", "Calls that are being answered."),
        ):
            if name in self._gauges:
                yield GaugeMetricFamily(f"policy_server_{name}", text, value=self._gauges[name]())


class _Exposition(Collector):
    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()


def _durations(
    name: str, text: str, label: str, histograms: Mapping[str, DurationHistogram]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, histogram in histograms.items():
        family.add_metric([value], *_buckets(histogram))
    return family


def _buckets(histogram: DurationHistogram) -> tuple[list[tuple[str, float]], float]:
    """As prometheus_client takes them: the cumulative counts by upper bound, and the sum."""
    cumulative, count = histogram.exposed()
    buckets = [(str(bound_s), n) for bound_s, n in zip(EXPOSED_S, cumulative, strict=True)]
    return [*buckets, ("+Inf", count)], histogram.sum_s


def _counts(
    name: str, text: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], float]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
