"""A dashboard that serves a folder, and folders to serve."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from step_analysis.dashboard import answers
from step_analysis.dashboard.app import Dashboard, application
from step_analysis.dashboard.serving import DashboardServer
from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, write_design
from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

MakeRecord = Callable[[str, str, int, Outcome], RolloutRecord]
WriteEvaluation = Callable[..., Path]
WritePolicies = Callable[[Path, int], None]

_OUTCOMES = {"1": Outcome.SUCCESS, "0": Outcome.FAILURE, "t": Outcome.TIMEOUT, "e": Outcome.ERROR}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> object:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running dashboard."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        response = connection.getresponse()
        return Answer(status=response.status, headers=dict(response.headers), body=response.read())

    def wait(self, is_there: Callable[[], bool], path: str = "/events") -> None:
        """Until the dashboard's word of a change makes it true."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path)
        response = connection.getresponse()
        with contextlib.closing(connection):
            while line := response.readline():
                if line.startswith(b"data:") and is_there():
                    return
        raise AssertionError("the dashboard ended before it was true")

    def is_read(self) -> bool:
        return bool(json.loads(self.get("/health").body)["is_complete"])

    def has_verdicts(self, view: str = "overview") -> bool:
        return bool(json.loads(self.get(f"/data/{view}.json").body)["has_verdicts"])


Serve = Callable[..., AbstractContextManager[Served]]


@contextlib.contextmanager
def _serve(root: Path, *, token: str | None = None, wait: bool = True) -> Iterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    served = Served(port=listener.getsockname()[1])
    dashboard = Dashboard(root, interval_s=0.05)
    server = DashboardServer(application(dashboard, token=token), dashboard)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        if wait and token is None:
            served.wait(served.is_read)
        yield served
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def serve() -> Serve:
    """serve(folder): the dashboard of a folder, which it has read, unless wait=False."""
    return _serve


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The answers can be made once this is set."""
    there = threading.Event()
    make = answers.Answers

    def make_later(*args: Any, **options: Any) -> answers.Answers:
        assert there.wait(timeout=60)
        return make(*args, **options)

    monkeypatch.setattr(answers, "Answers", make_later)
    return there


def _record(policy: str, task: str, index: int, outcome: Outcome) -> RolloutRecord:
    """A record of our simulator with everything in it."""
    is_success = outcome is Outcome.SUCCESS
    return RolloutRecord(
        policy=policy,
        task=task,
        scenario_index=index,
        seed=100_000_100 + index,
        outcome=outcome,
        duration_s=7.5,
        num_control_steps=75,
        message=None if is_success else f"{outcome.value} <of> the & trial",
        started_at=f"2026-01-31T12:{index % 60:02d}:00+00:00",
        wall_s=4.0,
        detail={"lifted": is_success or index % 2 == 0},
        progress=1.0 if is_success else 0.25,
        instruction="Put it there.",
        first_inference_s=0.0,
        policy_latency=PolicyLatency(num_steps=75, p50_ms=4.0, p95_ms=30.0, max_ms=200.0),
    )


def _write_evaluation(
    folder: Path, policy: str, outcomes: Mapping[str, str], *, budget: int = 20, shift: str = ""
) -> Path:
    """The ledger of an evaluation; outcomes by task, a letter an episode: 1, 0, t or e."""
    folder.mkdir(parents=True, exist_ok=True)
    design = EvaluationDesign(
        policy=policy,
        policy_digest="0" * 64,
        tasks=tuple(outcomes),
        num_episodes=budget,
        max_sample_size=budget,
        station={"simulator": "drake", "shift": shift, "contract": {"control_rate_hz": 10.0}},
        software={"assay": "0.1.0"},
    )
    write_design(folder / DESIGN_FILE_NAME, design)
    ledger = folder / LEDGER_FILE_NAME
    lines = [
        _record(policy, task, index, _OUTCOMES[letter]).to_json()
        for task, letters in outcomes.items()
        for index, letter in enumerate(letters)
    ]
    ledger.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return ledger


def _write_policies(root: Path, num_policies: int) -> None:
    """Policies that differ, on three tasks."""
    for number in range(num_policies):
        share = 2 + number % 9
        letters = "".join("1" if (7 * i) % 11 < share else "0t"[i % 2] for i in range(19)) + "e"
        tasks = {"PickCup": letters, "PutMug": letters[::-1][1:], "TurnLid": letters[5:]}
        _write_evaluation(root / f"policy_{number}", f"policy {number}", tasks)


@pytest.fixture(scope="session")
def record() -> MakeRecord:
    """record(policy, task, scenario index, outcome)."""
    return _record


@pytest.fixture(scope="session")
def write_evaluation() -> WriteEvaluation:
    """write_evaluation(folder, policy, {task: "10te"}): its ledger."""
    return _write_evaluation


@pytest.fixture(scope="session")
def example_study() -> Path:
    """The folder of a study that was really run."""
    return Path(__file__).parents[3] / "docs" / "examples" / "early_late"


@pytest.fixture(scope="session")
def write_policies() -> WritePolicies:
    """write_policies(root, 3): evaluations of policies that differ, on three tasks."""
    return _write_policies
