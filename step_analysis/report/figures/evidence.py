"""The sequential path of each pair against the boundary where its test stops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from step_analysis.comparison import PairResult
from step_analysis.report.content import PairRow, PanelContent
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing, Point
from step_analysis.report.figures.layout import Axis, Frame, leading, pair_tip

_LEAST_LEAD_SHOWN = 6.0
_EARLY = 0.2
"""A verdict before this part of the budget ends its plot at `_AFTER_EARLY` times its episode."""
_AFTER_EARLY = 3.0
_APART_DETAILED = 0.5
"""Pixels between points that are drawn of a path; these three keep the page small."""
_APART = 1.2
_APART_NARROW = 2.0
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True, kw_only=True)
class PairPath:
    """A pair's path as it is drawn: the lead of `upper` over `lower`, in successes."""

    row: PairRow
    upper: str
    lower: str
    lead: np.ndarray
    """After t episodes of each, t = 0, 1, ..."""
    upper_stops: np.ndarray | None
    """The lead that would decide for `upper` after t = 1, 2, ...; NaN where none would."""
    lower_stops: np.ndarray | None
    """The lead, negative here, that would decide for `lower`."""


def pair_path(pair: PairResult, row: PairRow) -> PairPath:
    """What is drawn of a test that looked at the pair's outcomes."""
    upper, lower, *_ = leading(row)
    sign = 1.0 if upper == pair.arm1 else -1.0
    difference = np.array(pair.outcomes1, dtype=float) - np.array(pair.outcomes0, dtype=float)
    stops = pair.test.leads_to_stop(pair.outcomes0, pair.outcomes1)
    for_upper = for_lower = None
    if stops is not None:
        # They are given for arm 1, then for arm 0.
        for_upper, for_lower = stops if sign > 0.0 else stops[::-1]
        for_lower = -for_lower
    return PairPath(
        row=row,
        upper=upper,
        lower=lower,
        lead=sign * np.concatenate([[0.0], np.cumsum(difference)]),
        upper_stops=for_upper,
        lower_stops=for_lower,
    )


