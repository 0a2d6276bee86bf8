"""How long policies take to answer, and how long episodes take."""

from html import escape
from statistics import fmean, median
from typing import Any

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import Material
from step_analysis.loading import PolicyRollouts
from step_analysis.report.figures.latency import LatencyRow, latency_figure
from step_analysis.report.html_table import Column, Row, table
from step_analysis.rollouts import RolloutRecord


def draw_latency(material: Material, canvas: Canvas) -> None:
    """Latencies of control steps where they were recorded, then what episodes took."""
    records = {
        policy.policy: [r for task in policy.tasks.values() for r in task.counted]
        for policy in material.by_rate
    }
    rows = [row for name, own in records.items() if (row := _row(name, own)) is not None]
    canvas.heading("A policy's answer")
    if rows:
        period_ms = _period_ms(material.policies)
        beyond = "; dashed: the time from one control step to the next" if period_ms else ""
        canvas.figure(
            "latency",
            "Real time from asking a policy for an action until it was there, on a logarithmic "
            f"axis. Dot: median; bar: to the 95th percentile; line: to the maximum{beyond}.",
            lambda frame: latency_figure(rows, frame, period_ms),
        )
        columns = [Column("Policy", "name"), Column("Episodes"), Column("Control steps")]
        columns += [Column("Median, ms"), Column("95th percentile, ms"), Column("Maximum, ms")]
        canvas.put(table(columns, [
            Row(cells=[canvas.swatch(row.policy), str(row.num_episodes), str(row.num_steps),
                       f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}", f"{row.max_ms:.1f}"],
                policies=(canvas.indices[row.policy],))
            for row in rows
        ]))  # fmt: skip
        canvas.lead("Of the medians and percentiles of single episodes, the median is shown.")
    else:
        canvas.lead("These results do not record how long the policies took to answer.")
    canvas.data(
        "latency",
        ("policy", "episodes", "steps", "p50_ms", "p95_ms", "max_ms"),
        [(r.policy, r.num_episodes, r.num_steps, r.p50_ms, r.p95_ms, r.max_ms) for r in rows],
    )
    _episodes(records, canvas)


def _episodes(records: dict[str, list[RolloutRecord]], canvas: Canvas) -> None:
    columns = [Column("Policy", "name"), Column("Episodes"), Column("Simulated, s")]
    columns += [Column("Real, s"), Column("Simulated each real second")]
    columns += [Column("First plan after, s")]
    rows, data = [], []
    for policy, own in records.items():
        simulated = [r.duration_s for r in own if r.duration_s is not None]
        real = [r.wall_s for r in own if r.wall_s is not None]
        both = [(r.duration_s, r.wall_s) for r in own if r.duration_s is not None and r.wall_s]
        first = [r.first_inference_s for r in own if r.first_inference_s is not None]
        values = (
            fmean(simulated) if simulated else None,
            fmean(real) if real else None,
            sum(d for d, _ in both) / sum(w for _, w in both) if both else None,
            fmean(first) if first else None,
        )
        data.append((policy, len(own), *values))
        cells = ["–" if value is None else f"{value:.2f}" for value in values]
        rows.append(
            Row(
                cells=[canvas.swatch(policy), str(len(own)), *map(escape, cells)],
                policies=(canvas.indices[policy],),
            )
        )
    canvas.heading("An episode's time")
    canvas.lead("Means over the counted episodes.")
    canvas.put(table(columns, rows))
    canvas.data(
        "episodes",
        ("policy", "episodes", "simulated_s", "real_s", "simulated_per_real", "first_plan_s"),
        data,
    )


def _row(policy: str, records: list[RolloutRecord]) -> LatencyRow | None:
    known = [r.policy_latency for r in records if r.policy_latency is not None]
    if not known:
        return None
    return LatencyRow(
        policy=policy,
        num_episodes=len(known),
        num_steps=sum(latency.num_steps for latency in known),
        p50_ms=median(latency.p50_ms for latency in known),
        p95_ms=median(latency.p95_ms for latency in known),
        max_ms=max(latency.max_ms for latency in known),
    )


def _period_ms(policies: tuple[PolicyRollouts, ...]) -> float | None:
    """The time from one control step to the next, where all designs say the same."""
    rates: set[float | None] = set()
    for policy in policies:
        contract: Any = policy.design.station.get("contract") if policy.design else None
        rate = contract.get("control_rate_hz") if isinstance(contract, dict) else None
        rates.add(float(rate) if isinstance(rate, int | float) and rate > 0 else None)
    rate_hz = rates.pop() if len(rates) == 1 else None
    return None if rate_hz is None else 1000.0 / rate_hz
