"""What is counted, what Prometheus is told of it, and what is said of it at the end."""

from __future__ import annotations

import http.client
import math
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from policy_interface.client import PolicyClient, PolicyServerRefusedError
from policy_server.address import AddressError
from policy_server.histograms import EXPOSED_S, DurationHistogram
from policy_server.metrics import ServerMetrics
from policy_server.metrics_endpoint import MetricsEndpoint
from policy_server.testing import NoisePolicy, running_server

_PATIENCE_S = 30.0


@given(st.lists(st.floats(2e-5, 90), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_to_a_bucket(durations_s, percent) -> None:
    histogram = DurationHistogram()
    for duration_s in durations_s:
        histogram.add(duration_s)
    exact_ms = 1e3 * np.percentile(durations_s, percent, method="inverted_cdf")
    assert histogram.percentile_ms(percent) == pytest.approx(exact_ms, rel=0.06)


@given(st.lists(st.one_of(st.floats(0, 200), st.sampled_from(EXPOSED_S)), max_size=100))
def test_a_bucket_counts_what_is_at_most_its_bound(durations_s) -> None:
    histogram = DurationHistogram()
    for duration_s in durations_s:
        histogram.add(duration_s)
    cumulative, count = histogram.exposed()
    assert count == histogram.count == len(durations_s)
    assert histogram.sum_s == pytest.approx(sum(durations_s))
    assert cumulative == [sum(d <= bound_s for d in durations_s) for bound_s in EXPOSED_S]


def test_nothing_is_no_number_and_extremes_have_a_place() -> None:
    histogram = DurationHistogram()
    assert math.isnan(histogram.percentile_ms(50))
    assert str(histogram) == "none"
    for duration_s in (0.0, 1e-9, 1e9):
        histogram.add(duration_s)
    assert histogram.count == 3
    assert histogram.percentile_ms(1) == pytest.approx(0.01)
    assert histogram.percentile_ms(99) == pytest.approx(100e3)


def test_the_server_counts_what_it_did(make_observation) -> None:
    with (
        running_server(NoisePolicy(chunk_length=4)) as server,
        PolicyClient(server.address) as client,
    ):
        for seed in range(2):
            client.reset(seed=seed)
            for _ in range(6):
                client.step(make_observation())
        with PolicyClient(server.address) as other, pytest.raises(PolicyServerRefusedError):
            other.step(make_observation())
        server.wait_until(lambda running: running.num_in_flight == 0)
        metrics = server.server.metrics
        page = _page(metrics)
        assert page["policy_server_sessions"] == server.server.num_sessions > 0
        assert page["policy_server_queue_depth"] == page["policy_server_in_flight"] == 0
    assert (metrics.num_episodes, metrics.num_steps, metrics.num_refusals) == (2, 12, 1)
    assert (metrics.planning.count, metrics.cached.count) == (4, 8)
    assert (metrics.num_plans, metrics.num_batches, metrics.mean_batch_size) == (4, 4, 1)
    assert metrics.forward_pass_s > 0
    assert [
        metrics.phase(p).count for p in ("decode", "queue", "inference", "encode", "total")
    ] == [
        12,
        4,
        4,
        12,
        12,
    ]
    assert "answered 12 steps of 2 episodes, refused 1 calls" in metrics.summary()


def test_passes_are_counted_and_timed_by_the_size_of_their_batch() -> None:
    metrics = ServerMetrics(max_batch_size=4)
    for size, duration_s in ((1, 0.01), (4, 0.03), (4, 0.05)):
        metrics.batch_done(size, duration_s)
    page = _page(metrics)
    of_size = {
        name.removeprefix("policy_server_batch"): value
        for name, value in page.items()
        if "{size=" in name and "_created" not in name
    }
    assert of_size == {
        "es_total{size=1}": 1,
        "es_total{size=4}": 2,
        "_seconds_total{size=1}": pytest.approx(0.01),
        "_seconds_total{size=4}": pytest.approx(0.08),
    }


def _busy_metrics() -> ServerMetrics:
    metrics = ServerMetrics(max_batch_size=12)
    metrics.bind_gauges(sessions=lambda: 3, queue_depth=lambda: 2, in_flight=lambda: 1)
    for _ in range(3):
        metrics.episode_begun()
    metrics.episode_ended("idle")
    metrics.observe_phase("decode", 0.0004)
    metrics.observe_phase("inference", 0.02)
    metrics.step_answered(True, 0.03)
    metrics.step_answered(False, 0.0002)
    metrics.step_answered(False, 0.3)
    for size in (1, 3, 12):
        metrics.batch_done(size, 0.02)
    metrics.refused("PolicyStep", "ABORTED")
    metrics.refused("PolicyStep", "ABORTED")
    metrics.refused("PolicyReset", "RESOURCE_EXHAUSTED")
    metrics.plan_was_late()
    metrics.policy_reloaded('pick "a" box\n')
    return metrics


def _page(metrics: ServerMetrics, accept: str = "text/plain") -> dict[str, float]:
    """As it is served."""
    with MetricsEndpoint("127.0.0.1:0", metrics.registry) as endpoint:
        status, content_type, text = _get(endpoint.address, accept=accept)
    assert status == 200
    assert ("openmetrics" in content_type) == ("openmetrics" in accept)
    return _parsed(parse_openmetrics if "openmetrics" in accept else parse_text, text)


def _parsed(parse: Callable[[str], Iterable[Metric]], text: str) -> dict[str, float]:
    """Each sample's value by name and labels, as `name{label=value}`."""
    return {
        sample.name
        + "".join(f"{{{label}={value}}}" for label, value in sorted(sample.labels.items())): float(
            sample.value
        )
        for family in parse(text)
        for sample in family.samples
    }


def _get(address: str, path: str = "/metrics", accept: str = "*/*") -> tuple[int, str, str]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_PATIENCE_S)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return (
            response.status,
            response.getheader("Content-Type", ""),
            response.read().decode(),
        )
    finally:
        connection.close()


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_prometheus_is_told_all_of_it(accept) -> None:
    page = _page(_busy_metrics(), accept)
    expected = {
        "sessions": 3,
        "queue_depth": 2,
        "in_flight": 1,
        "max_batch_size": 12,
        "episodes_begun_total": 3,
        "episodes_ended_total{reason=idle}": 1,
        "episodes_ended_total{reason=stream}": 0,
        "stale_chunks_total": 1,
        'policy_reloads_total{policy=pick "a" box\n}': 1,
        "refusals_total{code=ABORTED}{method=PolicyStep}": 2,
        "refusals_total{code=RESOURCE_EXHAUSTED}{method=PolicyReset}": 1,
        "phase_seconds_count{phase=decode}": 1,
        "phase_seconds_sum{phase=inference}": 0.02,
        "phase_seconds_bucket{le=0.00025}{phase=decode}": 0,
        "phase_seconds_bucket{le=0.0004}{phase=decode}": 1,
        "phase_seconds_count{phase=queue}": 0,
        "step_seconds_count{planned=true}": 1,
        "step_seconds_count{planned=false}": 2,
        "step_seconds_bucket{le=0.25}{planned=false}": 1,
        "step_seconds_bucket{le=+Inf}{planned=false}": 2,
        "forward_pass_seconds_count": 3,
        "batch_size_sum": 16,
        "batch_size_bucket{le=1.0}": 1,
        "batch_size_bucket{le=2.0}": 1,
        "batch_size_bucket{le=4.0}": 2,
        "batch_size_bucket{le=8.0}": 2,
        "batch_size_bucket{le=12.0}": 3,
        "batch_fill_ratio_bucket{le=0.1}": 1,
        "batch_fill_ratio_bucket{le=0.2}": 1,
        "batch_fill_ratio_bucket{le=0.3}": 2,
        "batch_fill_ratio_bucket{le=0.9}": 2,
        "batch_fill_ratio_bucket{le=1.0}": 3,
    }
    told = {name: page.get(f"policy_server_{name}") for name in expected}
    assert told == pytest.approx(expected)
    assert page["policy_server_batch_fill_ratio_sum"] == pytest.approx(16 / 12)
    assert page["process_resident_memory_bytes"] > 0


@given(st.integers(1, 40), st.data())
def test_a_batchs_fill_is_its_size_over_the_largest(max_batch_size, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, max_batch_size), max_size=30))
    metrics = ServerMetrics(max_batch_size=max_batch_size)
    for size in sizes:
        metrics.batch_done(size, 0.01)
    samples = [sample for family in metrics.families() for sample in family.samples]
    for sample in samples:
        bound = float(sample.labels.get("le", "nan"))
        if sample.name == "policy_server_batch_size_bucket":
            assert sample.value == sum(size <= bound for size in sizes)
        if sample.name == "policy_server_batch_fill_ratio_bucket":
            # Exactly: in floating point 3 / 10 is less than 3 * 0.1.
            tenths = math.inf if math.isinf(bound) else round(10 * bound)
            assert sample.value == sum(10 * size <= tenths * max_batch_size for size in sizes)


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = ServerMetrics(max_batch_size=1), ServerMetrics(max_batch_size=1)
    one.episode_begun()
    assert _page(one)["policy_server_episodes_begun_total"] == 1
    assert _page(other)["policy_server_episodes_begun_total"] == 0


