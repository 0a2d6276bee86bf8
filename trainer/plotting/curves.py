"""The scalars of training runs, laid over one another."""

from __future__ import annotations

import numpy as np

from policy_interface.types import FloatArray
from trainer.plotting.event_files import Scalars
from trainer.plotting.gallery import Gallery, Section, Table, listed
from trainer.plotting.panels import Curve, Panel
from trainer.plotting.quantities import (
    HELD_OUT,
    HELD_OUT_BY_ACTION,
    SECTIONS,
    Quantity,
    in_order,
    quantity_of,
)
from trainer.plotting.run_differences import difference_tables
from trainer.plotting.runs import Run
from trainer.plotting.scales import Scale
from trainer.plotting.smoothing import smoothed

# Fewer points are shown as such.
_FEW_POINTS = 24
# More noise than this fills what lies between its crests.
_MANY_POINTS = 400
_FAINT, _FAINTEST = 0.32, 0.16


def overlay(runs: list[Run], smoothing: float) -> Gallery:
    """smoothing: the standard deviation of the smoothing, as a part of the longest run; 0 for
    none."""
    names = {name for run in runs for name in run.scalars}
    longest = max(run.last_step for run in runs)
    by_section: dict[str, list[Panel]] = {section: [] for section in SECTIONS}
    for name in in_order(names):
        panel = _panel(name, runs, longest, smoothing)
        by_section[quantity_of(name).section].append(panel)
    told = "raw values faint, smoothed ones strong; " if smoothing > 0 else ""
    return Gallery(
        eyebrow="Training curves",
        headline=listed([run.name for run in runs]),
        lead=f"Against optimizer steps; {told}held-out measures are of the averaged weights.",
        names=[run.name for run in runs],
        sections=[
            Section(heading=section, panels=panels)
            for section, panels in by_section.items()
            if panels
        ],
        tables=[_endings(runs, in_order(names)), *difference_tables(runs)],
    )


def _panel(name: str, runs: list[Run], longest: int, smoothing: float) -> Panel:
    quantity = quantity_of(name)
    curves: list[Curve] = []
    for series, run in enumerate(runs):
        if name in run.scalars:
            curves += _curves(run.scalars[name], series, quantity, smoothing * longest)
    return Panel(
        title=quantity.title,
        unit=quantity.unit,
        curves=curves,
        x_scale=Scale(low=0.0, high=float(max(longest, 1))),
        may_be_logarithmic=quantity.may_be_logarithmic,
    )


def _curves(scalars: Scalars, series: int, quantity: Quantity, bandwidth: float) -> list[Curve]:
    steps, values = scalars.steps.astype(np.float64), scalars.values
    if not quantity.is_noisy or bandwidth <= 0:
        is_held_out = quantity.section in (HELD_OUT, HELD_OUT_BY_ACTION)
        dots = len(steps) <= _FEW_POINTS and is_held_out
        return [Curve(x=steps, y=values, series=series, dots=dots)]
    x, y = _smoothed(scalars, quantity, bandwidth)
    opacity = _FAINT if len(steps) <= _MANY_POINTS else _FAINTEST
    return [
        Curve(x=steps, y=values, series=series, width=1.0, opacity=opacity),
        Curve(x=x, y=y, series=series),
    ]


def _smoothed(
    scalars: Scalars, quantity: Quantity, bandwidth: float
) -> tuple[FloatArray, FloatArray]:
    finite = scalars.values[np.isfinite(scalars.values)]
    in_logarithm = quantity.may_be_logarithmic and bool((finite > 0).all())
    steps = scalars.steps.astype(np.float64)
    return smoothed(steps, scalars.values, bandwidth, in_logarithm=in_logarithm)


def _endings(runs: list[Run], names: list[str]) -> Table:
    """Each run's last values, and the best of those that are held out."""
    measures = [
        name for name in names if name == "train/loss" or quantity_of(name).section == HELD_OUT
    ]
    head = ["Run", "Kind", "Steps"]
    for name in measures:
        quantity = quantity_of(name)
        held_out = quantity.section == HELD_OUT and quantity.title == "Loss"
        title = "Held-out loss" if held_out else quantity.title
        head.append(f"{title}, {quantity.unit}" if quantity.unit else title)
    rows = []
    for run in runs:
        kind, total = "unknown", ""
        if run.config is not None:
            kind, total = run.config.kind.replace("_", " "), f" of {run.config.total_steps:,}"
        cells = [_ending(run.scalars.get(name), quantity_of(name)) for name in measures]
        rows.append([run.name, kind, f"{run.last_step:,}{total}", *cells])
    return Table(
        heading="Where they ended",
        lead="Last values; where an earlier one was better, it follows with its step.",
        head=head,
        rows=rows,
        series=range(len(runs)),
    )


def _ending(scalars: Scalars | None, quantity: Quantity) -> str:
    if scalars is None:
        return "–"
    last = float(scalars.values[-1])
    told = f"{last:.3g}"
    if quantity.section == HELD_OUT and quantity.less_is_better and np.isfinite(last):
        best = int(np.nanargmin(scalars.values))
        if scalars.values[best] < last:
            told += f" ({scalars.values[best]:.3g} at {scalars.steps[best]:,})"
    return told
