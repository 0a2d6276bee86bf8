"""What crosses a container's wall arrives as it was, and nothing else is let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_interface.contract import ImageSize
from sim_client.containers.messages import (
    EPISODE_FOLDER,
    POLICY_ADDRESS,
    Lines,
    message_from,
    message_line,
    request_from,
    request_line,
    settings_from,
    settings_line,
)
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.recording_options import RecordingOptions
from sim_client.evaluation.server_connection import ServerConnection
from sim_client.evaluation.worker import Ended, WorkerSettings
from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import Outcome
from step_analysis.strict_json import FormatError

REQUEST = EpisodeRequest(
    task="PickAndPlaceBox",
    scenario_index=3,
    seed=100_000_103,
    max_control_steps=10,
    folder=Path("/results/somewhere"),
)
REPORT = EpisodeReport(
    outcome=Outcome.FAILURE,
    started_at="2026-01-31T12:00:00+00:00",
    wall_s=1.5,
    duration_s=0.1 + 0.2,
    num_control_steps=3,
    message="näher\nat",
    detail={"gap_m": 1e-17, "is_held": True, "kind": "nan"},
    progress=0.25,
    policy_latency=PolicyLatency(num_steps=3, p50_ms=1.0, p95_ms=2.0, max_ms=2.0),
    state_digest="ab" * 32,
)


def only(data: bytes) -> dict[str, Any]:
    (value,) = Lines().feed(data)
    return value


def test_a_report_and_a_request_arrive_as_they_were() -> None:
    ended = Ended(REPORT, worker_is_spent=True)
    assert message_from(only(message_line(ended)), REQUEST) == ended
    arrived = request_from(only(request_line(REQUEST))["episode"])
    # But for the folder: there is only one in the container.
    assert arrived == EpisodeRequest(**(vars(REQUEST) | {"folder": EPISODE_FOLDER}))


def test_settings_arrive_with_what_their_files_hold(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("the authority")
    (tmp_path / "token").write_text("secret")
    settings = WorkerSettings(
        server=ServerConnection(
            address="policies.example:50051",
            policy="other",
            tls_ca=tmp_path / "ca.pem",
            token_file=tmp_path / "token",
            timeout_s=3.0,
        ),
        policy_digest="one",
        serving_options={"assay.open_loop_steps": "8"},
        wait_for_server_s=5.0,
        contract_json="{}",
        station_factory="a:b",
        protocol_json="{}",
        film_cameras={"scene_right_0": ImageSize(height=8, width=12)},
        recordings=RecordingOptions(video_cameras=("scene_right_0",)),
    )
    told = only(settings_line(settings))
    assert (told["tls_ca"], told["token"]) == ("the authority", "secret")
    arrived = settings_from(told["settings"], tls_ca=Path("/a"), token_file=Path("/b"))
    assert arrived.server == ServerConnection(
        address=POLICY_ADDRESS,
        policy="other",
        tls_ca=Path("/a"),
        token_file=Path("/b"),
        timeout_s=3.0,
        # Else TLS would look for a certificate of the socket's.
        server_name="policies.example",
    )
    assert WorkerSettings(**(vars(arrived) | {"server": settings.server})) == settings


def changed(**fields: Any) -> dict[str, Any]:
    value = json.loads(message_line(Ended(REPORT)))
    value["ended"] |= fields
    return value


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"ended": {}},
        {"halt": 3},
        {"hello": {"drake": 1}},
        {"ended": {"outcome": "success"}, "worker_is_spent": False},
        changed(outcome="triumph"),
        changed(wall_s=-1.0),
        changed(progress=2.0),
        changed(state_digest="../../etc/passwd"),
        changed(detail={"a": [1]}),
        changed(policy_latency={"p50_ms": 1}),
        changed(folder="/etc"),
    ],
)
def test_what_is_no_message_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        message_from(value, REQUEST)


def test_nobody_reports_an_episode_that_was_not_asked_for() -> None:
    with pytest.raises(FormatError):
        message_from(only(message_line(Ended(REPORT))), None)


def test_lines_are_bounded_and_strict() -> None:
    lines = Lines()
    assert list(lines.feed(b'{"heartbeat"')) == []
    assert list(lines.feed(b': true}\n{"halt": "why"}\n')) == [{"heartbeat": True}, {"halt": "why"}]
    for bad in (b"[1]\n", b"\x80\n", b'{"a": NaN}\n', b"x" * (2**20 + 1)):
        with pytest.raises(FormatError):
            list(Lines().feed(bad))
