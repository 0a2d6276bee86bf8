"""One checkpoint in simulation: a policy-server serves it, sim-client runs the episodes.

RUN/evaluations/step_000400/    what sim-client leaves: evaluation.json, ledger.jsonl, ...
    policy_server.log           what the server said
    sim_client.log              and the simulator
    told.json                   what the run has told of it; without it the evaluation is to do
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from policy_interface.companion import last_line_of, ready_address
from trainer.atomic_file import atomic_file
from trainer.checkpoint_files import MANIFEST_FILE
from trainer.closed_loop.configuration import EvaluateConfig
from trainer.closed_loop.processes import Processes
from trainer.closed_loop.programs import SERVED_HERE, Programs
from trainer.exporting.errors import ExportError
from trainer.exporting.evaluation import LEDGER_FILE, TaskResult, read_evaluation

_TOLD, _SERVER_LOG, _SIMULATOR_LOG = "told.json", "policy_server.log", "sim_client.log"
# For the network to be imported, read and made, from a cold disk too.
_SERVES_WITHIN_S = 600.0


class EvaluationError(RuntimeError):
    """An evaluation that did not come to its end; what is recorded stays."""


@dataclass(frozen=True, kw_only=True)
class ClosedLoopResult:
    """Of the checkpoint of optimizer step `step`, one after the other its tasks."""

    step: int
    digest: str
    tasks: tuple[TaskResult, ...]

    @property
    def told(self) -> str:
        """`step 400 in simulation: PutMugOnSaucer 7 of 10, 70% (95 %: 40% to 89%)`"""
        words = ", ".join(_in_words(task) for task in self.tasks)
        return f"step {self.step} in simulation: {words}"

    @property
    def scalars(self) -> Mapping[str, float]:
        """Rates and the bounds of their 95 % intervals (Wilson), 0 to 1, by name."""
        found: dict[str, float] = {}
        for task in self.tasks:
            low, high = _interval(task)
            found |= {
                f"evaluation/{task.task}/success_rate": task.successes / task.num_episodes,
                f"evaluation/{task.task}/success_rate_low": low,
                f"evaluation/{task.task}/success_rate_high": high,
            }
        return found

    def store_told(self, folder: Path) -> None:
        """Raises OSError."""
        facts = {
            "optimizer_step": self.step,
            "checkpoint_sha256": self.digest,
            "tasks": {
                task.task: {
                    "successes": task.successes,
                    "episodes": task.num_episodes,
                    "wilson_95": _interval(task),
                }
                for task in self.tasks
            },
        }
        with atomic_file(folder / _TOLD) as file:
            file.write((json.dumps(facts, indent=2) + "\n").encode())


def is_told(folder: Path) -> bool:
    return (folder / _TOLD).is_file()


def evaluate(
    checkpoint: Path,
    folder: Path,
    *,
    step: int,
    tasks: Sequence[str],
    config: EvaluateConfig,
    programs: Programs,
    processes: Processes,
) -> ClosedLoopResult:
    """Goes on with what the folder holds of this evaluation.

    Raises EvaluationError, OSError, ProcessesEndedError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server_log, simulator_log = folder / _SERVER_LOG, folder / _SIMULATOR_LOG
    serve = [programs.server, "serve", str(checkpoint), *SERVED_HERE, "--device", config.device]
    with (
        server_log.open("ab") as server_said,
        simulator_log.open("ab") as simulator_said,
        processes.started(serve, output=subprocess.PIPE, errors=server_said) as server,
    ):
        command = [
            *(programs.simulator, "evaluate", "--while-input-open"),
            *("--address", _address(server, server_log)),
            *("--tasks", ",".join(tasks), "--episodes", config.episodes),
            *("--workers", str(config.workers)),
            # Its folder is named after the policy.
            *("--policy-name", folder.name, "--output", str(folder.parent)),
        ]
        with processes.started(command, output=simulator_said, errors=simulator_said) as simulator:
            code = simulator.wait()
    if code:
        raise EvaluationError(
            f"sim-client ended with exit code {code}: {last_line_of(simulator_log)} (its log: "
            f"{simulator_log})"
        )
    return _result(checkpoint, folder, step)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, once it does."""
    assert server.stdout is not None
    # A pipe has no timeout: one that hangs is ended, which ends what it says.
    patience = Timer(_SERVES_WITHIN_S, server.terminate)
    patience.start()
    try:
        address = ready_address(server.stdout)
    finally:
        patience.cancel()
    if address is not None:
        return address
    raise EvaluationError(
        f"policy-server ended with exit code {server.wait()} before it was ready: "
        f"{last_line_of(log)} (its log: {log})"
    )


def _result(checkpoint: Path, folder: Path, step: int) -> ClosedLoopResult:
    digest = hashlib.sha256((checkpoint / MANIFEST_FILE).read_bytes()).hexdigest()
    try:
        found = read_evaluation(folder / LEDGER_FILE, name=folder.name, digest=digest)
    except ExportError as error:
        raise EvaluationError(str(error)) from error
    return ClosedLoopResult(step=step, digest=digest, tasks=found.tasks)


def _in_words(task: TaskResult) -> str:
    low, high = _interval(task)
    return (
        f"{task.task} {task.successes} of {task.num_episodes}, "
        f"{task.successes / task.num_episodes:.0%} (95 %: {low:.0%} to {high:.0%})"
    )


def _interval(task: TaskResult) -> tuple[float, float]:
    # sim-client ends well only where every episode has an outcome.
    assert task.interval is not None
    return task.interval
