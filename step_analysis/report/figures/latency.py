"""How long policies take to answer: median, 95th percentile and maximum on one logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Axis, Frame, label_room

_TICKS_MS = tuple(base * 10.0**power for power in range(-2, 7) for base in (1, 3))


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One policy's control steps, in milliseconds of real time."""

    policy: str
    num_episodes: int
    num_steps: int
    p50_ms: float
    """Median over the episodes of their medians."""
    p95_ms: float
    """Median over the episodes of their 95th percentiles."""
    max_ms: float


def latency_figure(
    rows: Sequence[LatencyRow], frame: Frame, period_ms: float | None = None
) -> Drawing:
    """A row a policy; dashed: the time from one control step to the next, where it is known."""
    spacing = 54.0 if frame.is_narrow else 40.0
    names = [row.policy for row in rows]
    label = 6.0 if frame.is_narrow else label_room(names, 230.0, 13.0)
    top = 22.0
    height = spacing * len(rows)
    drawing = Drawing(width=frame.width, height=top + height + 30.0)
    values = [value for row in rows for value in (row.p50_ms, row.max_ms)]
    values += [period_ms] if period_ms else []
    positive = [value for value in values if value > 0.0] or [1.0]
    low, high = math.log10(min(positive)) - 0.1, math.log10(max(positive)) + 0.1
    axis = Axis(left=label + 8.0, right=frame.width - 18.0, low=low, high=max(high, low + 1.0))

    def x(value_ms: float) -> float:
        return axis.x(max(math.log10(value_ms), axis.low)) if value_ms > 0.0 else axis.left

    for tick in _TICKS_MS:
        if axis.low <= math.log10(tick) <= axis.high:
            drawing.line([(x(tick), top), (x(tick), top + height)], "line")
            drawing.text(x(tick), top + height + 16.0, _milliseconds(tick), size=SMALL_TEXT_SIZE,
                         colour="muted", anchor="middle")  # fmt: skip
    if period_ms:
        at = x(period_ms)
        drawing.line([(at, top - 4.0), (at, top + height)], "caution", dashed=True)
        right_half = at > (axis.left + axis.right) / 2.0
        drawing.text(at, top - 9.0, f"control period {_milliseconds(period_ms)}",
                     size=SMALL_TEXT_SIZE, colour="caution",
                     anchor="end" if right_half else "start")  # fmt: skip
    for number, row in enumerate(rows):
        begin = top + number * spacing
        middle = begin + spacing / 2.0 + (8.0 if frame.is_narrow else 0.0)
        about, colour = frame.about(row.policy), frame.colour(row.policy)
        if frame.is_narrow:
            drawing.text(axis.left, begin + 16.0, row.policy, weight="semibold", policies=about,
                         room=axis.right - axis.left)  # fmt: skip
        else:
            drawing.text(label - 4.0, middle, row.policy, size=13.0, anchor="end", centred=True,
                         room=label - 8.0, policies=about)  # fmt: skip
        drawing.line([(x(row.p95_ms), middle), (x(row.max_ms), middle)], colour, width=1.4,
                     opacity=0.6, policies=about)  # fmt: skip
        drawing.line([(x(row.p50_ms), middle), (x(row.p95_ms), middle)], colour, width=7.0,
                     opacity=0.4, round_ends=True, policies=about)  # fmt: skip
        drawing.dot(x(row.p50_ms), middle, 5.0, colour, policies=about)
        drawing.dot(x(row.max_ms), middle, 2.4, colour, policies=about)
        tip = (
            f"{row.policy}\nmedian {row.p50_ms:.1f} ms\n95th percentile {row.p95_ms:.1f} ms\n"
            f"maximum {row.max_ms:.1f} ms\n{row.num_steps} steps of {row.num_episodes} episodes"
        )
        drawing.zone(0.0, begin, frame.width, spacing, tip, policies=about)
    return drawing


def _milliseconds(value_ms: float) -> str:
    return f"{value_ms:g} ms" if value_ms < 1000.0 else f"{value_ms / 1000.0:g} s"
