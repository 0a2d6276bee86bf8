"""Drawings as PDF, with its typefaces embedded, so that text stays text and looks the same.

Of ISO 32000-1 only what a figure needs: paths, text in two composite fonts, constant opacity.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from step_analysis.report.drawing import Box, Dot, Drawing, Path, Point, Text
from step_analysis.report.palette import Scheme, colours
from step_analysis.report.typeface import WEIGHTS, Typeface, Weight, typeface

_POINTS_PER_PIXEL = 0.75
_CIRCLE_HANDLE = 0.5522847498
"""Length of a Bezier handle for a quarter of a circle of radius 1."""
_CODES_PER_BLOCK = 100
"""The most entries of one block of a character map."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A drawing on a page: its upper left corner in the page's pixels, and its size's factor."""

    drawing: Drawing
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One page, in pixels, 96 an inch, with what lies on it from the bottom up."""

    width: float
    height: float
    placed: Sequence[Placed]


def pdf_file(drawing: Drawing, scheme: Scheme, title: str) -> bytes:
    """A page of the drawing's size, 96 pixels an inch; the same bytes in every run."""
    sheet = Sheet(width=drawing.width, height=drawing.height, placed=[Placed(drawing=drawing)])
    return pdf_document([sheet], scheme, title)


def pdf_document(sheets: Sequence[Sheet], scheme: Scheme, title: str) -> bytes:
    """Pages in order, one at least; the same bytes in every run."""
    fonts = _Fonts(first_number=3 + 2 * len(sheets))
    pages: list[bytes] = []
    for number, sheet in enumerate(sheets):
        page = _Page(sheet, colours(scheme))
        width, height = (_POINTS_PER_PIXEL * side for side in (sheet.width, sheet.height))
        states = " ".join(
            f"/{name} << /ca {opacity:g} /CA {opacity:g} >>"
            for opacity, name in page.states.items()
        )
        pages += [
            (
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] "
                f"/Contents {4 + 2 * number} 0 R /Resources << /ExtGState << {states} >> "
                f"/Font << {fonts.names} >> >> >>"
            ).encode("ascii"),
            _stream(page.content),
        ]
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(sheets)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>".encode("ascii"),
        *pages,
        *fonts.objects,
        b"<< /Title <" + ("\ufeff" + title).encode("utf-16-be", "replace").hex().encode() + b"> >>",
    ]
    return _assembled(objects)


class _Page:
    """The content stream of a page, and the opacities that it names."""

    def __init__(self, sheet: Sheet, palette: dict[str, str]) -> None:
        self.states: dict[float, str] = {}
        self._palette = palette
        self._out: list[str] = [
            # Pixels from the upper left corner from here on.
            f"{_POINTS_PER_PIXEL} 0 0 -{_POINTS_PER_PIXEL} 0 "
            f"{_POINTS_PER_PIXEL * sheet.height:.2f} cm 1 j"
        ]
        self._put(f"{self._rgb('paper')} rg 0 0 {sheet.width:.2f} {sheet.height:.2f} re f")
        for each in sheet.placed:
            self._put(f"q {each.scale:.4f} 0 0 {each.scale:.4f} {each.x:.2f} {each.y:.2f} cm")
            self._draw(each.drawing)
            self._put("", "Q")
        self.content = "\n".join(self._out).encode("ascii")

    def _draw(self, drawing: Drawing) -> None:
        for mark in drawing.marks:
            match mark:
                case Path():
                    self._path(mark)
                case Box():
                    self._box(mark)
                case Dot():
                    self._dot(mark)
                case Text():
                    self._text(mark)
                case _:
                    pass

    def _put(self, *operators: str) -> None:
        self._out.append(" ".join(operators))

    def _rgb(self, role: str) -> str:
        colour = self._palette[role]
        return " ".join(f"{int(colour[i : i + 2], 16) / 255:.3f}" for i in (1, 3, 5))

    def _state(self, opacity: float) -> str:
        return f"/{self.states.setdefault(opacity, f'G{len(self.states)}')} gs"

    def _path(self, mark: Path) -> None:
        paint = {(True, False): "f", (False, True): "S", (True, True): "B"}[
            (mark.fill is not None, mark.stroke is not None)
        ]
        parts = ["q", self._state(mark.opacity)]
        if mark.fill is not None:
            parts.append(f"{self._rgb(mark.fill)} rg")
        if mark.stroke is not None:
            parts.append(f"{self._rgb(mark.stroke)} RG {mark.width:.2f} w")
            parts += ["[4 4] 0 d"] * mark.dashed + ["1 J"] * mark.round_ends
        self._put(*parts, _route(mark.points), "h" if mark.closed else "", paint, "Q")

    def _box(self, mark: Box) -> None:
        shape = f"{mark.x:.2f} {mark.y:.2f} {mark.width:.2f} {mark.height:.2f} re"
        if mark.radius:
            shape = _rounded(mark)
        fill = f"{self._rgb(mark.fill)} rg"
        self._put("q", self._state(mark.opacity), fill, shape, "f Q")

    def _dot(self, mark: Dot) -> None:
        edge, paint = "", "f"
        if mark.stroke is not None:
            edge, paint = f"{self._rgb(mark.stroke)} RG {mark.stroke_width:.2f} w", "B"
        corner = Box(
            x=mark.x - mark.radius,
            y=mark.y - mark.radius,
            width=2.0 * mark.radius,
            height=2.0 * mark.radius,
            fill=mark.fill,
            radius=mark.radius,
        )
        fill = f"{self._rgb(mark.fill)} rg"
        self._put("q", self._state(1.0), fill, edge, _rounded(corner), paint, "Q")

    def _text(self, mark: Text) -> None:
        face = typeface(mark.weight)
        width = face.width(mark.text, mark.size)
        before = {"start": 0.0, "middle": width / 2.0, "end": width}[mark.anchor]
        turn = {0.0: "1 0 0 1", 90.0: "0 -1 1 0"}[mark.turn_degrees]
        codes = "".join(f"{face.glyphs.get(ord(c), 0):04x}" for c in mark.text)
        # The page is upside down, so that the text is turned back by its own matrix.
        self._put(
            f"q {self._state(1.0)} {self._rgb(mark.colour)} rg",
            f"{turn} {mark.x:.2f} {mark.y:.2f} cm",
            f"BT /{mark.weight} {mark.size:g} Tf 1 0 0 -1 {-before:.2f} 0 Tm <{codes}> Tj ET Q",
        )


