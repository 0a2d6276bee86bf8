"""`policy-server top`: what it makes of a page, how it looks, and how it ends."""

from __future__ import annotations

import io
import json
import math
import re
import signal
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from policy_interface.client import PolicyClient
from policy_server.activity import Watch, activity
from policy_server.command_line import main
from policy_server.metrics import ServerMetrics
from policy_server.metrics_endpoint import MetricsEndpoint
from policy_server.metrics_page import Buckets, MetricsPage, MetricsUnavailableError
from policy_server.terminal_view import WIDTH, Screen, lines
from policy_server.testing import NoisePolicy, running_server

_PATIENCE_S = 240.0
_PROGRAM = [sys.executable, "-m", "policy_server.command_line", "top"]


def _page(metrics: ServerMetrics, taken_s: float) -> MetricsPage:
    return MetricsPage(generate_latest(metrics.registry).decode(), taken_s=taken_s)


def _metrics() -> ServerMetrics:
    metrics = ServerMetrics(max_batch_size=8)
    metrics.bind_gauges(sessions=lambda: 3, queue_depth=lambda: 2, in_flight=lambda: 1)
    return metrics


@given(
    st.lists(st.floats(0, 12), min_size=1, max_size=60),
    st.lists(st.floats(0.01, 10), min_size=1, max_size=10, unique=True),
    st.sampled_from([1, 50, 95, 99]),
)
def test_a_percentile_lies_in_the_bucket_that_holds_it(values, bounds, percent) -> None:
    bounds = [*sorted(bounds), math.inf]
    buckets = Buckets(bounds=bounds, cumulative=[sum(v <= b for v in values) for b in bounds])
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    index = bisect_left(bounds, exact)
    told = buckets.percentile(percent)
    if math.isinf(bounds[index]):
        assert math.isinf(told)
    else:
        # A rank that is no whole number may fall between two buckets' values.
        assert (bounds[index - 1] if index else 0) - 1e-9 <= told <= bounds[index] + 1e-9


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(Buckets().percentile(50))
    shown = activity(_page(_metrics(), 1e10), None)
    assert math.isnan(shown.steps["planned"].p50_ms)
    assert shown.steps["planned"].per_s == 0
    assert json.loads(json.dumps(shown.to_json(), allow_nan=False))["mean_batch_size"] is None


def test_the_present_is_told_apart_from_the_past() -> None:
    metrics = _metrics()
    for _ in range(1000):
        metrics.step_answered(False, 0.0003)
        metrics.observe_phase("inference", 5.0)
    metrics.batch_done(8, 0.02)
    metrics.refused("PolicyStep", "ABORTED")
    metrics.plan_was_late()
    watch = Watch(num_looks=2)
    whole_life = watch.look(_page(metrics, 2e10))
    assert whole_life.is_whole_life
    for _ in range(20):
        metrics.step_answered(True, 0.03)
        metrics.observe_phase("inference", 0.02)
    metrics.batch_done(2, 0.02)
    metrics.refused("PolicyStep", "ABORTED")
    metrics.refused("PolicyReset", "RESOURCE_EXHAUSTED")
    metrics.plan_was_late()
    shown = watch.look(_page(metrics, 2e10 + 4))
    assert not shown.is_whole_life
    assert shown.over_s == 4
    assert (shown.steps["planned"].per_s, shown.steps["cached"].per_s) == (5, 0)
    assert shown.steps_per_s == 5
    assert 25 <= shown.steps["planned"].p50_ms <= 40
    assert 16 <= shown.phases["inference"].p99_ms <= 25
    assert math.isnan(shown.phases["decode"].p50_ms)
    assert (shown.mean_batch_size, shown.batch_fill) == (2, 0.25)
    assert (shown.stale_chunks, shown.new_stale_chunks) == (2, 1)
    assert [(r.code, r.total, r.new) for r in shown.refusals] == [
        ("RESOURCE_EXHAUSTED", 1, 1),
        ("ABORTED", 2, 1),
    ]
    # The look before the last one is forgotten: nothing has happened since.
    watch.look(_page(metrics, 2e10 + 5))
    assert watch.look(_page(metrics, 2e10 + 6)).steps_per_s == 0


def test_a_server_that_was_started_again_is_told_from_its_start() -> None:
    def page(started_s: float, taken_s: float, num_steps: int) -> MetricsPage:
        metrics = ServerMetrics(max_batch_size=1)
        for _ in range(num_steps):
            metrics.step_answered(True, 0.01)
        registry = CollectorRegistry()
        Gauge("process_start_time_seconds", "", registry=registry).set(started_s)
        started = generate_latest(registry).decode()
        others = re.sub(
            r"^process_start_time_seconds .*\n",
            "",
            generate_latest(metrics.registry).decode(),
            flags=re.M,
        )
        return MetricsPage(started + others, taken_s=taken_s)

    watch = Watch(num_looks=10)
    watch.look(page(1000, 2000, 500))
    shown = watch.look(page(2001, 2011, 40))
    assert shown.is_whole_life
    assert (shown.uptime_s, shown.steps_per_s) == (10, 4)


