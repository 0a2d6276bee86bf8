"""Power against budget, and the episodes that early stopping leaves of it."""

from collections.abc import Sequence
from typing import Protocol

from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Axis

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class PowerPoint(Protocol):
    """What one budget buys."""

    @property
    def n_max(self) -> int: ...

    @property
    def power(self) -> float: ...

    @property
    def expected_n(self) -> float: ...


def power_figure(
    points: Sequence[PowerPoint], *, needed: int, wished: float, title: str, width: float
) -> Drawing:
    """Two plots over one axis of budgets: power, and expected episodes of each policy."""
    top, body, between, bottom = 40.0, 200.0, 46.0, 44.0
    drawing = Drawing(width=width, height=top + 2.0 * body + between + bottom)
    axis = Axis(left=58.0, right=width - 20.0, low=0.0, high=1.04 * points[-1].n_max)
    drawing.text(6.0, 16.0, title, size=13.0, weight="semibold", room=width - 12.0)
    first, second = (top, body), (top + body + between, body)
    power = [(axis.x(p.n_max), _y(p.power, 1.0, first)) for p in points]
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        _rule(drawing, axis, _y(tick, 1.0, first), f"{100.0 * tick:.0f} %")
    wished_y = _y(wished, 1.0, first)
    drawing.line([(axis.left, wished_y), (axis.right, wished_y)], "caution", dashed=True)
    drawing.line(power, "gain", width=2.0)
    most = 1.04 * points[-1].n_max
    step = next((s for s in _TICKS if most / s <= 6), _TICKS[-1])
    for tick in range(0, int(most) + 1, step):
        _rule(drawing, axis, _y(tick / most, 1.0, second), str(tick))
    full = [(axis.x(p.n_max), _y(p.n_max / most, 1.0, second)) for p in points]
    expected = [(axis.x(p.n_max), _y(p.expected_n / most, 1.0, second)) for p in points]
    drawing.line(full, "muted", dashed=True)
    drawing.line(expected, "gain", width=2.0)
    for x, y in (*power, *expected):
        drawing.dot(x, y, 3.0, "gain")
    at = axis.x(needed)
    for plot_top, height in (first, second):
        drawing.line([(at, plot_top), (at, plot_top + height)], "ink", opacity=0.6)
    for point in points:
        if point.n_max == needed:
            drawing.dot(at, _y(point.power, 1.0, first), 5.0, "gain", stroke="paper")
            drawing.dot(at, _y(point.expected_n / most, 1.0, second), 5.0, "gain", stroke="paper")
    drawing.text(axis.left, top - 8.0, "Power", size=SMALL_TEXT_SIZE, colour="muted")
    drawing.text(axis.left, second[0] - 8.0, "Episodes of each policy: budget (dashed), expected",
                 size=SMALL_TEXT_SIZE, colour="muted")  # fmt: skip
    end = second[0] + body
    for tick in range(0, int(axis.high) + 1, step):
        drawing.text(axis.x(tick), end + 16.0, str(tick), size=SMALL_TEXT_SIZE, colour="muted",
                     anchor="middle")  # fmt: skip
    drawing.text((axis.left + axis.right) / 2.0, end + 33.0, "budget: episodes of each policy",
                 size=SMALL_TEXT_SIZE, colour="muted", anchor="middle")  # fmt: skip
    return drawing


def _y(value: float, most: float, plot: tuple[float, float]) -> float:
    top, height = plot
    return top + height * (1.0 - value / most)


def _rule(drawing: Drawing, axis: Axis, y: float, label: str) -> None:
    drawing.line([(axis.left, y), (axis.right, y)], "line")
    drawing.text(axis.left - 7.0, y, label, size=SMALL_TEXT_SIZE, colour="muted", anchor="end",
                 centred=True)  # fmt: skip
