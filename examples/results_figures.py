"""The figures of docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from latency import CONTROL_STEP_MS
from results_ledger import Evaluated, Result

from step_analysis.intervals import clopper_pearson
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.palette import NUM_POLICY_COLOURS, policy_role

_WIDTH, _BODY = 860.0, 280.0
_TOP, _BOTTOM, _LEFT = 40.0, 44.0, 58.0
_ROW = 18.0
# Beside the plot, for what the lines are called: the longest name of a task and a number.
_NAMES = 390.0


class _Plot:
    """Axes with their ticks; `point` says where on the drawing a pair of values lies."""

    def __init__(
        self, *, title: str, x_label: str, x_ticks: Sequence[float], y_ticks: Mapping[float, str]
    ) -> None:
        self.drawing = Drawing(width=_WIDTH, height=_TOP + _BODY + _BOTTOM)
        self._right = _WIDTH - _NAMES
        self._x_max, self._y_max = max(x_ticks), max(y_ticks)
        self.drawing.text(6.0, 18.0, title, size=13.0, weight="semibold")
        for tick, label in y_ticks.items():
            _, y = self.point(0.0, tick)
            self.drawing.line([(_LEFT, y), (self._right, y)], "line")
            self.drawing.text(_LEFT - 7.0, y, label, size=SMALL_TEXT_SIZE, colour="muted",
                              anchor="end", centred=True)  # fmt: skip
        for tick in x_ticks:
            x, _ = self.point(tick, 0.0)
            self.drawing.text(x, _TOP + _BODY + 16.0, f"{tick:,.0f}", size=SMALL_TEXT_SIZE,
                              colour="muted", anchor="middle")  # fmt: skip
        self.drawing.text((_LEFT + self._right) / 2, _TOP + _BODY + 33.0, x_label,
                          size=SMALL_TEXT_SIZE, colour="muted", anchor="middle")  # fmt: skip

    def point(self, x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / self._x_max * (self._right - _LEFT)
        return across, _TOP + _BODY * (1.0 - y / self._y_max)

    def name(self, number: int, text: str) -> None:
        """In the legend. number: the line's, which sets its look and its place."""
        x, y = self._right + 26.0, _TOP + 8.0 + _ROW * number
        self.curve([(x - 10.0, y), (x + 10.0, y)], number)
        self.drawing.text(x + 18.0, y, text, centred=True, room=_WIDTH - x - 22.0)

    def curve(self, points: Sequence[tuple[float, float]], number: int) -> None:
        """A line on the drawing; dashed where its colour is there already."""
        is_dashed = number >= NUM_POLICY_COLOURS
        self.drawing.line(points, policy_role(number), width=1.8, dashed=is_dashed)


def learning_figure(trained: Mapping[str, Result]) -> Drawing:
    """Held-out action error by optimizer step, a line a policy."""
    curves = {name: result.training.points for name, result in trained.items() if result.training}
    last_step = max(curve[-1][0] for curve in curves.values())
    most_mm = max(error_mm for curve in curves.values() for _, error_mm in curve)
    ticks_mm = range(0, 10 * math.ceil(most_mm / 10) + 1, 10)
    plot = _Plot(
        title="Held-out action error while training, mm",
        x_label="optimizer steps",
        # The axis ends at the last of them.
        x_ticks=[float(tick) for tick in range(0, 2000 * math.ceil(last_step / 2000) + 1, 2000)],
        y_ticks={float(tick): str(tick) for tick in ticks_mm},
    )
    for number, (name, curve) in enumerate(curves.items()):
        points = [plot.point(step, error_mm) for step, error_mm in curve]
        plot.curve(points, number)
        plot.drawing.dot(*points[-1], 3.0, policy_role(number))
        plot.name(number, f"{name}: {curve[-1][1]:.1f} mm")
    return plot.drawing


def way_of(evaluated: Evaluated) -> str:
    """How a policy that takes time is lived with."""
    if evaluated.execution == "rtc":
        return "real-time chunking"
    return "plans made ahead" if evaluated.planned_steps else "actions late"


def latency_ms_of(evaluated: Evaluated) -> float:
    """From an observation to the action that answers it, in simulated time."""
    return evaluated.latency_ms + CONTROL_STEP_MS * evaluated.planned_steps


def latency_figure(points: Sequence[Evaluated]) -> Drawing:
    """Success by latency, a line a way of living with it, with 95 % Clopper-Pearson intervals."""
    plot = _Plot(
        title="Success against latency",
        x_label="latency, ms of simulated time",
        x_ticks=sorted({latency_ms_of(each) for each in points} | {0.0}),
        y_ticks={tick: f"{100 * tick:.0f} %" for tick in (0.0, 0.25, 0.5, 0.75, 1.0)},
    )
    ways = list(dict.fromkeys(way_of(each) for each in sorted(points, key=way_of)))
    for number, way in enumerate(ways):
        line = sorted((each for each in points if way_of(each) == way), key=latency_ms_of)
        # A little apart, so that intervals of one latency do not hide each other.
        aside = 3.0 * (number - (len(ways) - 1) / 2)
        places = []
        for each in line:
            interval = clopper_pearson(each.num_successes, each.num_counted)
            x, y = plot.point(latency_ms_of(each), each.num_successes / each.num_counted)
            ends = [plot.point(0.0, rate)[1] for rate in interval]
            plot.drawing.line([(x + aside, end) for end in ends], policy_role(number))
            plot.drawing.dot(x + aside, y, 3.5, policy_role(number))
            places.append((x + aside, y))
        plot.curve(places, number)
        plot.name(number, way)
    return plot.drawing
