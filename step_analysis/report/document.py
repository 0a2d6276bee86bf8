"""A report as a PDF to print or to attach: the same content set on pages of A4."""

from collections.abc import Mapping, Sequence

from step_analysis.report.caveats import caveats
from step_analysis.report.content import PanelContent, ReportContent
from step_analysis.report.drawing import Drawing
from step_analysis.report.gallery import Figure
from step_analysis.report.method_notes import method_notes
from step_analysis.report.pdf import Placed, Sheet, pdf_document
from step_analysis.report.typeface import Weight, typeface
from step_analysis.report.wording import percent, range_text

_WIDTH, _HEIGHT = 793.7, 1122.5
"""A4 in pixels, 96 an inch."""
_MARGIN = 56.0
_LINE = 1.4
"""Of the text's size."""
_CELL_GAP = 14.0


def pdf_report(content: ReportContent, figures: Mapping[str, Figure]) -> bytes:
    """Verdict, caveats, tables, figures, method and how to make it again."""
    pages = _Pages()
    pages.text(content.title, size=22.0, weight="semibold")
    pages.text(content.headline, size=13.0, weight="semibold")
    pages.text(f"Made {content.created_at}.", size=9.5, colour="muted")
    pages.heading("Caveats")
    for each in caveats(content):
        pages.text(f"{each.about}: {each.text}", size=10.5)
    for panel in content.panels:
        _panel(pages, panel, content)
        if panel.is_overall:
            _figures(pages, figures, ("posteriors", "matrix", "forest", "evidence"))
    _figures(pages, figures, ("tasks", "spider", "matrix-by-task"))
    if content.errors:
        pages.heading("Errors, not counted")
        pages.table(
            ["Policy", "Task", "Scenario", "Attempts", "Message"],
            [
                [e.policy, e.task, str(e.scenario_index), str(e.attempt), e.message]
                for e in content.errors
            ],
        )
    pages.heading("Design and provenance")
    for fact in content.shared_facts:
        pages.text(f"{fact.label}: {fact.value}", size=9.5)
    for entry in content.provenance:
        facts = "; ".join(f"{fact.label}: {fact.value}" for fact in entry.facts)
        pages.text(f"{entry.policy}: {facts}; read from {entry.source}", size=9.5)
    pages.heading("How this was worked out")
    for note in method_notes(content):
        pages.text(f"{note.heading}. {note.text}", size=9.5)
    pages.text(f"To reproduce this report: {content.command}", size=9.5)
    software = ", ".join(f"{name} {version}" for name, version in content.software)
    pages.text(f"Made with {software}.", size=9.5, colour="muted")
    return pdf_document(pages.sheets(), "light", content.title)


def _panel(pages: "_Pages", panel: PanelContent, content: ReportContent) -> None:
    pages.heading(panel.title)
    level = percent(content.confidence)
    pages.table(
        ["Policy", "Successes", "Rate", f"Clopper-Pearson {level}", "Letters", "Errors", "Missing"],
        [
            [
                row.policy,
                f"{row.successes}/{row.num_counted}",
                "\u2013" if row.rate is None else percent(row.rate),
                range_text(row.clopper_pearson),
                row.letters,
                str(row.num_errors),
                str(row.num_missing),
            ]
            for row in panel.rates
        ],
    )
    for pair in panel.pairs:
        pages.text(pair.sentence, size=10.5)


def _figures(pages: "_Pages", figures: Mapping[str, Figure], names: Sequence[str]) -> None:
    for name in names:
        if name in figures:
            pages.figure(figures[name].wide, figures[name].description)


class _Pages:
    """Sets one thing below the other, and begins a page where the next does not fit."""

    def __init__(self) -> None:
        self._pages: list[tuple[Drawing, list[Placed]]] = []
        self._y = 0.0
        self._begin()

    def _begin(self) -> None:
        self._pages.append((Drawing(width=_WIDTH, height=_HEIGHT), []))
        self._y = _MARGIN

    def _room(self, height: float) -> None:
        if self._y + height > _HEIGHT - _MARGIN and self._y > _MARGIN:
            self._begin()

    def sheets(self) -> list[Sheet]:
        """The pages, numbered."""
        sheets = []
        for number, (drawing, placed) in enumerate(self._pages, start=1):
            drawing.text(
                _WIDTH / 2.0,
                _HEIGHT - 0.5 * _MARGIN,
                f"{number} of {len(self._pages)}",
                size=9.0,
                colour="muted",
                anchor="middle",
            )
            sheets.append(
                Sheet(width=_WIDTH, height=_HEIGHT, placed=[Placed(drawing=drawing), *placed])
            )
        return sheets

    def heading(self, text: str) -> None:
        # With some lines below it, so that none stands alone at a page's end.
        self._room(110.0)
        self._y += 12.0
        self.text(text, size=15.0, weight="semibold")

    def text(
        self, text: str, *, size: float, weight: Weight = "regular", colour: str = "ink"
    ) -> None:
        for line in _wrapped(text, size, weight, _WIDTH - 2.0 * _MARGIN):
            self._room(_LINE * size)
            self._y += _LINE * size
            drawing, _ = self._pages[-1]
            drawing.text(_MARGIN, self._y, line, size=size, weight=weight, colour=colour)
        self._y += 0.5 * size

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        size = 9.5
        face = typeface("regular")
        widths = [
            max(face.width(cell, size) for cell in column) + _CELL_GAP
            for column in zip(heads, *rows, strict=True)
        ]
        excess = sum(widths) - (_WIDTH - 2.0 * _MARGIN)
        if excess > 0.0:
            # The widest gives way: names and messages, which are shortened in the middle.
            widest = widths.index(max(widths))
            widths[widest] = max(widths[widest] - excess, 60.0)
        for number, row in enumerate((heads, *rows)):
            self._room(1.6 * size)
            self._y += 1.6 * size
            drawing, _ = self._pages[-1]
            x = _MARGIN
            for cell, width in zip(row, widths, strict=True):
                drawing.text(
                    x,
                    self._y,
                    cell,
                    size=size,
                    weight="regular" if number else "semibold",
                    room=width - 4.0,
                )
                x += width
            end = min(x, _WIDTH - _MARGIN)
            drawing.line([(_MARGIN, self._y + 4.0), (end, self._y + 4.0)], "line")
        self._y += 10.0

    def figure(self, drawing: Drawing, description: str) -> None:
        body = _HEIGHT - 2.0 * _MARGIN
        caption = 60.0
        scale = min(
            (_WIDTH - 2.0 * _MARGIN) / drawing.width, (body - caption) / drawing.height, 1.0
        )
        self._room(scale * drawing.height + caption)
        _, placed = self._pages[-1]
        placed.append(Placed(drawing=drawing, x=_MARGIN, y=self._y + 8.0, scale=scale))
        self._y += scale * drawing.height + 12.0
        self.text(description, size=9.0, colour="muted")


def _wrapped(text: str, size: float, weight: Weight, room: float) -> list[str]:
    """Lines no wider than `room`, but for a word that alone is wider, which is cut."""
    face = typeface(weight)
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if face.width(longer, size) <= room:
            line = longer
            continue
        if line:
            lines.append(line)
        while face.width(word, size) > room:
            fits = next(n for n in range(len(word), 0, -1) if face.width(word[:n], size) <= room)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines
