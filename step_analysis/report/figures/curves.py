"""Curves within [0, 1] over episodes, each in its band: how a mean settles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Axis, Frame
from step_analysis.report.wording import percent

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_APART = 1.0
"""Pixels between points that are drawn; these keep the page small."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One policy's mean after 1, 2, ... episodes; arrays of one length, at least one long."""

    policy: str
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def curves_figure(curves: Sequence[Curve], frame: Frame, unit: str) -> Drawing:
    """A plot a policy, all on one scale. `unit` says what is averaged."""
    columns = 1 if frame.is_narrow else min(3, len(curves))
    gap = 30.0
    each = (frame.width - gap * (columns - 1)) / columns
    top, body, bottom = 34.0, (150.0 if columns > 1 else 190.0), 44.0
    block = top + body + bottom
    drawing = Drawing(width=frame.width, height=block * -(-len(curves) // columns))
    longest = max(len(curve.mean) for curve in curves)
    for number, curve in enumerate(curves):
        row, column = divmod(number, columns)
        left = column * (each + gap)
        axis = Axis(left=left + 42.0, right=left + each - 10.0, low=0.0, high=float(longest))
        _plot(drawing, curve, axis, (row * block + top, body), frame, unit)
    return drawing


def _plot(
    drawing: Drawing,
    curve: Curve,
    axis: Axis,
    body: tuple[float, float],
    frame: Frame,
    unit: str,
) -> None:
    top, height = body
    about, colour = frame.about(curve.policy), frame.colour(curve.policy)

    def y(value: float) -> float:
        return top + height * (1.0 - value)

    drawing.dot(axis.left + 4.0, top - 17.0, 4.0, colour, policies=about)
    drawing.text(axis.left + 14.0, top - 13.0, curve.policy, weight="semibold", policies=about,
                 room=axis.right - axis.left - 14.0)  # fmt: skip
    for tick in (0.0, 0.5, 1.0):
        drawing.line([(axis.left, y(tick)), (axis.right, y(tick))], "line")
        drawing.text(axis.left - 6.0, y(tick), f"{100.0 * tick:.0f} %", size=SMALL_TEXT_SIZE,
                     colour="muted", anchor="end", centred=True)  # fmt: skip
    step = next((s for s in _TICKS if axis.high / s <= 5), _TICKS[-1])
    for tick in range(0, int(axis.high) + 1, step):
        drawing.text(axis.x(tick), top + height + 15.0, str(tick), size=SMALL_TEXT_SIZE,
                     colour="muted", anchor="middle")  # fmt: skip
    drawing.text((axis.left + axis.right) / 2.0, top + height + 31.0, "episodes",
                 size=SMALL_TEXT_SIZE, colour="muted", anchor="middle")  # fmt: skip
    n = len(curve.mean)
    most = 2 + int((axis.x(n) - axis.x(0)) / _APART)
    times = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()
    across = [axis.x(t + 1) for t in times]
    upper = [(x, y(float(curve.upper[t]))) for x, t in zip(across, times, strict=True)]
    lower = [(x, y(float(curve.lower[t]))) for x, t in zip(across, times, strict=True)]
    drawing.area([*upper, *reversed(lower)], colour, opacity=0.2, policies=about)
    path = [(x, y(float(curve.mean[t]))) for x, t in zip(across, times, strict=True)]
    drawing.line(path, colour, width=1.8, policies=about)
    drawing.dot(*path[-1], 3.6, colour, policies=about)
    low, high = float(curve.lower[-1]), float(curve.upper[-1])
    tip = (
        f"{curve.policy}\n{unit} after {n} episodes: {100.0 * curve.mean[-1]:.1f} %\n"
        f"{percent(frame.confidence)} at all times: {100.0 * low:.1f}–{100.0 * high:.1f} %"
    )
    drawing.zone(axis.left, top, axis.right - axis.left, height, tip, policies=about)
