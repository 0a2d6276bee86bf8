"""Pairwise matrices: who is shown better than whom, and by how much."""

from collections.abc import Mapping, Sequence

from step_analysis.report.content import PairRow, PanelContent
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing
from step_analysis.report.figures.layout import Frame, label_room, leading, pair_tip
from step_analysis.report.wording import bare_points

_FULL_COLOUR_AT = 0.5
"""Difference in rates at which a cell has its full colour."""


def matrix_figure(
    panel: PanelContent, task_panels: Sequence[PanelContent], frame: Frame
) -> Drawing:
    """A row a policy, best first: its rate minus the column's, coloured where a test decided.

    Under the difference, over several tasks: how many single tasks it won and lost.
    """
    names = [row.policy for row in panel.rates]
    label = label_room(names, 92.0 if frame.is_narrow else 210.0, _label_size(frame)) + 18.0
    cell = min((frame.width - label - 4.0) / len(names), 60.0 if frame.is_narrow else 84.0)
    cell_height = cell if frame.is_narrow else max(min(cell, 52.0), 34.0)
    head = 22.0
    drawing = Drawing(width=frame.width, height=head + cell_height * len(names) + 30.0)
    pairs = _by_arms(panel.pairs)
    tallies = _tallies(task_panels) if len(panel.tasks) > 1 else {}
    for number, name in enumerate(names):
        about = frame.about(name)
        y = head + cell_height * (number + 0.5)
        drawing.text(14.0, y, str(number + 1), size=_label_size(frame), colour="muted",
                     anchor="end", centred=True, policies=about)  # fmt: skip
        drawing.text(20.0, y, name, size=_label_size(frame), centred=True, room=label - 28.0,
                     policies=about)  # fmt: skip
        drawing.text(label + cell * (number + 0.5), head - 8.0, str(number + 1),
                     size=SMALL_TEXT_SIZE, colour="muted", anchor="middle",
                     policies=about)  # fmt: skip
        for other_number, other in enumerate(names):
            x, top = label + cell * other_number, head + cell_height * number
            if other == name:
                drawing.box(x + 1.0, top + 1.0, cell - 2.0, cell_height - 2.0, "line",
                            opacity=0.35, radius=3.0, policies=about)  # fmt: skip
                continue
            pair = pairs[frozenset((name, other))]
            tally = tallies.get((name, other))
            _cell(drawing, pair, name, tally, (x, top, cell, cell_height), panel.title, frame)
    _key(drawing, label, head + cell_height * len(names) + 20.0, frame)
    return drawing


