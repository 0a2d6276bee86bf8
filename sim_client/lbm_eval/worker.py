"""A worker process that has LBM Eval run episodes: each in a child of its own, which it watches.

To the pool it is as any worker: it reads `EpisodeRequest`s from its pipe, and answers each with
`Heartbeat`s and then `Ended` or `Halt`. LBM Eval frees its memory only by ending its process, so a
child runs one episode, as in LBM Eval's own runner.
"""

from __future__ import annotations

import errno
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from policy_interface.client import PolicyClient
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest, Stopwatch
from sim_client.evaluation.worker import (
    Channel,
    Ended,
    Heartbeat,
    ServedPolicySettings,
    missing_policy,
)
from sim_client.evaluation.worker_process import become_worker
from sim_client.lbm_eval.child_process import START_ALLOWANCE_S, Child, ChildEndedError
from sim_client.lbm_eval.skills import SKILLS
from sim_client.lbm_eval.verdict import (
    CONTROL_PERIOD_S,
    FailureClass,
    Verdict,
    error,
    exception_text,
    judge,
)

LOG_FILE_NAME = "lbm_eval.log"

# An episode's number of control steps where LBM Eval's own time limit holds.
OWN_TIME_LIMIT = sys.maxsize

# The pool takes a worker for hung after `stall_timeout_s` of silence; this one is heard from far
# more often, and looks after its child itself.
_HEARTBEATS_A_STALL = 4


@dataclass(frozen=True, kw_only=True)
class LbmEvalSettings(ServedPolicySettings):
    """python: the interpreter that has LBM Eval. stall_timeout_s: how long it may simulate one
    control step, or build a scene; the policy has the connection's deadline."""

    python: Path
    stall_timeout_s: float


def serve_lbm_eval(connection: Connection, settings: LbmEvalSettings) -> None:
    """The worker's whole life."""
    become_worker()
    try:
        with settings.server.open() as client:
            worker = LbmEvalWorker(connection, settings, client)
            while True:
                worker.serve(connection.recv())
    except (EOFError, ConnectionError):
        # The parent has closed the pipe, or is gone: nobody is left to tell.
        return


class LbmEvalWorker:
    """Runs the episodes of one policy, and answers each request on the channel."""

    is_spent = False

    def __init__(self, channel: Channel, settings: LbmEvalSettings, client: PolicyClient) -> None:
        self._channel = channel
        self._settings = settings
        self._client = client

    def serve(self, request: EpisodeRequest) -> None:
        self._heartbeat()
        obstacle = missing_policy(self._client, self._settings)
        self._channel.send(obstacle or Ended(_attempt(request, self._settings, self._heartbeat)))

    def _heartbeat(self) -> None:
        self._channel.send(Heartbeat())


def _attempt(
    request: EpisodeRequest, settings: LbmEvalSettings, heartbeat: Callable[[], None]
) -> EpisodeReport:
    stopwatch = Stopwatch()
    try:
        verdict = _evaluate(request, settings, heartbeat)
    except ConnectionError:
        raise
    except OSError as failure:
        is_full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        verdict = error(FailureClass.DISK if is_full else FailureClass.PROCESS, str(failure))
    except Exception as failure:  # noqa: BLE001 (an episode's edge: recorded, never a verdict)
        verdict = error(FailureClass.OTHER, f"{type(failure).__name__}: {failure}")
    return EpisodeReport(
        outcome=verdict.outcome,
        started_at=stopwatch.started_at,
        wall_s=stopwatch.wall_s,
        duration_s=verdict.duration_s,
        num_control_steps=verdict.num_control_steps,
        message=verdict.message,
        detail=verdict.detail,
        instruction=verdict.instruction,
        first_inference_s=verdict.first_inference_s,
        policy_latency=verdict.policy_latency,
    )


def _evaluate(
    request: EpisodeRequest, settings: LbmEvalSettings, heartbeat: Callable[[], None]
) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="lbm-eval-") as scratch:
        output, log = Path(scratch), Path(scratch) / LOG_FILE_NAME
        skill = SKILLS[request.task].snake_case_name
        if request.record:
            # LBM Eval itself adds {skill}/demonstration_{index}, which makes it this folder.
            output = request.folder.parents[1]
            request.folder.mkdir(parents=True, exist_ok=True)
            log = request.folder / LOG_FILE_NAME
        has_own_limit = request.max_control_steps == OWN_TIME_LIMIT
        order = {
            "skill_type": skill,
            "scenario_index": request.scenario_index,
            "output_directory": str(output),
            "server_uri": settings.server.address,
            "t_max": None if has_own_limit else request.max_control_steps * CONTROL_PERIOD_S,
        }
        with Child(settings.python, "run", log=log, order=order) as child:
            try:
                return _watched(child, settings, heartbeat)
            except ChildEndedError as ended:
                return error(FailureClass.PROCESS, f"LBM Eval's process {ended}")


def _watched(child: Child, settings: LbmEvalSettings, heartbeat: Callable[[], None]) -> Verdict:
    """Follow the child to its answer, or until it is silent for longer than its phase may take."""
    phase, limit_s = "start", settings.stall_timeout_s + START_ALLOWANCE_S
    deadline_s = time.monotonic() + limit_s
    patience_s = settings.stall_timeout_s / _HEARTBEATS_A_STALL
    while True:
        heartbeat()
        remaining_s = max(0.0, deadline_s - time.monotonic())
        message = child.next_message(timeout_s=min(remaining_s, patience_s))
        if message is None:
            if time.monotonic() >= deadline_s:
                return _hung(phase, limit_s)
            continue
        if message["kind"] != "phase":
            return _answer(message)
        phase = message["phase"]
        limit_s = settings.server.timeout_s if phase == "policy" else settings.stall_timeout_s
        deadline_s = time.monotonic() + limit_s


def _hung(phase: str, limit_s: float) -> Verdict:
    if phase == "policy":
        return error(FailureClass.SERVER, f"no answer within {limit_s:g} s: LBM Eval was killed")
    what = "did not start" if phase == "start" else "gave no sign of life"
    return error(FailureClass.PROCESS, f"LBM Eval {what} within {limit_s:g} s: killed")


def _answer(message: dict[str, Any]) -> Verdict:
    match message["kind"]:
        case "result":
            return judge(message)
        case "missing":
            return error(FailureClass.PROCESS, f"the module {message['module']!r} is missing")
        case _:
            text = exception_text(message["message"])
            return error(FailureClass.OTHER, f"LBM Eval could not be asked: {text}")
