"""The report's figures: posteriors of the success rates, success by task, and the evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from step_analysis.comparison import PairResult, Panel
from step_analysis.intervals import BetaPosterior
from step_analysis.report.content import PanelContent, RateRow
from step_analysis.report.palette import GRID, INK, MUTED, PAPER
from step_analysis.report.wording import percent

MAX_EVIDENCE_PAIRS = 6

_STYLE: Any = {
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    # Names come from files: a dollar sign in one is a dollar sign.
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
}
_SIDE_LABEL: Any = {"fontsize": 8.5, "fontweight": "bold"}
_WIDTH_INCHES = 7.4
_MAX_LABEL_LENGTH = 28
_LEAST_LEAD_SHOWN = 8.0


def posterior_figure(panel: PanelContent, colours: Mapping[str, str]) -> Figure:
    """A violin a policy: the Beta posterior, its mean and interval; letters and counts beside."""
    rows = panel.rates
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.75 * len(rows) + 0.75)
        rates = np.linspace(0.0, 1.0, 801)
        for height, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
            _violin(axes, height, row, rates, colours[row.policy])
        axes.set_ylim(-0.62, len(rows) - 0.38)
        _label_rows(axes, [row.policy for row in reversed(rows)])
        _rate_axis(axes)
    return figure


def tasks_figure(
    panels: Sequence[PanelContent], policies: Sequence[str], colours: Mapping[str, str]
) -> Figure:
    """A row a task: every policy's rate with its exact interval."""
    spacing = min(0.2, 0.7 / max(len(policies), 1))
    row_inches = max(0.36, 0.13 * len(policies) + 0.2)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(row_inches * len(panels) + 0.75 + 0.25 * -(-len(policies) // 3))
        for height, panel in zip(range(len(panels) - 1, -1, -1), panels, strict=True):
            for row in panel.rates:
                if row.rate is None or row.clopper_pearson is None:
                    continue
                at = height - spacing * (policies.index(row.policy) - (len(policies) - 1) / 2.0)
                colour = colours[row.policy]
                axes.plot(row.clopper_pearson, (at, at), color=colour, linewidth=2.0, alpha=0.45,
                          solid_capstyle="round")  # fmt: skip
                axes.plot(row.rate, at, "o", color=colour, markersize=5.0, clip_on=False)
        for policy in policies:
            axes.plot([], [], "o", color=colours[policy], markersize=5.0, label=_short(policy))
        axes.set_ylim(-0.6, len(panels) - 0.4)
        _label_rows(axes, [panel.title for panel in reversed(panels)])
        _rate_axis(axes)
        if len(policies) > 1:
            figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.2)
    return figure


def evidence_figure(
    pairs: Sequence[PairResult], panel: Panel, colours: Mapping[str, str]
) -> Figure:
    """A plot a pair: the lead of the better arm over time, and where the test stops."""
    pairs = pairs[:MAX_EVIDENCE_PAIRS]
    columns = 1 if len(pairs) == 1 else 2
    rows = -(-len(pairs) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, 2.9 * rows), layout="constrained")
        for number, pair in enumerate(pairs, start=1):
            _evidence(figure.add_subplot(rows, columns, number), pair, panel, colours)
    return figure


def _violin(axes: Axes, height: float, row: RateRow, rates: np.ndarray, colour: str) -> None:
    label = f"{row.successes}/{row.num_counted}" if row.num_counted else "no episode"
    posterior = BetaPosterior(successes=row.successes, num_episodes=row.num_counted)
    density = posterior.density(rates)
    half = 0.36 * density / density.max()
    seen = half > 0.002
    axes.fill_between(rates[seen], height - half[seen], height + half[seen], color=colour,
                      alpha=0.28, linewidth=0.0)  # fmt: skip
    for sign in (-1.0, 1.0):
        axes.plot(rates[seen], height + sign * half[seen], color=colour, linewidth=0.9)
    if row.posterior_interval is not None and row.posterior_mean is not None:
        axes.plot(row.posterior_interval, (height, height), color=colour, linewidth=2.2,
                  solid_capstyle="round")  # fmt: skip
        axes.plot(row.posterior_mean, height, "o", color=PAPER, markeredgecolor=colour,
                  markeredgewidth=1.6, markersize=6.5, clip_on=False, zorder=5)  # fmt: skip
    beside = axes.get_yaxis_transform()
    axes.text(1.03, height + 0.13, percent(row.rate), transform=beside, fontsize=11.0,
              fontweight="bold", va="center")  # fmt: skip
    axes.text(1.03, height - 0.2, label, transform=beside, color=MUTED, va="center", fontsize=8.5)
    axes.text(1.19, height, row.letters, transform=beside, va="center", fontsize=11.0,
              color=colour, fontweight="bold")  # fmt: skip