def task_matrices_figure(
    panels: Sequence[PanelContent], policies: Sequence[str], frame: Frame
) -> Drawing:
    """A small matrix a task, in the same order of policies: colour where a test decided.

    Who was not run on the task has an empty row and column.
    """
    columns = min(len(panels), 2 if frame.is_narrow else 4)
    gap = 22.0
    side = min((frame.width - gap * (columns - 1)) / columns, 211.0)
    cell = side / len(policies)
    block = side + 40.0
    num_rows = -(-len(panels) // columns)
    drawing = Drawing(width=frame.width, height=block * num_rows + 20.0)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = column * (side + gap), row * block + 20.0
        drawing.text(left, top - 7.0, panel.title, size=9.5, weight="semibold", room=side + 14.0)
        drawing.box(left, top, side, side, "line", opacity=0.35, radius=2.0)
        present = {row.policy for row in panel.rates}
        for place, name in enumerate(policies):
            if name not in present:
                drawing.box(left, top + cell * place, side, cell, "paper")
                drawing.box(left + cell * place, top, cell, side, "paper")
        for pair in panel.pairs:
            for name, other in ((pair.arm0, pair.arm1), (pair.arm1, pair.arm0)):
                x = left + cell * policies.index(other)
                y = top + cell * policies.index(name)
                _plain_cell(drawing, pair, name, (x, y, cell), panel.title, frame)
    _key(drawing, 0.0, block * num_rows + 10.0, frame)
    return drawing


def _label_size(frame: Frame) -> float:
    return 9.5 if frame.is_narrow else 12.0


def _by_arms(pairs: Sequence[PairRow]) -> Mapping[frozenset[str], PairRow]:
    return {frozenset((pair.arm0, pair.arm1)): pair for pair in pairs}


def _tallies(panels: Sequence[PanelContent]) -> dict[tuple[str, str], tuple[int, int]]:
    """(won, lost) single tasks of each ordered pair that met on one."""
    tallies: dict[tuple[str, str], tuple[int, int]] = {}
    for panel in panels:
        for pair in panel.pairs:
            for name, other in ((pair.arm0, pair.arm1), (pair.arm1, pair.arm0)):
                won, lost = tallies.get((name, other), (0, 0))
                tallies[name, other] = (won + (pair.winner == name), lost + (pair.winner == other))
    return tallies


def _of(pair: PairRow, name: str) -> float | None:
    """The pair's difference as `name` minus the other."""
    upper, _, difference, _ = leading(pair)
    if difference is None:
        return None
    return difference if upper == name else 0.0 - difference


def _strength(difference: float | None) -> float:
    """Opacity of a decided cell; text in the ink's colour stays readable on the strongest."""
    share = min(abs(difference or 0.0) / _FULL_COLOUR_AT, 1.0)
    return 0.16 + 0.4 * share


def _cell(
    drawing: Drawing,
    pair: PairRow,
    name: str,
    tally: tuple[int, int] | None,
    place: tuple[float, float, float, float],
    where: str,
    frame: Frame,
) -> None:
    x, y, width, height = place
    other = pair.arm0 if name == pair.arm1 else pair.arm1
    about = frame.about(name, other)
    difference = _of(pair, name)
    decided = pair.winner is not None
    if decided:
        drawing.box(x + 1.0, y + 1.0, width - 2.0, height - 2.0,
                    "gain" if pair.winner == name else "loss", radius=3.0,
                    opacity=_strength(difference), policies=about)  # fmt: skip
    else:
        drawing.box(x + 1.0, y + 1.0, width - 2.0, height - 2.0, "wash", radius=3.0,
                    policies=about)  # fmt: skip
    small = width < 36.0
    middle, centre = x + width / 2.0, y + height / 2.0
    colour = "ink" if decided else "muted"
    show_tally = tally is not None and not small
    text = bare_points(difference, decimals=0 if small else 1)
    drawing.text(middle, centre - (6.0 if show_tally else 0.0), text, anchor="middle",
                 size=min(7.8 if width < 21.0 else 9.0, 0.4 * width) if small else 12.0,
                 weight="semibold" if decided else "regular", colour=colour, centred=True,
                 policies=about)  # fmt: skip
    if show_tally and tally is not None:
        drawing.text(middle, centre + 9.0, f"{tally[0]} : {tally[1]}", size=9.5, anchor="middle",
                     colour=colour, centred=True, policies=about)  # fmt: skip
    tip = pair_tip(pair, where, frame.confidence)
    if tally is not None:
        tip += f"\nsingle tasks: {name} better in {tally[0]}, {other} in {tally[1]}"
    drawing.zone(x, y, width, height, tip, policies=about)


def _plain_cell(
    drawing: Drawing,
    pair: PairRow,
    name: str,
    place: tuple[float, float, float],
    where: str,
    frame: Frame,
) -> None:
    x, y, side = place
    about = frame.about(pair.arm0, pair.arm1)
    # On a phone these cells are smaller than a fingertip.
    tip = None if frame.is_narrow else pair_tip(pair, where, frame.confidence)
    if pair.winner is not None:
        drawing.box(x + 0.4, y + 0.4, side - 0.8, side - 0.8,
                    "gain" if pair.winner == name else "loss",
                    opacity=_strength(_of(pair, name)), tip=tip, policies=about)  # fmt: skip
    elif tip is not None:
        drawing.zone(x, y, side, side, tip, policies=about)


def _key(drawing: Drawing, left: float, y: float, frame: Frame) -> None:
    size = 9.5 if frame.is_narrow else SMALL_TEXT_SIZE
    x = left if not frame.is_narrow else 4.0
    for colour, text in (("gain", "row better"), ("loss", "row worse"), ("line", "undecided")):
        opacity = 0.35 if colour == "line" else 0.56
        drawing.box(x, y - 5.0, 10.0, 10.0, colour, opacity=opacity, radius=2.0)
        drawing.text(x + 15.0, y, text, size=size, colour="muted", centred=True)
        x += label_room([text], 200.0, size) + 22.0
