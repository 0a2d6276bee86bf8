"""What the executor and a simulator in a container say to each other: a JSON object a line.

    executor to simulator: {"settings": ..., "tls_ca": PEM, "token": TEXT}, then {"episode": ...}
    simulator to executor: {"hello": VERSIONS}, {"heartbeat": true}, {"halt": WHY},
                           {"ended": REPORT, "worker_is_spent": false}

Whatever comes out of a container is checked as any file of a stranger's is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from policy_interface.contract import ImageSize
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.recording_options import RecordingOptions
from sim_client.evaluation.server_connection import ServerConnection
from sim_client.evaluation.worker import Ended, Halt, Heartbeat, LikeSimulators, WorkerSettings
from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.strict_json import FormatError, check_keys, parse_object, shown

# Inside a container.
CONTROL_SOCKET = Path("/evaluation/control.sock")
POLICY_SOCKET = Path("/evaluation/policy.sock")
EPISODE_FOLDER = Path("/evaluation/episode")
POLICY_ADDRESS = f"unix:{POLICY_SOCKET}"
LOG_FILE_NAME = "simulator.log"

_MAX_LINE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The first word of a simulator: what it is made of, by name."""

    versions: Mapping[str, str]


Message = Hello | Heartbeat | Halt | Ended


class Lines:
    """Objects out of bytes as they arrive. Raises FormatError for anything else."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield parse_object(line, "message")
        if len(self._rest) > _MAX_LINE_BYTES:
            raise FormatError(f"message: longer than {_MAX_LINE_BYTES} bytes")


def line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, default=str).encode("ascii") + b"\n"


def settings_line(settings: WorkerSettings) -> bytes:
    """The settings with what the files in them hold: in a container these are not.

    Raises OSError where one can't be read.
    """
    server = settings.server
    return line(
        {
            "settings": asdict(settings),
            "tls_ca": None if server.tls_ca is None else server.tls_ca.read_text("utf-8"),
            "token": None if server.token_file is None else server.token_file.read_text("utf-8"),
        }
    )


def settings_from(value: Mapping[str, Any], *, tls_ca: Path, token_file: Path) -> WorkerSettings:
    """In the container. tls_ca, token_file: where what these held has been written.

    Raises TypeError or KeyError where the other side is of another version.
    """
    settings = dict(value)
    server: dict[str, Any] = dict(settings["server"])
    if server["tls_ca"] is not None:
        server["tls_ca"] = tls_ca
        # A certificate names the server, not the socket that leads to it.
        if not server["address"].startswith("unix:"):
            server["server_name"] = server["address"].rpartition(":")[0].strip("[]")
    if server["token_file"] is not None:
        server["token_file"] = token_file
    server["address"] = POLICY_ADDRESS
    settings["server"] = ServerConnection(**server)
    settings["film_cameras"] = {
        name: ImageSize(**size) for name, size in settings["film_cameras"].items()
    }
    if settings["like"] is not None:
        settings["like"] = LikeSimulators(**settings["like"])
    recordings: dict[str, Any] = dict(settings["recordings"])
    recordings["video_cameras"] = tuple(recordings["video_cameras"])
    settings["recordings"] = RecordingOptions(**recordings)
    return WorkerSettings(**settings)


def request_line(request: EpisodeRequest) -> bytes:
    return line({"episode": asdict(request) | {"folder": EPISODE_FOLDER}})


def request_from(value: Mapping[str, Any]) -> EpisodeRequest:
    told = dict(value)
    told["folder"] = Path(told["folder"])
    return EpisodeRequest(**told)


def message_line(message: Message) -> bytes:
    match message:
        case Hello():
            return line({"hello": dict(message.versions)})
        case Heartbeat():
            return line({"heartbeat": True})
        case Halt():
            return line({"halt": message.message})
        case Ended():
            return line(
                {"ended": asdict(message.report), "worker_is_spent": message.worker_is_spent}
            )


def message_from(value: Mapping[str, Any], request: EpisodeRequest | None) -> Message:
    """request: the episode that runs there. Raises FormatError for what is no message."""
    match value:
        case {"hello": dict() as versions} if all(isinstance(v, str) for v in versions.values()):
            return Hello(versions=versions)
        case {"heartbeat": True}:
            return Heartbeat()
        case {"halt": str() as text}:
            return Halt(text)
        case {"ended": dict() as report, "worker_is_spent": bool() as is_spent} if request:
            return Ended(_report_from(report, request), worker_is_spent=is_spent)
    raise FormatError(f"message: unexpected {shown(dict(value))}")


def _report_from(value: Mapping[str, Any], request: EpisodeRequest) -> EpisodeReport:
    check_keys(value, [each.name for each in fields(EpisodeReport)], "report")
    facts = dict(value)
    simulator = facts.pop("simulator")
    if not isinstance(simulator, dict) or not all(isinstance(v, str) for v in simulator.values()):
        raise FormatError(f"report: simulator: unexpected {shown(simulator)}")
    try:
        facts["outcome"] = Outcome(facts["outcome"])
    except ValueError:
        raise FormatError(f"report: outcome: unexpected {shown(facts['outcome'])}") from None
    if facts["policy_latency"] is not None:
        facts["policy_latency"] = PolicyLatency.from_json_value(facts["policy_latency"])
    # A record's own checks are those that a report must stand.
    RolloutRecord(
        policy="any",
        task=request.task,
        scenario_index=request.scenario_index,
        seed=request.seed,
        **facts,
    )
    return EpisodeReport(**facts, simulator=simulator)
