"""Posterior violins: what is believed of each success rate, with letters and counts beside."""

import math

import numpy as np

from step_analysis.intervals import BetaPosterior
from step_analysis.report.content import PanelContent, RateRow
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Axis, Frame, draw_rate_grid, label_room, rate_tip
from step_analysis.report.wording import percent

_NUM_POINTS = 64
_REACH_DEVIATIONS = 4.5
_LEAST_SHOWN = 0.004
"""Of the highest density; below it a violin would be a line."""


def posteriors_figure(panel: PanelContent, frame: Frame) -> Drawing:
    """A violin a policy, best rate first: Beta posterior, its mean and central interval."""
    rows = panel.rates
    names = [row.policy for row in rows]
    few = len(rows) <= 4
    if frame.is_narrow:
        row_height, label, beside = 64.0, 6.0, 6.0
    else:
        row_height, label, beside = (76.0 if few else 48.0), label_room(names, 230.0, 13.0), 150.0
    top, height = 8.0, row_height * len(rows)
    drawing = Drawing(width=frame.width, height=top + height + 26.0)
    axis = Axis(left=label + 6.0, right=frame.width - beside - 14.0)
    draw_rate_grid(drawing, axis, top, top + height)
    for number, row in enumerate(rows):
        begin = top + number * row_height
        about = frame.about(row.policy)
        if frame.is_narrow:
            middle, half = begin + 41.0, 17.0
            # So that the grid does not run through the words.
            drawing.box(0.0, begin + 1.0, frame.width, 18.0, "paper")
            drawing.text(axis.left, begin + 14.0, row.policy, weight="semibold", policies=about,
                         room=0.58 * frame.width)  # fmt: skip
            drawing.text(axis.right, begin + 14.0, f"{_rate(row)}  {row.letters}", anchor="end",
                         policies=about)  # fmt: skip
        else:
            middle, half = begin + row_height / 2.0, 0.42 * row_height
            drawing.text(label - 4.0, middle, row.policy, size=13.0, anchor="end", centred=True,
                         room=label - 8.0, policies=about)  # fmt: skip
            _beside(drawing, row, axis.right + 22.0, middle, frame)
        _violin(drawing, row, axis, middle, half, frame)
        tip = rate_tip(row, panel.title, frame.confidence)
        drawing.zone(0.0, begin, frame.width, row_height, tip, policies=about)
    return drawing


def _rate(row: RateRow) -> str:
    return f"{percent(row.rate)}  {row.successes}/{row.num_counted}" if row.num_counted else "–"


def _beside(drawing: Drawing, row: RateRow, x: float, middle: float, frame: Frame) -> None:
    about = frame.about(row.policy)
    drawing.text(x, middle - 1.0, percent(row.rate), size=15.0, weight="semibold", policies=about)
    counts = f"{row.successes}/{row.num_counted}" if row.num_counted else "no episode"
    drawing.text(x, middle + 14.0, counts, size=SMALL_TEXT_SIZE, colour="muted", policies=about)
    drawing.text(
        x + 78.0,
        middle,
        row.letters,
        size=15.0,
        weight="semibold",
        colour=frame.colour(row.policy),
        centred=True,
        room=frame.width - x - 78.0,
        policies=about,
    )


def _violin(
    drawing: Drawing, row: RateRow, axis: Axis, middle: float, half: float, frame: Frame
) -> None:
    colour, about = frame.colour(row.policy), frame.about(row.policy)
    posterior = BetaPosterior(successes=row.successes, num_episodes=row.num_counted)
    a, b = posterior.a, posterior.b
    deviation = math.sqrt(a * b / (a + b + 1.0)) / (a + b)
    low = max(0.0, posterior.mean - _REACH_DEVIATIONS * deviation)
    high = min(1.0, posterior.mean + _REACH_DEVIATIONS * deviation)
    rates = np.linspace(low, high, _NUM_POINTS)
    density = posterior.density(rates)
    share = density / density.max()
    kept = share > _LEAST_SHOWN
    across = [axis.x(rate) for rate in rates[kept].tolist()]
    heights = (half * share[kept]).tolist()
    upper = [(x, middle - h) for x, h in zip(across, heights, strict=True)]
    lower = [(x, middle + h) for x, h in zip(across, heights, strict=True)]
    drawing.area([*upper, *reversed(lower)], colour, opacity=0.24, policies=about)
    for edge in (upper, lower):
        drawing.line(edge, colour, width=1.2, policies=about)
    if row.posterior_interval is not None and row.posterior_mean is not None:
        ends = [(axis.x(rate), middle) for rate in row.posterior_interval]
        drawing.line(ends, colour, width=3.0, round_ends=True, policies=about)
        x = axis.x(row.posterior_mean)
        radius = 4.5 if ends[1][0] - ends[0][0] > 20.0 else 3.2
        drawing.dot(x, middle, radius, "paper", stroke=colour, stroke_width=1.8, policies=about)
