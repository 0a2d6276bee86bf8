"""Spiders: each policy's rates around a circle of tasks."""

import math
from collections.abc import Sequence

from step_analysis.report.content import PanelContent, RateRow
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing, Point
from step_analysis.report.figures.layout import Frame, rate_tip

MAX_POLICIES_TOGETHER = 4
"""Up to so many lie on one spider; more get one each, over the best of each task."""

_RINGS = (0.25, 0.5, 0.75, 1.0)


def spider_figure(panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame) -> Drawing:
    """`policies` in the order of drawing, the best first; at least three panels."""
    if len(policies) <= MAX_POLICIES_TOGETHER:
        return _together(panels, policies, frame)
    return _small_multiples(panels, policies, frame)


def _together(panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame) -> Drawing:
    radius = 118.0 if frame.is_narrow else 190.0
    key = 22.0 * len(policies) + 10.0
    head = key + 26.0
    tasks_key = 16.0 * len(panels) + 16.0 if frame.is_narrow else 0.0
    drawing = Drawing(width=frame.width, height=head + 2.0 * radius + 36.0 + tasks_key)
    centre = (frame.width / 2.0, head + radius)
    for number, policy in enumerate(policies):
        y = 14.0 + 22.0 * number
        about = frame.about(policy)
        drawing.dot(10.0, y - 4.0, 4.5, frame.colour(policy), policies=about)
        drawing.text(22.0, y, policy, room=frame.width - 30.0, policies=about)
    _web(drawing, centre, radius, len(panels), labels=True)
    for number, panel in enumerate(panels):
        x, y = _place(centre, radius + 14.0, number, len(panels))
        across = (x - centre[0]) / radius
        anchor = "middle" if abs(across) < 0.15 else "start" if across > 0.0 else "end"
        text = str(number + 1) if frame.is_narrow else panel.title
        room = 30.0 if frame.is_narrow else _room(x, anchor, frame.width)
        drawing.text(x, y, text, size=11.0, anchor=anchor, centred=True, room=room)
    for policy in reversed(policies):
        _shape(drawing, panels, policy, centre, radius, frame, filled=0.12, dots=3.4)
    _zones(drawing, panels, policies, centre, radius, frame)
    if frame.is_narrow:
        _task_key(drawing, panels, head + 2.0 * radius + 40.0, 1, frame)
    return drawing


def _room(x: float, anchor: str, width: float) -> float:
    return {"start": width - x - 4.0, "end": x - 4.0}.get(anchor, 240.0)


