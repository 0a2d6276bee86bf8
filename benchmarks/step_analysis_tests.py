"""Time of the sequential tests: making a boundary, proving it, reading it, reaching a verdict.

    python benchmarks/step_analysis_tests.py --n-max 50 100 200 500

Prints JSON. `cpu_s` is the portable figure where the machine is shared. `plain` is a direct
reading of the STEP paper's procedure, one convolution a control point and one linear programme a
time, measured in the same run: the ratio to it says more than seconds do.
"""

import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import scipy
import tyro
from scipy.optimize import linprog

from step_analysis.sequential.certificate import certify
from step_analysis.sequential.lai import solve_c
from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.risk_budget import LinearBudget, available_shares, dead_time
from step_analysis.sequential.step import StepTest
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_synthesis import control_points, synthesise
from step_analysis.sequential.step_tables import (
    CACHE_FOLDER_VARIABLE,
    SHIPPED_TABLES,
    make_table,
    read_table,
    table_name,
)

_VERDICTS = 100
_ROUNDS = 50
_RATES = (0.5, 0.7)


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time the sequential tests."""

    n_max: tuple[int, ...] = (50, 100, 200, 500)
    """Budgets to make boundaries for."""
    alpha_per_side: float = 0.025
    """Level of each direction."""
    plain_n_max: int = 100
    """Budget of the comparison with the plain procedure; 0 leaves it out."""


def main(arguments: BenchmarkArguments) -> None:
    alpha = arguments.alpha_per_side
    report: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "alpha_per_side": alpha,
        "boundaries": [_boundary(n_max, alpha) for n_max in arguments.n_max],
        "verdict": _verdict(200, alpha),
        "lai_c": [{"n_max": n, **_timed(lambda n=n: _solve_c(n, alpha))[1]} for n in (200, 3800)],
    }
    if arguments.plain_n_max:
        report["against_plain"] = _against_plain(arguments.plain_n_max, alpha)
    report["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(report, indent=2))


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {"wall_s": round(wall, 4), "cpu_s": round(cpu, 4)}


def _boundary(n_max: int, alpha: float) -> dict[str, Any]:
    design = StepDesign(n_max=n_max, alpha_per_side=alpha)
    table, making = _timed(lambda: make_table(design))
    _, proof = _timed(lambda: certify(table.boundary))
    at_rates = operating_characteristics(table.boundary, *_RATES)
    return {
        "n_max": n_max,
        "making": making,
        "of which proving": proof,
        "type1_sup": table.certificate.type1_sup,
        "rates": _RATES,
        "power": float(at_rates.arm1_better),
        "expected_n": float(at_rates.expected_time),
    }


def _verdict(n_max: int, alpha: float) -> dict[str, Any]:
    """Of full length, undecided: the longest that there is."""
    path = SHIPPED_TABLES / table_name(StepDesign(n_max=n_max, alpha_per_side=alpha))
    reading = _timed(lambda: read_table(path))[1] if path.exists() else None
    test = StepTest(n_max, alpha)
    outcomes = np.random.default_rng(1).integers(0, 2, n_max)

    def verdicts() -> None:
        for _ in range(_VERDICTS):
            test.run(outcomes, outcomes)

    fastest_s = min(_timed(verdicts)[1]["wall_s"] for _ in range(_ROUNDS))
    return {"n_max": n_max, "microseconds": 1e6 * fastest_s / _VERDICTS, "reading": reading}


def _solve_c(n_max: int, alpha: float) -> float:
    """Found anew, not taken from the user's cache."""
    solve_c.cache_clear()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {CACHE_FOLDER_VARIABLE: folder}),
    ):
        return solve_c(n_max, alpha)


def _against_plain(n_max: int, alpha: float) -> dict[str, Any]:
    design = StepDesign(n_max=n_max, alpha_per_side=alpha)
    ours = _timed(lambda: synthesise(design))[1]
    _, plain = _timed(lambda: _plain_synthesis(n_max, alpha))
    return {
        "n_max": n_max,
        "synthesis": ours,
        "plain": plain,
        "cpu_ratio": round(plain["cpu_s"] / ours["cpu_s"], 1),
    }


def _plain_synthesis(n_max: int, alpha: float) -> list[np.ndarray]:
    """Weights w_t(x, y), y > x: follow the law of the counts at each control point by itself."""
    lower = control_points(n_max)
    p = np.concatenate([lower, 1.0 - lower[-2::-1]])[:, None, None]
    available = alpha * available_shares(LinearBudget(), n_max)
    law = np.zeros((len(p), n_max + 1, n_max + 1))
    law[:, 0, 0] = 1.0
    spent = np.zeros(len(p))
    all_weights = []
    for t in range(1, n_max + 1):
        for axis in (1, 2):
            # Nothing wraps around: the last row and column are reached at t = n_max at the soonest.
            law = law * (1.0 - p) + np.roll(law, 1, axis=axis) * p
        weights = np.zeros((n_max + 1, n_max + 1))
        if t > dead_time(n_max):
            states = _plain_candidates(t, law, spent, available[t], p.ravel())
            x, y = np.array(states).T
            room = np.maximum(available[t] - spent - 1e-8, 0.0)
            found = linprog(-np.ones(len(x)), A_ub=law[:, x, y], b_ub=room, bounds=(0.0, 1.0))
            weights[x, y] = found.x
            spent += law[:, x, y] @ found.x
            law = law * (1.0 - weights - weights.T)
        all_weights.append(weights)
    return all_weights


def _plain_candidates(
    t: int, law: np.ndarray, spent: np.ndarray, available: float, p: np.ndarray
) -> list[tuple[int, int]]:
    total = spent.copy()
    states: list[tuple[int, int]] = []
    for d in range(t, 0, -1):
        last = t - d
        overdrawn = p[total >= available + 1e-5]
        for x in range(last + 1):
            likely = len(overdrawn) > 0 and overdrawn.min() < x / (last + 1) < overdrawn.max()
            if x in (0, last) or not likely:
                states.append((x, x + d))
                total = total + law[:, x, x + d]
    return states


if __name__ == "__main__":
    main(tyro.cli(BenchmarkArguments, description=__doc__))
