"""Throughput and the server's load against the number of simulators."""

from __future__ import annotations

from sim_client.capacity.farm import Farm
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import WIDE_PIXELS, Axis

_TOP, _BODY, _BETWEEN, _BOTTOM = 40.0, 210.0, 46.0, 44.0
_MOST_TICKS = 6


def farm_figure(farm: Farm, *, title: str) -> Drawing:
    """Two plots over one axis of simulators: episodes an hour, the server's load."""
    drawing = Drawing(width=WIDE_PIXELS, height=_TOP + 2.0 * _BODY + _BETWEEN + _BOTTOM)
    most = farm.choices[-1].num_simulators
    axis = Axis(left=70.0, right=WIDE_PIXELS - 20.0, low=0.0, high=1.04 * most)
    drawing.text(6.0, 16.0, title, size=13.0, weight="semibold", room=WIDE_PIXELS - 12.0)
    first_top, second_top = _TOP, _TOP + _BODY + _BETWEEN
    rates = [(c.num_simulators, c.throughput.episodes_per_hour) for c in farm.choices]
    highest = 1.08 * max(rate for _, rate in rates)
    for tick in _ticks(highest):
        _rule(drawing, axis, _y(tick / highest, first_top), f"{tick:g}")
    alone = farm.most_episodes_per_hour / farm.saturation
    # Both bounds, as far as the plot reaches.
    to = min(axis.high, highest / alone)
    drawing.line(
        [(axis.x(0.0), _y(0.0, first_top)), (axis.x(to), _y(to * alone / highest, first_top))],
        "muted",
        dashed=True,
    )
    if farm.most_episodes_per_hour <= highest:
        y = _y(farm.most_episodes_per_hour / highest, first_top)
        drawing.line([(axis.left, y), (axis.right, y)], "muted", dashed=True)
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        _rule(drawing, axis, _y(tick, second_top), f"{100.0 * tick:.0f} %")
    curves = (
        [(axis.x(n), _y(rate / highest, first_top)) for n, rate in rates],
        [
            (axis.x(c.num_simulators), _y(c.throughput.server_busy, second_top))
            for c in farm.choices
        ],
    )
    at = axis.x(farm.right.num_simulators)
    for points, top in zip(curves, (first_top, second_top), strict=True):
        drawing.line(points, "gain", width=2.0)
        for x, y in points:
            drawing.dot(x, y, 3.0, "gain")
        drawing.line([(at, top), (at, top + _BODY)], "ink", opacity=0.6)
    for top, text in (
        (first_top, "Episodes an hour; dashed, no queue and the server's limit"),
        (second_top, "Share of time that the server is in a forward pass"),
    ):
        drawing.text(axis.left, top - 8.0, text, size=SMALL_TEXT_SIZE, colour="muted")
    end = second_top + _BODY
    for tick in _ticks(axis.high):
        drawing.text(axis.x(tick), end + 16.0, f"{tick:g}", size=SMALL_TEXT_SIZE, colour="muted",
                     anchor="middle")  # fmt: skip
    drawing.text((axis.left + axis.right) / 2.0, end + 33.0, "simulators of one server",
                 size=SMALL_TEXT_SIZE, colour="muted", anchor="middle")  # fmt: skip
    return drawing


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 up to `most`, of 1, 2 or 5 times a power of ten apart."""
    step = 1.0
    while most / step < _MOST_TICKS / 10:
        step /= 10.0
    while True:
        for factor in (1.0, 2.0, 5.0):
            if most / (factor * step) <= _MOST_TICKS:
                size = factor * step
                return [size * number for number in range(int(most / size) + 1)]
        step *= 10.0


def _y(share: float, top: float) -> float:
    return top + _BODY * (1.0 - share)


def _rule(drawing: Drawing, axis: Axis, y: float, label: str) -> None:
    drawing.line([(axis.left, y), (axis.right, y)], "line")
    drawing.text(axis.left - 7.0, y, label, size=SMALL_TEXT_SIZE, colour="muted", anchor="end",
                 centred=True)  # fmt: skip
