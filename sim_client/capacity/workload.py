"""What an episode costs a simulator apart from waiting for plans, by an evaluation that was run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from policy_interface.usage import UsageError
from sim_client.capacity.throughput import Workload
from sim_client.evaluation.run_folder import run_folder
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    LedgerError,
    latest_outcomes,
    read_design,
    read_ledger,
)
from step_analysis.rollouts import EvaluationDesign, RolloutRecord

# What our own server says of itself, as an evaluation's design keeps it.
_OPEN_LOOP_STEPS = "assay.open_loop_steps"
_PLANNED_LATENCY = "assay.planned_latency_steps"


@dataclass(frozen=True, kw_only=True)
class MeasuredEpisodes:
    """Means over some episodes.

    wall_s: of an episode, all of it. plan_wait_s: of a step that waits for a plan, more than of one
    that does not; as it was with the simulators that ran then.
    """

    num_episodes: int
    wall_s: float
    control_steps: float
    steps_per_plan: int
    plan_wait_s: float

    @property
    def plans(self) -> float:
        """Of an episode."""
        return max(self.control_steps / self.steps_per_plan, 1.0)

    def workload(self, think_cv: float) -> Workload:
        """Raises UsageError where all of an episode went into waiting."""
        think_s = self.wall_s / self.plans - self.plan_wait_s
        if think_s <= 0:
            raise UsageError(
                f"--measured: an episode of {self.wall_s:.2f} s has {self.plans:.1f} plans of "
                f"{self.plan_wait_s:.3f} s, which leaves nothing for simulating; give --episode-s"
            )
        return Workload(
            think_s=think_s,
            think_cv=think_cv,
            steps_per_plan=self.steps_per_plan,
            plans_per_episode=self.plans,
        )


def measured_episodes(path: Path, open_loop_steps: int | None) -> MeasuredEpisodes:
    """By the ledger of an evaluation. open_loop_steps: steps of a plan, where it does not say.

    The ledger keeps quantiles of how long steps took: the median is that of a step without a plan
    and the 95th percentile that of one with a plan, where at least every twentieth step and less
    than every second one plans. Raises UsageError.
    """
    folder = run_folder(path)
    try:
        design = read_design(folder / DESIGN_FILE_NAME)
        records = latest_outcomes(read_ledger(folder / LEDGER_FILE_NAME)).values()
    except (LedgerError, OSError) as error:
        raise UsageError(f"--measured: {error}") from error
    steps_per_plan = _steps_per_plan(design, open_loop_steps, path)
    counted = [
        (record.wall_s, record.num_control_steps, _plan_wait_s(record, steps_per_plan))
        for record in records
        if record.outcome.counts
        and record.wall_s
        and record.num_control_steps
        and record.policy_latency is not None
    ]
    if not counted:
        raise UsageError(
            f"--measured {path}: no episode with a verdict says how long it took; "
            "run some, or give --episode-s"
        )
    walls_s, steps, waits_s = zip(*counted, strict=True)
    return MeasuredEpisodes(
        num_episodes=len(counted),
        wall_s=sum(walls_s) / len(counted),
        control_steps=sum(steps) / len(counted),
        steps_per_plan=steps_per_plan,
        # Of the episodes' own percentiles, of which a few are outliers.
        plan_wait_s=median(waits_s),
    )


def _steps_per_plan(design: EvaluationDesign, given: int | None, path: Path) -> int:
    if design.software.get(_PLANNED_LATENCY, "0") != "0":
        raise UsageError(
            f"--measured {path}: its server planned ahead (--planned-latency-steps), so that no "
            "simulator waited for a plan: only one that plans when it is asked is modelled"
        )
    stated = design.software.get(_OPEN_LOOP_STEPS)
    if given is None and not (stated or "").isdigit():
        raise UsageError(
            f"--measured {path}: the server did not say after how many steps it plans again; give "
            "--open-loop-steps"
        )
    steps = given if given is not None else int(stated or 0)
    if not 1 <= steps <= 19:
        raise UsageError(
            f"--measured {path}: {steps} steps a plan: the ledger's percentiles tell plans from "
            "other steps for 1 to 19; give --episode-s, --control-steps and --open-loop-steps"
        )
    return steps


def _plan_wait_s(record: RolloutRecord, steps_per_plan: int) -> float:
    latency = record.policy_latency
    assert latency is not None
    if steps_per_plan == 1:
        return latency.p50_ms / 1e3
    without_plan_ms = latency.p50_ms if steps_per_plan > 2 else 0.0
    return (latency.p95_ms - without_plan_ms) / 1e3
