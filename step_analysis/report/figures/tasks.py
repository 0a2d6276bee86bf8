"""Success by task: every policy's rate with its interval."""

from collections.abc import Sequence

from step_analysis.report.content import PanelContent, RateRow
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Axis, Frame, draw_rate_grid, label_room, rate_tip

MAX_POLICIES_TOGETHER = 3
"""Up to so many share a row of the task; more get a small plot each task, a row each policy."""

_LINE = 15.0
_GAP = 42.0
_INTO_GAP = 36.0
"""A title may go on above the gap: tasks' names are long and differ late."""
_TITLE = 24.0
_UNDER = 22.0


def tasks_figure(panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame) -> Drawing:
    """`policies` in the order of their rows, the best first."""
    if len(policies) <= MAX_POLICIES_TOGETHER:
        return _together(panels, policies, frame)
    return _small_multiples(panels, policies, frame)


def _together(panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame) -> Drawing:
    spacing = 15.0
    above = 20.0 if frame.is_narrow else 0.0
    row_height = spacing * len(policies) + (16.0 if frame.is_narrow else 20.0) + above
    titles = [panel.title for panel in panels]
    label = 6.0 if frame.is_narrow else label_room(titles, 280.0)
    key_height = 30.0 if len(policies) > 1 else 6.0
    if frame.is_narrow and len(policies) > 1:
        key_height = 20.0 * len(policies) + 8.0
    height = row_height * len(panels)
    drawing = Drawing(width=frame.width, height=key_height + height + 24.0)
    axis = Axis(left=label + 6.0, right=frame.width - 18.0)
    if len(policies) > 1:
        _key(drawing, policies, axis.left, frame)
    draw_rate_grid(drawing, axis, key_height, key_height + height)
    for number, panel in enumerate(panels):
        begin = key_height + number * row_height
        if number:
            drawing.line([(0.0, begin), (axis.right, begin)], "line")
        if frame.is_narrow:
            drawing.text(6.0, begin + 18.0, panel.title, room=frame.width - 12.0)
        else:
            middle = begin + row_height / 2.0
            drawing.text(label - 6.0, middle, panel.title, anchor="end", centred=True,
                         room=label - 8.0)  # fmt: skip
        rows = {row.policy: row for row in panel.rates}
        first = begin + above + (row_height - above - spacing * (len(policies) - 1)) / 2.0
        for place, policy in enumerate(policies):
            _rate(drawing, rows.get(policy), axis, first + spacing * place, spacing, panel, frame)
    return drawing


def _key(drawing: Drawing, policies: Sequence[str], left: float, frame: Frame) -> None:
    x, y = left, 12.0
    for policy in policies:
        about = frame.about(policy)
        drawing.dot(x + 4.0, y - 4.0, 4.0, frame.colour(policy), policies=about)
        room = frame.width - 40.0 if frame.is_narrow else (frame.width - left) / len(policies) - 30
        drawing.text(x + 14.0, y, policy, room=room, policies=about)
        if frame.is_narrow:
            y += 20.0
        else:
            x += label_room([policy], room) + 20.0


def _small_multiples(
    panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame
) -> Drawing:
    columns = 1 if frame.is_narrow else min(3, len(panels))
    gap = _GAP
    label = label_room(policies, 120.0 if frame.is_narrow else 190.0, SMALL_TEXT_SIZE)
    each = (frame.width - label - 16.0 - gap * (columns - 1)) / columns
    body = _LINE * len(policies)
    block = _TITLE + body + _UNDER + 14.0
    num_rows = -(-len(panels) // columns)
    drawing = Drawing(width=frame.width, height=block * num_rows)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left = label + column * (each + gap)
        top = row * block + _TITLE
        axis = Axis(left=left, right=left + each)
        drawing.text(
            left,
            top - 9.0,
            panel.title,
            size=10.0,
            weight="semibold",
            room=min(each + _INTO_GAP, frame.width - left),
        )
        draw_rate_grid(drawing, axis, top, top + body)
        rates = {rate.policy: rate for rate in panel.rates}
        for place, policy in enumerate(policies):
            y = top + _LINE * (place + 0.5)
            if column == 0:
                drawing.text(label - 12.0, y, policy, size=SMALL_TEXT_SIZE, anchor="end",
                             centred=True, room=label - 12.0,
                             policies=frame.about(policy))  # fmt: skip
            _rate(drawing, rates.get(policy), axis, y, _LINE, panel, frame)
    return drawing


def _rate(
    drawing: Drawing,
    row: RateRow | None,
    axis: Axis,
    y: float,
    line: float,
    panel: PanelContent,
    frame: Frame,
) -> None:
    if row is None:
        drawing.text(axis.left + 6.0, y, "not run", size=9.5, colour="muted", centred=True)
        return
    about, colour = frame.about(row.policy), frame.colour(row.policy)
    if row.rate is None or row.clopper_pearson is None:
        drawing.text(axis.left + 6.0, y, "no counted episode", size=9.5, colour="muted",
                     centred=True, policies=about)  # fmt: skip
    else:
        ends = [(axis.x(end), y) for end in row.clopper_pearson]
        drawing.line(ends, colour, width=2.5, opacity=0.45, policies=about)
        drawing.dot(axis.x(row.rate), y, 3.6, colour, policies=about)
    tip = rate_tip(row, panel.title, frame.confidence)
    width = axis.right - axis.left
    drawing.zone(axis.left, y - line / 2.0, width, line, tip, policies=about)