def test_a_page_fits_eighty_columns_whatever_is_on_it() -> None:
    metrics = _metrics()
    metrics.bind_gauges(sessions=lambda: 10**9, queue_depth=lambda: 10**9, in_flight=lambda: 10**9)
    for is_planned in (True, False):
        for _ in range(2000):
            metrics.step_answered(is_planned, 1e6)
    metrics.refused("\x1b[2J" + "m" * 100, "\u202ecode\n")
    metrics.episode_ended("replaced")
    page = lines(activity(_page(metrics, 2e10), None), address="h" * 100 + ":1\n", is_colored=False)
    assert all(len(line) <= WIDTH and line.isprintable() for line in page)
    assert any("> 10 s" in line for line in page)
    narrow = lines(activity(_page(metrics, 2e10), None), address="a:1", width=30)
    assert max(map(len, narrow)) == 30


def test_a_terminal_is_drawn_in_place_and_a_file_is_not(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "10")
    shown = activity(_page(_metrics(), 2e10), None)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        screen = Screen(stream)
        screen.show(shown, address="a:1")
        screen.show(shown, address="a:1")
    first, again, second = terminal.getvalue().partition("\x1b[9F\x1b[J")
    assert again
    assert first == second
    assert first.count("\n") == 9
    assert "\x1b[1m" in first
    assert "\x1b" not in file.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Screen(plain).show(shown, address="a:1")
    assert "\x1b" not in plain.getvalue()


def test_a_look_at_a_real_server(make_observation, capfd) -> None:
    with (
        running_server(NoisePolicy(chunk_length=4)) as server,
        MetricsEndpoint("127.0.0.1:0", server.server.metrics.registry) as endpoint,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=0)
        for _ in range(6):
            client.step(make_observation())
        server.wait_until(lambda running: running.num_in_flight == 0)
        assert main(["top", "--once", "--json", "--metrics-address", endpoint.address]) == 0
        event = json.loads(capfd.readouterr().out)
        assert main(["top", "--once", "--metrics-address", endpoint.address]) == 0
        text = capfd.readouterr().out
    assert (event["address"], event["sessions"], event["in_flight"]) == (endpoint.address, 1, 0)
    assert event["steps"]["planned"]["per_s"] * event["over_s"] == pytest.approx(2)
    assert event["steps"]["cached"]["per_s"] * event["over_s"] == pytest.approx(4)
    assert set(event["phases"]) == {"decode", "queue", "inference", "encode", "total"}
    assert event["mean_batch_size"] == 1
    assert event["refusals"] == []
    assert "1 sessions   0 in flight   0 queued" in text
    assert "episodes  1 begun" in text
    assert "\x1b" not in text


@contextmanager
def _page_of(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of a server whose every page is `body`."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(_PATIENCE_S)
        server.server_close()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 200, "no policy server's page"),
        (b"up 1\n", 200, "no policy server's page"),
        (b"<html>\n", 200, "no page of metrics"),
        (b"\xff\xfe\x00", 200, "page"),
        (b"", 503, "HTTP status 503"),
    ],
)
def test_a_page_that_is_none_gets_one_clear_line(capfd, body, status, said) -> None:
    with _page_of(body, status) as address:
        assert main(["top", "--once", "--metrics-address", address]) == 1
    out, err = capfd.readouterr()
    assert said in err
    assert address in err
    assert err.count("\n") == 1
    assert out == ""


@given(st.text(max_size=200))
def test_any_text_is_a_page_or_is_refused(text) -> None:
    with pytest.raises(MetricsUnavailableError):
        MetricsPage(text, taken_s=0)


def test_the_servers_own_address_is_not_its_metrics(capfd) -> None:
    with running_server(NoisePolicy()) as server:
        assert main(["top", "--once", "--metrics-address", server.address]) == 1
    assert "is it the server's --address?" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics-address", "nowhere"], "expected HOST:PORT"),
        (["--interval", "0"], "--interval: expected seconds, more than 0"),
        (["--interval", "nan"], "--interval: expected seconds, more than 0"),
    ],
)
def test_bad_usage_gets_one_clear_line(capfd, arguments, said) -> None:
    assert main(["top", *arguments]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@contextmanager
def _watching(address: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*_PROGRAM, "--metrics-address", address, "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(_PATIENCE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def test_an_interrupt_ends_it_quietly() -> None:
    with (
        MetricsEndpoint("127.0.0.1:0", _metrics().registry) as endpoint,
        _watching(endpoint.address, "--interval", "1e6") as process,
    ):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["is_whole_life"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_PATIENCE_S)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_server_that_goes_ends_it_with_one_line() -> None:
    endpoint = MetricsEndpoint("127.0.0.1:0", _metrics().registry)
    with _watching(endpoint.address, "--interval", "0.01") as process:
        assert process.stdout is not None
        for is_whole_life in (True, False):
            assert json.loads(process.stdout.readline())["is_whole_life"] == is_whole_life
        endpoint.close()
        _, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 1
    # Refused, or reset where it was just asking.
    assert f"; does a server run with --metrics-address {endpoint.address}?" in err
    assert err.count("\n") == 1


def test_a_reader_that_has_enough_is_no_error() -> None:
    with (
        MetricsEndpoint("127.0.0.1:0", _metrics().registry) as endpoint,
        _watching(endpoint.address, "--interval", "0.01") as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(_PATIENCE_S) == 0
        process.stdout = None
