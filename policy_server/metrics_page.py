"""A server's page of metrics: asked for, and taken apart."""

from __future__ import annotations

import http.client
import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
