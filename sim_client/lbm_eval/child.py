"""A program for the interpreter that has LBM Eval: say what is installed, or run one episode.

    python child.py probe DESCRIPTOR PARENT
    python child.py run DESCRIPTOR PARENT '{"skill_type": ..., "scenario_index": ...}'

It imports nothing of this project: LBM Eval's gRPC stubs and ours register the same protobuf
names, which one process can do only once; and that interpreter need not have this project at all.
It writes JSON lines to DESCRIPTOR, each an object with a `kind`:

    probed   versions and skills of the installation
    missing  the module that an import of LBM Eval lacks
    phase    "policy" before each call to the policy's server, "simulator" after it
    result   how the episode ended
    broken   an error outside of the episode
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import inspect
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = ("lbm_eval", "lbm_eval_models", "lbm_eval_scenarios", "robot_gym", "drake")

# The methods of LBM Eval's client that speak with the server; none of them has a deadline.
_CALLS = ("__init__", "get_policy_metadata", "reset", "step")

# Below this an arm that was told to hold still was: a policy that copies the observed or the
# commanded pose is off by less, and a motion to anything is more.
_STILL_M, _STILL_RAD = 0.005, 0.02

# What evaluate_one is told.
_ARGUMENTS = frozenset(
    {
        "skill_type",
        "scenario_index",
        "output_directory",
        "use_eval_seed",
        "t_max",
        "server_uri",
    }
)

_MAX_TEXT_LENGTH = 50_000
_PR_SET_PDEATHSIG = 1

Send = Callable[..., None]


def main() -> None:
    """Do what the command line says; the last line written is the answer."""
    mode, descriptor, parent, *order = sys.argv[1:]
    # Where this file lies there are modules that no import of LBM Eval should find.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".") != Path(__file__).parent]
    _end_with(int(parent))
    os.set_inheritable(int(descriptor), False)

    def send(kind: str, **fields: Any) -> None:
        os.write(int(descriptor), json.dumps({"kind": kind, **fields}).encode() + b"\n")

    logging.getLogger().setLevel(logging.ERROR)
    try:
        if mode == "probe":
            _probe(send)
        else:
            _run(send, json.loads(order[0]))
    except ModuleNotFoundError as error:
        send("missing", module=error.name or str(error))
    except Exception:  # noqa: BLE001 (a process's edge: told to the parent)
        send("broken", message=traceback.format_exc()[-_MAX_TEXT_LENGTH:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is left to close, and tearing down renderers at exit has crashed after a good episode.
    os._exit(0)


def _end_with(parent: int) -> None:
    """Die when the parent does, even inside a step that never returns to Python."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _probe(send: Send) -> None:
    from lbm_eval.evaluate import (  # pyright: ignore[reportMissingImports]
        evaluate_one,
        get_known_skill_types,
    )

    unknown = _ARGUMENTS - inspect.signature(evaluate_one).parameters.keys()
    if unknown:
        raise RuntimeError(f"its evaluate_one takes no {sorted(unknown)}, unlike that of 1.1.0")
    _Watch(send).over(_client_class())
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    # Looking for scenarios, Drake downloads its own models where it has not yet.
    send("phase", phase="simulator")
    send("probed", versions=versions, skills=sorted(get_known_skill_types()))


def _run(send: Send, order: dict[str, Any]) -> None:
    from lbm_eval.evaluate import evaluate_one  # pyright: ignore[reportMissingImports]

    watch = _Watch(send)
    watch.over(_client_class())
    send("phase", phase="simulator")
    result = evaluate_one(
        skill_type=order["skill_type"],
        scenario_index=order["scenario_index"],
        output_directory=Path(order["output_directory"]),
        use_eval_seed=True,
        t_max=order["t_max"],
        server_uri=order["server_uri"],
    )
    message = result.failure_message
    send(
        "result",
        is_success=None if result.is_success is None else bool(result.is_success),
        total_time_s=None if result.total_time is None else float(result.total_time),
        failure_message=None if message is None else str(message)[-_MAX_TEXT_LENGTH:],
        num_control_steps=watch.num_control_steps,
        policy_error=watch.policy_error,
        last_action_is_finite=watch.last_action_is_finite,
        first_motion_step=watch.first_motion_step,
        instruction=watch.instruction,
        latencies_s=watch.latencies_s,
    )


def _client_class() -> Any:
    from grpc_workspace.lbm_policy_client import (  # pyright: ignore[reportMissingImports]
        LbmPolicyClient,
    )

    return LbmPolicyClient


class _Watch:
    """Sees every call of LBM Eval's client to the policy's server, and changes none of them."""

    def __init__(self, send: Send) -> None:
        self.num_control_steps = 0
        self.policy_error: dict[str, str | None] | None = None
        self.last_action_is_finite = True
        self.first_motion_step: int | None = None
        self.instruction: str | None = None
        self.latencies_s: list[float] = []
        self._send = send
        self._start_poses: list[Any] = []

    def over(self, client_class: Any) -> None:
        for name in _CALLS:
            setattr(client_class, name, self._watched(name, getattr(client_class, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(client: Any, *arguments: Any, **options: Any) -> Any:
            self._send("phase", phase="policy")
            start_s = time.monotonic()
            try:
                answer = call(client, *arguments, **options)
            except Exception as error:
                self.policy_error = _described(name, error)
                raise
            finally:
                self._send("phase", phase="simulator")
            if name == "step":
                self.latencies_s.append(time.monotonic() - start_s)
                self._note_step(arguments[0] if arguments else options["observation"], answer)
            return answer

        return watched

    def _note_step(self, observation: Any, action: Any) -> None:
        import numpy as np

        self.num_control_steps += 1
        poses = {name: X_TE.GetAsMatrix4() for name, X_TE in action.poses.items()}
        numbers = [*poses.values(), np.array(list(action.grippers.values()), dtype=float)]
        self.last_action_is_finite = all(bool(np.isfinite(each).all()) for each in numbers)
        if not self._start_poses:
            self.instruction = observation.language_instruction
            robot = observation.robot
            self._start_poses = [
                {name: X_TE.GetAsMatrix4() for name, X_TE in state.poses.items()}
                for state in (robot.actual, robot.desired)
            ]
        if self.first_motion_step is None and not self._holds_still(poses):
            self.first_motion_step = self.num_control_steps

    def _holds_still(self, poses: dict[str, Any]) -> bool:
        return all(
            any(name in start and _is_near(X, start[name]) for start in self._start_poses)
            for name, X in poses.items()
        )


def _is_near(X: Any, Y: Any) -> bool:
    import numpy as np

    cosine = (np.trace(X[:3, :3].T @ Y[:3, :3]) - 1.0) / 2.0
    return bool(
        np.linalg.norm(X[:3, 3] - Y[:3, 3]) <= _STILL_M
        and np.arccos(np.clip(cosine, -1.0, 1.0)) <= _STILL_RAD
    )


def _described(call: str, error: Exception) -> dict[str, str | None]:
    """What LBM Eval's client raised; `status` is gRPC's, None for an error of another kind."""
    import grpc

    status, text = None, str(error)
    if isinstance(error, grpc.RpcError):
        code: Any = getattr(error, "code", lambda: None)()
        status = "UNKNOWN" if code is None else code.name
        text = str(getattr(error, "details", lambda: error)())
    return {"call": call, "status": status, "text": text[-_MAX_TEXT_LENGTH:]}


if __name__ == "__main__":
    main()