class _Fonts:
    """The objects of both typefaces, numbered from `first_number`."""

    def __init__(self, first_number: int) -> None:
        self.objects: list[bytes] = []
        names = []
        for weight in WEIGHTS:
            names.append(f"/{weight} {first_number + len(self.objects)} 0 R")
            self.objects += _font(weight, first_number + len(self.objects))
        self.names = " ".join(names)


@lru_cache(maxsize=2)
def _font(weight: Weight, number: int) -> list[bytes]:
    face = typeface(weight)
    name = f"Inter-{weight.capitalize()}"
    per_em = 1000.0 / face.units_per_em
    box = " ".join(f"{per_em * side:.0f}" for side in face.bounding_box)
    widths = " ".join(f"{per_em * advance:.0f}" for advance in face.advances)
    descent, ascent = per_em * face.descent, per_em * face.ascent
    return [
        (
            f"<< /Type /Font /Subtype /Type0 /BaseFont /{name} /Encoding /Identity-H "
            f"/DescendantFonts [{number + 1} 0 R] /ToUnicode {number + 4} 0 R >>"
        ).encode("ascii"),
        (
            f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{name} /CIDSystemInfo "
            f"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /CIDToGIDMap /Identity "
            f"/FontDescriptor {number + 2} 0 R /W [0 [{widths}]] >>"
        ).encode("ascii"),
        (
            f"<< /Type /FontDescriptor /FontName /{name} /Flags 4 /FontBBox [{box}] "
            f"/ItalicAngle 0 /Ascent {ascent:.0f} /Descent {descent:.0f} /CapHeight {ascent:.0f} "
            f"/StemV 80 /FontFile2 {number + 3} 0 R >>"
        ).encode("ascii"),
        _stream(face.data, f"/Length1 {len(face.data)} "),
        _stream(_to_unicode(face)),
    ]


def _to_unicode(face: Typeface) -> bytes:
    """The map from glyphs back to characters, for searching and copying text."""
    characters = {glyph: code for code, glyph in reversed(list(face.glyphs.items()))}
    entries = [f"<{glyph:04x}> <{code:04x}>" for glyph, code in sorted(characters.items())]
    lines = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
    ]
    for start in range(0, len(entries), _CODES_PER_BLOCK):
        block = entries[start : start + _CODES_PER_BLOCK]
        lines += [f"{len(block)} beginbfchar", *block, "endbfchar"]
    lines.append("endcmap CMapName currentdict /CMap defineresource pop end end")
    return "\n".join(lines).encode("ascii")


def _route(points: Sequence[Point]) -> str:
    first, *others = (f"{x:.2f} {y:.2f}" for x, y in points)
    return f"{first} m " + " ".join(f"{point} l" for point in others)


def _rounded(box: Box) -> str:
    r = min(box.radius, box.width / 2.0, box.height / 2.0)
    k = r * (1.0 - _CIRCLE_HANDLE)
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    corners = (
        ((right - r, top), (right - k, top, right, top + k, right, top + r)),
        ((right, bottom - r), (right, bottom - k, right - k, bottom, right - r, bottom)),
        ((left + r, bottom), (left + k, bottom, left, bottom - k, left, bottom - r)),
        ((left, top + r), (left, top + k, left + k, top, left + r, top)),
    )
    parts = [f"{left + r:.2f} {top:.2f} m"]
    for line_to, curve_to in corners:
        parts.append(f"{_numbers(line_to)} l {_numbers(curve_to)} c")
    return " ".join([*parts, "h"])


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _stream(data: bytes, extra: str = "") -> bytes:
    packed = zlib.compress(data, 6)
    head = f"<< {extra}/Filter /FlateDecode /Length {len(packed)} >>".encode("ascii")
    return head + b"\nstream\n" + packed + b"\nendstream"


def _assembled(objects: Sequence[bytes]) -> bytes:
    """The file: header, objects from number 1, their places, and the trailer; the last is Info."""
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode("ascii") + content + b"\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode("ascii")
    out += b"".join(f"{place:010d} 00000 n \n".encode("ascii") for place in places)
    out += (
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n"
        f"startxref\n{table}\n%%EOF\n"
    ).encode("ascii")
    return bytes(out)
