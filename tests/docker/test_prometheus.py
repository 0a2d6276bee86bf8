"""Prometheus itself, on a server under load: what Grafana's panels ask has answers, alerts fire.

Left out where there is no `prometheus`, such as Debian's package; Grafana is in no package, and
its panels' queries are all of it that can be wrong unnoticed.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy_interface.client import PolicyClient
from policy_interface.client_errors import OverloadedError
from policy_interface.client_options import RetryPolicy
from tests.loopback_port import quiet_port

MONITORING = Path(__file__).parents[2] / "docker" / "monitoring"
PATIENCE_S = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]


def free_address() -> str:
    return f"127.0.0.1:{quiet_port()}"


def expressions() -> set[str]:
    dashboard = json.loads((MONITORING / "grafana/dashboards/policy_server.json").read_text())
    return {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}


@contextmanager
def program(*command: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def prometheus_of(metrics_address: str, folder: Path) -> Iterator[str]:
    """Ours, but for two addresses and how often it looks; its own address."""
    settings = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    settings["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    settings["rule_files"] = [str(MONITORING / "alerts.yaml")]
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [metrics_address]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    address = free_address()
    with program(
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        log=folder / "prometheus.log",
    ):
        yield address


def asked(address: str, path: str, **query: str) -> Any:
    """What its API answers; None as long as there is nobody, or it is not ready."""
    url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        assert error.code == HTTPStatus.SERVICE_UNAVAILABLE, (query, error.read())
        return None
    except OSError:
        return None


def has_answer(address: str, expression: str) -> bool:
    data = asked(address, "query", query=expression)
    values = [float(each["value"][1]) for each in data["result"]] if data else []
    return any(math.isfinite(value) for value in values)


def firing(address: str) -> set[str]:
    data = asked(address, "alerts")
    return {each["labels"]["alertname"] for each in data["alerts"]} if data else set()


def test_every_panel_has_an_answer_and_turned_away_robots_an_alert(
    tmp_path: Path, make_observation: Any
) -> None:
    observation = make_observation()
    address, metrics_address = free_address(), free_address()
    serve = [sys.executable, "-m", "policy_server.command_line", "serve", "wave"]
    options = ["--address", address, "--metrics-address", metrics_address, "--max-sessions", "1"]
    with ExitStack() as stack:
        stack.enter_context(program(*serve, *options, log=tmp_path / "server.log"))
        prometheus = stack.enter_context(prometheus_of(metrics_address, tmp_path))
        served, refused = (
            stack.enter_context(PolicyClient(address, retries=RetryPolicy(max_tries=1)))
            for _ in range(2)
        )
        served.wait_until_serving(timeout_s=PATIENCE_S)
        unanswered, deadline_s = expressions(), time.monotonic() + PATIENCE_S
        assert len(unanswered) > 10
        for number in itertools.count():
            served.reset(seed=number)
            for _ in range(20):
                served.step(observation)
            with pytest.raises(OverloadedError):
                refused.reset(seed=number)
            served.end_episode()
            unanswered = {each for each in unanswered if not has_answer(prometheus, each)}
            if not unanswered and "RobotsTurnedAway" in firing(prometheus):
                break
            assert time.monotonic() < deadline_s, (unanswered, firing(prometheus))
        assert firing(prometheus) == {"RobotsTurnedAway"}
