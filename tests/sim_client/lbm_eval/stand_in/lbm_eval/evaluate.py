"""The functions of LBM Eval's public interface, by the same names and with the same arguments."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from grpc_workspace.lbm_policy_client import LbmPolicyClientConfig
from lbm_eval.scene import Scene


@dataclass
class SingleEvaluationResult:
    skill_type: str
    scenario_index: int
    is_pending: bool = True
    total_time: float | None = None
    is_success: bool | None = None
    failure_message: str | None = None


@dataclass
class EvaluationResults:
    evaluations: list[SingleEvaluationResult] = field(default_factory=list)
    num_processes: int = 0
    elapsed_time: float = 0.0


def get_known_skill_types() -> list[str]:
    return json.loads(os.environ["LBM_STAND_IN_SKILLS"])


def evaluate_one(
    *,
    skill_type: str,
    scenario_index: int,
    output_directory: Path,
    use_eval_seed: bool = True,
    t_max: float | None = None,
    server_uri: str = "localhost:50051",
    use_rpc: bool = True,
    policy: Any = None,
) -> SingleEvaluationResult:
    result = SingleEvaluationResult(skill_type, scenario_index, is_pending=False)
    try:
        info = _roll_out(
            skill_type, scenario_index, output_directory, use_eval_seed, t_max, server_uri
        )
        result.total_time, result.is_success = info["time"], info["is_success"]
    except Exception:  # noqa: BLE001 (as LBM Eval does)
        result.is_success, result.failure_message = False, traceback.format_exc()
    return result


def evaluate_many(
    evaluations: list[dict[str, Any]],
    output_directory: Path | None = None,
    num_processes: int = 1,
    progress_callback: Callable[[EvaluationResults], None] | None = None,
) -> EvaluationResults:
    folder = Path(output_directory or evaluations[0]["output_directory"])
    results = EvaluationResults(num_processes=num_processes)
    for each in evaluations:
        results.evaluations.append(evaluate_one(**each))
        if progress_callback is not None:
            progress_callback(results)
    evaluated = results.evaluations
    num_success = sum(bool(one.is_success) for one in evaluated)
    summary = {
        "num_processes": num_processes,
        "elapsed_time": results.elapsed_time,
        "num_evaluated": len(evaluated),
        "num_requested_evaluations": len(evaluations),
        "num_success": num_success,
        "success_rate": num_success / len(evaluated),
        "evaluations": [asdict(one) for one in evaluated],
    }
    timestamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
    (folder / f"results-{timestamp}.json").write_text(json.dumps(summary, indent=2))
    return results


def _roll_out(
    skill_type: str,
    scenario_index: int,
    output_directory: Path,
    use_eval_seed: bool,
    t_max: float | None,
    server_uri: str,
) -> dict[str, Any]:
    if skill_type not in get_known_skill_types():
        raise RuntimeError(f"Unknown {skill_type=}")
    seed = scenario_index + 100 + (100_000_000 if use_eval_seed else 0)
    policy = LbmPolicyClientConfig(server_uri=server_uri).create()
    policy.get_policy_metadata()
    policy.reset(seed=seed)
    scene = Scene(seed=seed, t_max=t_max)
    folder = output_directory.absolute() / skill_type / f"demonstration_{scenario_index}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recording.html").write_text("<html>a replay</html>")
    # For a test that wants to know what else is in LBM Eval's process.
    (folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    last_step: Any = None
    while not scene.is_over:
        last_step = scene.step(policy.step(scene.observe()))
    # As in LBM Eval, where a scene that is over at t = 0 has no last step.
    return last_step.info
