"""What an episode of LBM Eval says of the policy, and what it only says of everything else.

LBM Eval scores every exception of its own as `is_success: false`: in the rollouts released with
VLA Foundry, 196 failures of 34,200 episodes are full disks, solvers without a solution and lost
servers. Here only what the policy did is a failure; the rest is an error, and is run again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import Outcome

CONTROL_PERIOD_S = 0.1

# The latest of the 77 successes that each released model had before its first inference: Foundry's
# server, asked to replan every 8 steps, first holds still for 7 steps of 0.1 s. No task takes so
# little, so a success until then tells of the scenario and not of the policy.
PRE_SOLVED_S = 0.7
_CLOCK_TOLERANCE_S = 1e-6

_MAX_MESSAGE_LENGTH = 1000


class FailureClass(StrEnum):
    """Whose fault it is that an episode has no success."""

    POLICY = "policy"
    """LBM Eval rejected its action. The only class that is a failure."""
    SERVER = "server"
    """The policy's server, or the way to it."""
    SOLVER = "solver"
    """Drake found no solution, or a state that is no number, for actions that were sound."""
    DISK = "disk"
    """No room for what LBM Eval records."""
    SCENARIO = "scenario"
    """Solved before the first action, or no valid placement found."""
    PROCESS = "process"
    """LBM Eval's process died, hung or did not start."""
    OTHER = "other"
    """An exception that none of the others explains."""


# By what LBM Eval 1.1.0, Drake, HDF5 and the operating system say of themselves.
_DISK = (
    "No space left on device",
    "errno = 28",
    "Disk quota exceeded",
    # A deformable body's file that was cut short when the disk filled up.
    "Unable to synchronously open object",
    "h5py",
)
_SOLVER = (
    "SimFailure",
    "solver failed to converge",
    "SceneGraph encountered a non-finite value",
    "isnan(",
    "is NaN.",
)
_NO_PLACEMENT = "Rejection sampling found no valid scenario"
# It reads the last control step's result even where a scene solved at t = 0 never came to one.
_NO_STEP_TAKEN = "'NoneType' object has no attribute 'info'"
_REJECTED_CLIENT = "rejected this client uuid"

_TRACEBACK_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line \d+, in (?P<function>\S+)', re.M)
# Where LBM Eval reads an action: from the answer's bytes, and into its controllers.
_READS_ACTION = frozenset({"grpc_msg_to_poses_and_grippers", "set_env_input"})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An episode's outcome, with what a record keeps of it."""

    outcome: Outcome
    duration_s: float | None = None
    num_control_steps: int | None = None
    message: str | None = None
    detail: Mapping[str, float | bool | str] = field(default_factory=dict)
    instruction: str | None = None
    first_inference_s: float | None = None
    policy_latency: PolicyLatency | None = None


def judge(result: Mapping[str, Any]) -> Verdict:
    """The verdict on an episode that LBM Eval carried to its end; result: as child.py tells it."""
    first_motion_step = result["first_motion_step"]
    return replace(
        _outcome_of(result),
        num_control_steps=result["num_control_steps"],
        instruction=result["instruction"],
        # Nothing of it can be known before the first action that moves an arm.
        first_inference_s=(
            None
            if first_motion_step is None
            else round((first_motion_step - 1) * CONTROL_PERIOD_S, 3)
        ),
        policy_latency=PolicyLatency.of(result["latencies_s"]),
    )


def error(failure_class: FailureClass, text: str) -> Verdict:
    """No verdict on the policy: the episode is to be run again."""
    return Verdict(
        outcome=Outcome.ERROR,
        message=_one_line(f"{failure_class}: {text}"),
        detail={"failure_class": failure_class.value},
    )


def _outcome_of(result: Mapping[str, Any]) -> Verdict:
    duration_s = result["total_time_s"]
    if result["failure_message"] is not None or result["is_success"] is None:
        return _judge_exception(result)
    if result["is_success"]:
        is_early = duration_s <= PRE_SOLVED_S + _CLOCK_TOLERANCE_S
        is_pre_solved = is_early or result["first_motion_step"] is None
        return Verdict(
            outcome=Outcome.SUCCESS, duration_s=duration_s, detail={"pre_solved": is_pre_solved}
        )
    # Without a success an episode of LBM Eval ends in one way only, by its time limit.
    return Verdict(
        outcome=Outcome.TIMEOUT,
        duration_s=duration_s,
        message=f"timeout: not done after {duration_s:.1f} s",
    )


def exception_text(traceback: str) -> str:
    """What follows the last frame of a traceback, on one line."""
    lines = traceback.splitlines()
    last_frame = max((i for i, line in enumerate(lines) if line.startswith("  ")), default=-1)
    return _one_line(" ".join(lines[last_frame + 1 :]))


def _judge_exception(result: Mapping[str, Any]) -> Verdict:
    traceback = result["failure_message"] or ""
    summary = _summary(traceback)
    failure_class = _class_of(result, traceback)
    if failure_class is not FailureClass.POLICY:
        server_error = result["policy_error"]
        if failure_class is FailureClass.SERVER and server_error["status"] is not None:
            summary = f"{server_error['call']}: {server_error['status']}: {server_error['text']}"
        if failure_class is FailureClass.SCENARIO and _NO_STEP_TAKEN in traceback:
            summary = "the scene is solved at t = 0, before the policy has acted"
        return error(failure_class, summary)
    why = "LBM Eval can't take it"
    if not result["last_action_is_finite"]:
        why = "it holds a NaN or an infinity"
    return Verdict(
        outcome=Outcome.FAILURE,
        message=_one_line(f"the policy's action was rejected, {why}: {summary}"),
        detail={"failure_class": FailureClass.POLICY.value},
    )


def _class_of(result: Mapping[str, Any], traceback: str) -> FailureClass:
    frames = [match["function"] for match in _TRACEBACK_FRAME.finditer(traceback)]
    if any(phrase in traceback for phrase in _DISK):
        return FailureClass.DISK
    if not _READS_ACTION.isdisjoint(frames):
        return FailureClass.POLICY
    if result["policy_error"] is not None:
        is_servers = result["policy_error"]["status"] is not None or _REJECTED_CLIENT in traceback
        return FailureClass.SERVER if is_servers else FailureClass.OTHER
    # Before the solver: what it says of a command that is no number is the policy's doing.
    if not result["last_action_is_finite"]:
        return FailureClass.POLICY
    if any(phrase in traceback for phrase in _SOLVER):
        return FailureClass.SOLVER
    is_solved_at_start = _NO_STEP_TAKEN in traceback and result["num_control_steps"] == 0
    if is_solved_at_start or _NO_PLACEMENT in traceback:
        return FailureClass.SCENARIO
    return FailureClass.OTHER


def _summary(traceback: str) -> str:
    """The exception's own line, and where it was raised."""
    text = exception_text(traceback)
    if not text:
        return "no success, no failure and no reason"
    frames = [match["file"].rpartition("/")[2] for match in _TRACEBACK_FRAME.finditer(traceback)]
    return f"{text} (in {frames[-1]})" if frames else text


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_MESSAGE_LENGTH]