def _evidence(axes: Axes, pair: PairResult, panel: Panel, colours: Mapping[str, str]) -> None:
    rates = {name: panel.count(name).rate or 0.0 for name in (pair.arm0, pair.arm1)}
    upper = pair.winner or max(rates, key=lambda name: rates[name])
    lower = pair.arm0 if upper == pair.arm1 else pair.arm1
    sign = 1 if upper == pair.arm1 else -1
    difference = np.array(pair.outcomes1, dtype=float) - np.array(pair.outcomes0, dtype=float)
    lead = sign * np.concatenate([[0.0], np.cumsum(difference)])
    time = np.arange(len(lead))
    leads = pair.test.leads_to_stop(pair.outcomes0, pair.outcomes1)
    top = max(_LEAST_LEAD_SHOWN, float(lead.max()) + 2.0)
    bottom = min(-_LEAST_LEAD_SHOWN, float(lead.min()) - 2.0)
    if leads is not None and len(time) > 1:
        for_upper, for_lower = leads[::sign]
        _stopping_region(axes, time[1:], for_upper, top, colours[upper])
        _stopping_region(axes, time[1:], -for_lower, bottom, colours[lower])
    axes.axhline(0.0, color=GRID, linewidth=0.8, zorder=0)
    decided = pair.time if pair.winner is not None else len(lead) - 1
    axes.step(time[decided:], lead[decided:], where="post", color=MUTED, linewidth=1.0, alpha=0.6)
    axes.step(time[: decided + 1], lead[: decided + 1], where="post", color=INK, linewidth=1.6)
    if pair.winner is not None:
        axes.plot(decided, lead[decided], "o", color=colours[upper], markersize=7.0, zorder=5)
        right_half = decided > 0.6 * pair.test.n_max
        axes.annotate(f"decided after {decided}", (decided, lead[decided]), fontsize=8.5,
                      xytext=(-8 if right_half else 8, -13), textcoords="offset points",
                      ha="right" if right_half else "left", fontweight="bold")  # fmt: skip
    axes.set_title(f"{_short(upper)} better", loc="left", color=colours[upper], **_SIDE_LABEL)
    axes.text(0.99, 0.03, f"{_short(lower)} better", transform=axes.transAxes, va="bottom",
              ha="right", color=colours[lower], **_SIDE_LABEL)  # fmt: skip
    axes.set_xlim(0, pair.test.n_max)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("episodes of each policy")
    axes.set_ylabel("lead in successes")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", colors=MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _stopping_region(
    axes: Axes, time: np.ndarray, threshold: np.ndarray, edge: float, colour: str
) -> None:
    """Shade where the test stops; steps centred on their episode, gaps where it can't stop yet."""
    inside = np.abs(threshold) <= abs(edge)
    line = np.where(inside, threshold, np.nan)
    # Beyond the plot's edge the fill must not turn to its other side.
    fill = np.where(np.isnan(threshold) | inside, threshold, edge)
    axes.fill_between(time, fill, edge, step="mid", color=colour, alpha=0.13, linewidth=0.0)
    axes.step(time, line, where="mid", color=colour, linewidth=1.0, alpha=0.8)


def _figure(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def _rate_axis(axes: Axes) -> None:
    axes.set_xlim(-0.005, 1.005)
    axes.set_xticks(np.linspace(0.0, 1.0, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=" %"))
    axes.set_xlabel("success rate")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names])


def _short(name: str) -> str:
    """A name short enough for a label: its middle left out."""
    if len(name) <= _MAX_LABEL_LENGTH:
        return name
    half = (_MAX_LABEL_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