def _small_multiples(
    panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame
) -> Drawing:
    columns = 2 if frame.is_narrow else 4
    each = frame.width / columns
    radius = each / 2.0 - 28.0
    block = 2.0 * radius + 78.0
    num_rows = -(-len(policies) // columns)
    key_columns = 1 if frame.is_narrow else 3
    key = 16.0 * -(-len(panels) // key_columns) + 20.0
    drawing = Drawing(width=frame.width, height=num_rows * block + key)
    best = _best(panels)
    for number, policy in enumerate(policies):
        row, column = divmod(number, columns)
        centre = (each * (column + 0.5), row * block + 46.0 + radius)
        drawing.text(centre[0], row * block + 16.0, policy, size=11.5, weight="semibold",
                     anchor="middle", room=each - 8.0, policies=frame.about(policy))  # fmt: skip
        _web(drawing, centre, radius, len(panels), labels=False)
        outline = [
            _place(centre, radius * rate, spoke, len(panels)) for spoke, rate in enumerate(best)
        ]
        drawing.line([*outline, outline[0]], "muted", dashed=True, opacity=0.8)
        for spoke in range(len(panels)):
            x, y = _place(centre, radius + 10.0, spoke, len(panels))
            drawing.text(x, y, str(spoke + 1), size=8.5, colour="muted", anchor="middle",
                         centred=True)  # fmt: skip
        _shape(drawing, panels, policy, centre, radius, frame, filled=0.28, dots=2.6)
        _zones(drawing, panels, [policy], centre, radius, frame)
    _task_key(drawing, panels, num_rows * block + 12.0, key_columns, frame)
    return drawing


def _task_key(
    drawing: Drawing, panels: Sequence[PanelContent], top: float, columns: int, frame: Frame
) -> None:
    each = frame.width / columns
    per_column = -(-len(panels) // columns)
    for number, panel in enumerate(panels):
        column, row = divmod(number, per_column)
        x, y = column * each, top + 16.0 * row
        drawing.text(x + 18.0, y, str(number + 1), size=SMALL_TEXT_SIZE, colour="muted",
                     anchor="end")  # fmt: skip
        drawing.text(x + 26.0, y, panel.title, size=SMALL_TEXT_SIZE, room=each - 32.0)


def _best(panels: Sequence[PanelContent]) -> list[float]:
    return [max((row.rate or 0.0 for row in panel.rates), default=0.0) for panel in panels]


def _web(drawing: Drawing, centre: Point, radius: float, num_spokes: int, *, labels: bool) -> None:
    for ring in _RINGS:
        corners = [_place(centre, radius * ring, spoke, num_spokes) for spoke in range(num_spokes)]
        drawing.line([*corners, corners[0]], "line")
    # One line out and back along each spoke: a spider may have many.
    ends = [_place(centre, radius, spoke, num_spokes) for spoke in range(num_spokes)]
    drawing.line([point for end in ends for point in (centre, end)], "line")
    if labels:
        for ring in _RINGS[:-1]:
            drawing.text(centre[0] + 4.0, centre[1] - radius * ring + 3.5, f"{100 * ring:.0f} %",
                         size=9.0, colour="muted")  # fmt: skip


def _place(centre: Point, radius: float, spoke: int, num_spokes: int) -> Point:
    """On a spoke; they go clockwise from the top."""
    angle = 2.0 * math.pi * spoke / num_spokes
    return centre[0] + radius * math.sin(angle), centre[1] - radius * math.cos(angle)


def _rates(panels: Sequence[PanelContent], policy: str) -> list[RateRow | None]:
    by_task = [{row.policy: row for row in panel.rates} for panel in panels]
    return [rows.get(policy) for rows in by_task]


def _shape(
    drawing: Drawing,
    panels: Sequence[PanelContent],
    policy: str,
    centre: Point,
    radius: float,
    frame: Frame,
    *,
    filled: float,
    dots: float,
) -> None:
    colour, about = frame.colour(policy), frame.about(policy)
    places: list[Point | None] = [
        None if row is None or row.rate is None
        else _place(centre, radius * row.rate, spoke, len(panels))
        for spoke, row in enumerate(_rates(panels, policy))
    ]  # fmt: skip
    known = [place for place in places if place is not None]
    if len(known) == len(places):
        drawing.area(known, colour, opacity=filled, policies=about)
        drawing.line([*known, known[0]], colour, width=1.8, policies=about)
    else:
        # A task that was not run leaves its two sides open.
        for run in _runs(places):
            drawing.line(run, colour, width=1.8, round_ends=True, policies=about)
    for place in known:
        drawing.dot(*place, dots, colour, policies=about)


def _runs(places: Sequence[Point | None]) -> list[list[Point]]:
    """The stretches of neighbouring places that are known, around the circle; one is not."""
    gap = places.index(None)
    runs: list[list[Point]] = [[]]
    for place in [*places[gap:], *places[:gap]]:
        if place is None:
            runs.append([])
        else:
            runs[-1].append(place)
    return runs


def _zones(
    drawing: Drawing,
    panels: Sequence[PanelContent],
    policies: Sequence[str],
    centre: Point,
    radius: float,
    frame: Frame,
) -> None:
    reach = 7.0
    for policy in reversed(policies):
        for spoke, row in enumerate(_rates(panels, policy)):
            if row is not None and row.rate is not None:
                x, y = _place(centre, radius * row.rate, spoke, len(panels))
                tip = rate_tip(row, panels[spoke].title, frame.confidence)
                drawing.zone(x - reach, y - reach, 2.0 * reach, 2.0 * reach, tip,
                             policies=frame.about(policy))  # fmt: skip