def test_another_page_is_not_found_and_writing_is_not_done() -> None:
    with MetricsEndpoint("127.0.0.1:0", _busy_metrics().registry) as endpoint:
        status, _, text = _get(endpoint.address, "/")
        assert status == 404
        assert "/metrics" in text
        assert _get(endpoint.address, "/metrics?name=x")[0] == 200
        connection = http.client.HTTPConnection(*endpoint.address.split(":"), timeout=_PATIENCE_S)
        connection.request("POST", "/metrics", body=b"x")
        assert connection.getresponse().status == 501
        connection.close()


@contextmanager
def _idle_connection(address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as connection:
        connection.sendall(b"GET /metr")
        yield


def test_a_reader_that_says_nothing_does_not_keep_others_waiting() -> None:
    with (
        MetricsEndpoint("127.0.0.1:0", _busy_metrics().registry) as endpoint,
        _idle_connection(endpoint.address),
    ):
        assert _get(endpoint.address)[0] == 200


def test_closing_ends_its_thread_and_frees_its_port() -> None:
    registry = _busy_metrics().registry
    with MetricsEndpoint("127.0.0.1:0", registry) as endpoint:
        address = endpoint.address
        _get(address)
        assert "metrics" in {thread.name for thread in threading.enumerate()}
    assert "metrics" not in {thread.name for thread in threading.enumerate()}
    with MetricsEndpoint(address, registry) as endpoint:
        assert _get(address)[0] == 200


def test_an_address_that_cannot_be_had_is_one_clear_line() -> None:
    registry = _busy_metrics().registry
    with MetricsEndpoint("127.0.0.1:0", registry) as endpoint:
        with pytest.raises(AddressError) as refused:
            MetricsEndpoint(endpoint.address, registry)
        assert "another program does already" in str(refused.value)
        assert "--metrics-address" in str(refused.value)
        assert "\n" not in str(refused.value)
    for address in ("nowhere", "192.0.2.1:9464", "no.such.host.invalid:9464"):
        with pytest.raises(AddressError):
            MetricsEndpoint(address, registry)


def test_it_is_read_while_it_is_written() -> None:
    metrics = ServerMetrics(max_batch_size=4)
    may_end = threading.Event()

    def write() -> None:
        number = 0
        while not may_end.is_set():
            number += 1
            metrics.step_answered(True, 0.01)
            metrics.refused(f"method {number % 100}", "ABORTED")
            metrics.policy_reloaded(f"policy {number % 100}")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            page = _parsed(parse_text, generate_latest(metrics.registry).decode())
            count = page["policy_server_step_seconds_count{planned=true}"]
            assert count == page["policy_server_step_seconds_bucket{le=+Inf}{planned=true}"]
            assert page["policy_server_step_seconds_bucket{le=0.01}{planned=true}"] == count
    finally:
        may_end.set()
        thread.join(_PATIENCE_S)