def evidence_figure(paths: Sequence[PairPath], panel: PanelContent, frame: Frame) -> Drawing:
    """A plot a pair, in the order of its policies' rates."""
    place = {row.policy: number for number, row in enumerate(panel.rates)}
    ordered = sorted(paths, key=lambda path: sorted((place[path.upper], place[path.lower])))
    columns = _columns(len(ordered), frame)
    gap = 26.0 if columns < 4 else 18.0
    width = (frame.width - gap * (columns - 1)) / columns
    detailed = width > 260.0
    left = 40.0 if detailed else 26.0
    top, bottom = (52.0, 42.0) if detailed else (34.0, 22.0)
    body = {1: 230.0, 2: 170.0}.get(columns, 84.0)
    if frame.is_narrow:
        body = 200.0 if columns == 1 else 84.0
    height = top + body + bottom
    num_rows = -(-len(ordered) // columns)
    drawing = Drawing(width=frame.width, height=num_rows * height)
    for number, path in enumerate(ordered):
        row, column = divmod(number, columns)
        x, y = column * (width + gap), row * height
        axis = Axis(left=x + left, right=x + width - 14.0, high=_last_time(path))
        _plot(drawing, path, axis, (y + top, body), panel.title, frame, detailed=detailed)
    return drawing


def _columns(num_pairs: int, frame: Frame) -> int:
    if num_pairs == 1:
        return 1
    if num_pairs <= 6:
        return 1 if frame.is_narrow else 2
    return 2 if frame.is_narrow else 5


def _last_time(path: PairPath) -> float:
    row = path.row
    if row.winner is not None and row.time < _EARLY * row.n_max:
        return max(_AFTER_EARLY * row.time, 10.0)
    return float(row.n_max)


def _plot(
    drawing: Drawing,
    path: PairPath,
    axis: Axis,
    body: tuple[float, float],
    where: str,
    frame: Frame,
    *,
    detailed: bool,
) -> None:
    top, height = body
    bottom = top + height
    about = frame.about(path.upper, path.lower)
    high, low = _reach(path, axis)

    def y(lead: float) -> float:
        return top + height * (high - lead) / (high - low)

    _titles(drawing, path, axis, top, frame, detailed=detailed)
    _grid(drawing, axis, (top, bottom), (low, high), detailed=detailed)
    apart_pixels = _APART_DETAILED if detailed else _APART_NARROW if frame.is_narrow else _APART
    for stops, policy, edge in (
        (path.upper_stops, path.upper, high),
        (path.lower_stops, path.lower, low),
    ):
        if stops is not None:
            # A boundary is smooth beside the path.
            apart_border = apart_pixels if detailed else 4.0 * apart_pixels
            for run in _stopping_runs(stops, edge, axis, apart_pixels=apart_border):
                border = [(axis.x(t), y(lead)) for t, lead in run]
                ends = [(border[-1][0], y(edge)), (border[0][0], y(edge))]
                colour = frame.colour(policy)
                drawing.area([*border, *ends], colour, opacity=0.15, policies=about)
                drawing.line(border, colour, width=1.0, opacity=0.8, policies=about)
    decided = path.row.time if path.row.winner is not None else len(path.lead) - 1
    num_shown = min(len(path.lead), int(axis.high) + 1)
    times = _kept_times(num_shown, axis, apart_pixels=apart_pixels)
    route = [(axis.x(t), y(float(path.lead[t]))) for t in times]
    split = axis.x(decided) + 1e-6
    drawing.line([p for p in route if p[0] >= split - 1.5], "muted", opacity=0.55, policies=about)
    end = (axis.x(decided), y(float(path.lead[decided])))
    seen = [*(p for p in route if p[0] < split), end]
    drawing.line(seen, "ink", width=1.7 if detailed else 1.3, policies=about)
    if path.row.winner is not None:
        colour = frame.colour(path.row.winner)
        drawing.dot(*end, 4.5 if detailed else 3.0, colour, stroke="paper", policies=about)
        if detailed:
            right_half = decided > 0.6 * axis.high
            drawing.text(
                end[0] + (-10.0 if right_half else 10.0),
                end[1] + (16.0 if path.row.winner == path.upper else -9.0),
                f"decided after {decided}",
                weight="semibold",
                anchor="end" if right_half else "start",
                policies=about,
            )
    tip = pair_tip(path.row, where, frame.confidence)
    drawing.zone(axis.left, top, axis.right - axis.left, height, tip, policies=about)


def _titles(
    drawing: Drawing, path: PairPath, axis: Axis, top: float, frame: Frame, *, detailed: bool
) -> None:
    size = 12.0 if detailed else 9.5
    x, room = axis.left - (0.0 if detailed else 22.0), axis.right - axis.left
    room += 0.0 if detailed else 22.0
    about = frame.about(path.upper, path.lower)
    lines = ((path.upper, -1.0, top - 1.9 * size), (path.lower, 1.0, top - 0.55 * size))
    for policy, up, y in lines:
        colour = frame.colour(policy)
        middle = y - 0.36 * size
        half = 0.3 * size
        drawing.area(
            [(x, middle - up * half), (x + 2.0 * half, middle - up * half),
             (x + half, middle + up * half)],
            colour,
            policies=about,
        )  # fmt: skip
        text = f"{policy} better" if detailed else policy
        drawing.text(x + 3.2 * half, y, text, size=size, weight="semibold", room=room - 4.0 * half,
                     policies=about)  # fmt: skip


def _grid(
    drawing: Drawing,
    axis: Axis,
    vertical: tuple[float, float],
    leads: tuple[float, float],
    *,
    detailed: bool,
) -> None:
    (top, bottom), (low, high) = vertical, leads
    size = SMALL_TEXT_SIZE if detailed else 8.5
    step = next((s for s in _TICKS if (high - low) / s <= (6 if detailed else 4)), _TICKS[-1])
    for number in range(-int(-low // step), int(high // step) + 1):
        y = top + (bottom - top) * (high - number * step) / (high - low)
        drawing.line([(axis.left, y), (axis.right, y)], "muted" if number == 0 else "line",
                     opacity=0.7 if number == 0 else 1.0)  # fmt: skip
        label = f"{abs(number * step)}"
        drawing.text(axis.left - 6.0, y, label, size=size, colour="muted", anchor="end",
                     centred=True)  # fmt: skip
    span = axis.high
    across = next((s for s in _TICKS if span / s <= (8 if detailed else 4)), _TICKS[-1])
    for tick in range(0, int(span) + 1, across):
        drawing.text(axis.x(tick), bottom + 5.0 + size, str(tick), size=size, colour="muted",
                     anchor="middle")  # fmt: skip
    if detailed:
        drawing.text((axis.left + axis.right) / 2.0, bottom + 33.0, "episodes of each policy",
                     size=size, colour="muted", anchor="middle")  # fmt: skip
        drawing.text(axis.left - 30.0, (top + bottom) / 2.0, "lead in successes", size=size,
                     colour="muted", anchor="middle", turn_degrees=90.0)  # fmt: skip


def _reach(path: PairPath, axis: Axis) -> tuple[float, float]:
    """The highest and lowest lead to show: of the path and of where the test stops."""
    num_shown = int(axis.high)
    lead = path.lead[: num_shown + 1]
    high, low = float(lead.max()), float(lead.min())
    for stops in (path.upper_stops, path.lower_stops):
        if stops is not None:
            known = stops[:num_shown][np.isfinite(stops[:num_shown])]
            if len(known):
                high, low = max(high, float(known[-1])), min(low, float(known[-1]))
    high, low = 1.08 * high + 1.0, 1.08 * low - 1.0
    return max(high, _LEAST_LEAD_SHOWN), min(low, -_LEAST_LEAD_SHOWN)


def _kept_times(num_times: int, axis: Axis, *, apart_pixels: float) -> list[int]:
    """Every time, or fewer where they would lie closer than this."""
    most = 2 + int((axis.x(num_times - 1) - axis.left) / apart_pixels)
    if num_times <= most:
        return list(range(num_times))
    return np.unique(np.linspace(0, num_times - 1, most).round().astype(int)).tolist()


def _stopping_runs(
    stops: np.ndarray, edge: float, axis: Axis, *, apart_pixels: float
) -> Sequence[Sequence[Point]]:
    """(time, lead) along each stretch where the test can stop within the plot."""
    runs: list[list[Point]] = []
    run: list[Point] = []
    num_shown = min(len(stops), int(axis.high))
    for t in _kept_times(num_shown, axis, apart_pixels=apart_pixels):
        lead = float(stops[t])
        # Beyond the plot's edge the region must not turn to its other side.
        if np.isnan(lead) or abs(lead) > abs(edge):
            if run:
                runs.append(run)
            run = []
        else:
            run.append((float(t + 1), lead))
    runs.append(run)
    return [run for run in runs if len(run) > 1]


def paths_of(
    pairs: Sequence[PairResult], rows: Mapping[tuple[str, str], PairRow]
) -> list[PairPath]:
    """The paths of all pairs that have an episode to look at."""
    return [pair_path(p, rows[p.arm0, p.arm1]) for p in pairs if p.num_available]
