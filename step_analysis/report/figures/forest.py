"""Forest plots: differences of success rates with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.report.content import PairRow, PanelContent
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Anchor, Drawing
from step_analysis.report.figures.layout import Axis, Frame, label_room, leading, pair_tip
from step_analysis.report.wording import points, points_range

_STEPS = (0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
_LEAST_REACH = 0.1
_LEAST_ROOM = 70.0
"""Pixels for saying which side is which; with fewer the other side says it."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A difference of `upper` minus `lower`, None where one of them has no counted episode."""

    label: str
    pair: PairRow
    upper: str
    lower: str
    difference: float | None
    interval: tuple[float, float] | None
    where: str
    is_summary: bool = False


def pairs_forest(panel: PanelContent, frame: Frame) -> Drawing:
    """A row a pair, the clearest difference first; each the leader minus the other."""
    rows = []
    for pair in panel.pairs:
        upper, lower, difference, interval = leading(pair)
        rows.append(
            _Row(
                label=f"{upper} − {lower}",
                pair=pair,
                upper=upper,
                lower=lower,
                difference=difference,
                interval=interval,
                where=panel.title,
            )
        )
    rows.sort(key=lambda row: (-(row.difference or 0.0), row.label))
    return _forest(rows, frame)


def tasks_forest(
    panels: Sequence[PanelContent], overall: PanelContent | None, frame: Frame
) -> Drawing:
    """Two policies: a row a task, and what they are together; the overall leader minus the other.

    Each panel has the one pair.
    """
    upper, lower, *_ = leading((overall or panels[0]).pairs[0])
    rows = []
    for panel in [*panels, *([overall] if overall is not None and len(panels) > 1 else [])]:
        pair = panel.pairs[0]
        first, _, difference, interval = leading(pair)
        if first != upper and difference is not None and interval is not None:
            difference, interval = 0.0 - difference, (0.0 - interval[1], 0.0 - interval[0])
        rows.append(
            _Row(
                label=panel.title,
                pair=pair,
                upper=upper,
                lower=lower,
                difference=difference,
                interval=interval,
                where=panel.title,
                is_summary=panel is overall and len(panels) > 1,
            )
        )
    return _forest(rows, frame)


def _forest(rows: Sequence[_Row], frame: Frame) -> Drawing:
    row_height = 38.0 if frame.is_narrow else 22.0 if len(rows) > 8 else 32.0
    label = 4.0 if frame.is_narrow else label_room([row.label for row in rows], 330.0, 11.5)
    beside = 8.0 if frame.is_narrow else 148.0
    head = 26.0
    height = row_height * len(rows)
    drawing = Drawing(width=frame.width, height=head + height + 24.0)
    axis = _axis(rows, label + 8.0, frame.width - beside - 12.0)
    _grid(drawing, axis, head, head + height)
    one_pair = len({(row.upper, row.lower) for row in rows}) == 1
    left_says, right_says = ("second better", "first better")
    if one_pair:
        right_says, left_says = f"{rows[0].upper} better", f"{rows[0].lower} better"
    zero = axis.x(0.0)
    sides: tuple[tuple[str, Anchor, float, float], ...] = (
        (f"{right_says} →", "start", zero + 10.0, frame.width - zero - 12.0),
        (f"← {left_says}", "end", zero - 10.0, zero - 12.0),
    )
    for text, anchor, x, room in sides:
        if room > _LEAST_ROOM:
            drawing.text(x, 13.0, text, size=SMALL_TEXT_SIZE, colour="muted", anchor=anchor,
                         room=room)  # fmt: skip
    for number, row in enumerate(rows):
        top = head + number * row_height
        if row.is_summary:
            drawing.line([(0.0, top), (frame.width, top)], "muted")
        _draw(drawing, row, axis, top, row_height, label, frame)
    return drawing


def _axis(rows: Sequence[_Row], left: float, right: float) -> Axis:
    ends = [end for row in rows if row.interval is not None for end in row.interval]
    low = min([*ends, -_LEAST_REACH])
    high = max([*ends, _LEAST_REACH])
    margin = 0.02 * (high - low)
    return Axis(left=left, right=right, low=low - margin, high=high + margin)


def _grid(drawing: Drawing, axis: Axis, top: float, bottom: float) -> None:
    most = max(3.0, (axis.right - axis.left) / 62.0)
    step = next((s for s in _STEPS if (axis.high - axis.low) / s <= most), _STEPS[-1])
    tick = -(-axis.low // step)
    for number in range(int(tick), int(axis.high // step) + 1):
        value = number * step
        x = axis.x(value)
        drawing.line([(x, top), (x, bottom)], "muted" if number == 0 else "line")
        label = "0" if number == 0 else f"{100.0 * value:+.0f}".replace("-", "−")
        drawing.text(x, bottom + 15.0, label, size=SMALL_TEXT_SIZE, colour="muted",
                     anchor="middle")  # fmt: skip


def _draw(
    drawing: Drawing,
    row: _Row,
    axis: Axis,
    top: float,
    height: float,
    label: float,
    frame: Frame,
) -> None:
    pair = row.pair
    about = frame.about(pair.arm0, pair.arm1)
    weight = "semibold" if row.is_summary else "regular"
    decided = pair.winner is not None
    numbers = "no difference to give"
    if row.difference is not None:
        numbers = f"{points(row.difference)}  {points_range(row.interval)}"
    if frame.is_narrow:
        middle = top + height - 10.0
        # So that the grid does not run through the words.
        drawing.box(0.0, top + 3.0, frame.width, 17.0, "paper")
        room = 0.62 * frame.width
        drawing.text(4.0, top + 15.0, row.label, size=10.5, weight=weight, room=room,
                     policies=about)  # fmt: skip
        drawing.text(frame.width - 6.0, top + 15.0, numbers, size=9.5, colour="muted",
                     anchor="end", policies=about)  # fmt: skip
    else:
        middle = top + height / 2.0
        drawing.text(label - 6.0, middle, row.label, size=11.5, weight=weight, anchor="end",
                     centred=True, room=label - 8.0,
                     colour="ink" if decided else "muted", policies=about)  # fmt: skip
        drawing.text(axis.right + 20.0, middle, numbers, size=SMALL_TEXT_SIZE, weight=weight,
                     colour="ink" if decided else "muted", centred=True,
                     policies=about)  # fmt: skip
    if row.difference is not None and row.interval is not None:
        colour = frame.colour(pair.winner) if pair.winner is not None else "muted"
        ends = [(axis.x(end), middle) for end in row.interval]
        drawing.line(ends, colour, width=2.0, opacity=0.75 if decided else 0.6, policies=about)
        x = axis.x(row.difference)
        if row.is_summary:
            left, right = (x - 7.0, middle), (x + 7.0, middle)
            diamond = [left, (x, middle - 7.0), right, (x, middle + 7.0)]
            drawing.area(diamond, colour, policies=about)
        elif decided:
            drawing.dot(x, middle, 4.2, colour, policies=about)
        else:
            drawing.dot(x, middle, 3.6, "paper", stroke=colour, policies=about)
    tip = pair_tip(pair, row.where, frame.confidence)
    drawing.zone(0.0, top, frame.width, height, tip, policies=about)
