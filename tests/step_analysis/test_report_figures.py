import io
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from step_analysis.report.drawing import Drawing
from step_analysis.report.palette import NUM_POLICY_COLOURS, SCHEMES, colours, policy_role
from step_analysis.report.pdf import Placed, Sheet, pdf_document, pdf_file
from step_analysis.report.png import png_file
from step_analysis.report.svg import svg_element, svg_file
from step_analysis.report.typeface import WEIGHTS, typeface

NAMES = "Ours-2.1B <b>&amp; Übergröße → Ω"

# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1, for linear RGB.
_SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def _linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _contrast(first: str, second: str) -> float:
    """WCAG 2.2's contrast ratio."""
    luminances = [_linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (first, second)]
    low, high = sorted(float(luminance) for luminance in luminances)
    return (high + 0.05) / (low + 0.05)


def _lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0.0, 1.0) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    return np.array([116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_marks_stand_out_from_the_paper(scheme):
    palette = colours(scheme)
    for role in ("ink", "muted", "caution", "alarm"):
        assert _contrast(palette[role], palette["paper"]) >= 4.5, role
    for role in ("gain", "loss", *map(policy_role, range(NUM_POLICY_COLOURS))):
        assert _contrast(palette[role], palette["paper"]) >= 3.0, role


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sight", _SIGHT)
def test_the_colours_of_policies_are_told_apart_by_any_sight(scheme, sight):
    palette = colours(scheme)
    labs = [
        _lab(_SIGHT[sight] @ _linear(palette[policy_role(index)]))
        for index in range(NUM_POLICY_COLOURS)
    ]
    for num_policies, least in ((2, 90.0), (NUM_POLICY_COLOURS, 12.0)):
        distances = [
            float(np.linalg.norm(first - second))
            for first, second in combinations(labs[:num_policies], 2)
        ]
        assert min(distances) >= least, num_policies


@pytest.fixture
def drawing() -> Drawing:
    drawing = Drawing(width=200.0, height=100.0)
    drawing.box(100.0, 0.0, 50.0, 50.0, "gain")
    drawing.box(0.0, 50.0, 50.0, 50.0, "loss", opacity=0.5, radius=8.0)
    drawing.line([(0.0, 25.0), (50.0, 25.0)], "ink", width=4.0)
    drawing.line([(0.0, 75.0), (200.0, 75.0)], "muted", dashed=True)
    drawing.area([(160.0, 60.0), (190.0, 60.0), (175.0, 90.0)], "policy-3", opacity=0.3)
    drawing.dot(75.0, 25.0, 10.0, "paper", stroke="policy-2", policies=(2,))
    drawing.text(10.0, 95.0, NAMES, policies=(2,))
    drawing.text(195.0, 50.0, "turned", turn_degrees=90.0, anchor="middle", weight="semibold")
    drawing.zone(0.0, 0.0, 200.0, 100.0, 'a "tip" </text>', policies=(2, 3))
    return drawing


@pytest.mark.parametrize("scheme", SCHEMES)
def test_png_has_the_drawings_colours_where_they_belong(drawing, scheme):
    palette = colours(scheme)
    data = png_file(drawing, scheme)
    image = Image.open(io.BytesIO(data))
    assert image.size == (400, 200)
    image = image.convert("RGB")

    def at(x: float, y: float) -> str:
        pixel = image.getpixel((int(2 * x), int(2 * y)))
        assert isinstance(pixel, tuple)
        return "#{:02x}{:02x}{:02x}".format(*pixel)

    assert at(60.0, 8.0) == palette["paper"]
    assert at(125.0, 25.0) == palette["gain"]
    assert at(25.0, 25.0) == palette["ink"]
    assert at(75.0, 25.0) == palette["paper"]
    assert at(65.0, 25.0) == palette["policy-2"]
    half = _mixed(palette["loss"], palette["paper"], 0.5)
    assert np.abs(np.subtract(_bytes(at(25.0, 60.0)), half)).max() <= 2


def _bytes(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _mixed(first: str, second: str, share: float) -> np.ndarray:
    return share * np.array(_bytes(first)) + (1.0 - share) * np.array(_bytes(second))


def test_png_of_a_tall_drawing_has_no_seams():
    drawing = Drawing(width=40.0, height=1300.0)
    drawing.box(10.0, 0.0, 20.0, 1300.0, "policy-1")
    drawing.line([(5.0, 0.0), (5.0, 1300.0)], "ink", width=3.0)
    rows = np.asarray(Image.open(io.BytesIO(png_file(drawing, "light"))))
    assert rows.shape == (2600, 80, 3)
    assert (rows == rows[0]).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_svg_is_well_formed_and_says_its_text(drawing, scheme):
    root = ET.fromstring(svg_file(drawing, scheme, "what <it> is"))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    texts = [element.text for element in root.iter(f"{space}text")]
    assert texts == [NAMES, "turned"]
    fills = {element.get("fill") for element in root.iter()}
    assert {colours(scheme)["gain"], colours(scheme)["policy-3"]} <= fills


def test_svg_of_the_page_follows_its_colours_and_names_its_policies(drawing):
    tips: list[str] = []

    def number(tip: str) -> int:
        tips.append(tip)
        return 41

    text = svg_element(drawing, number, "wide")
    root = ET.fromstring(text)  # noqa: S314
    assert not re.search("#[0-9a-f]{6}", text)
    assert tips == ['a "tip" </text>']
    groups = {element.get("data-p"): list(element) for element in root.iter("g")}
    assert groups.keys() == {"2", "2 3"}
    assert [element.tag for element in groups["2"]] == ["circle", "text"]
    assert [element.get("data-t") for element in groups["2 3"]] == ["41"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pdf_is_sound_and_its_text_can_be_read_back(drawing, scheme):
    data = pdf_file(drawing, scheme, "the ä title")
    assert data == pdf_file(drawing, scheme, "the ä title")
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    objects = _pdf_objects(data)
    assert b"/MediaBox [0 0 150.00 75.00]" in objects[3]
    content = _pdf_stream(objects[4]).decode("ascii")
    assert content.count("q ") == content.count(" Q")
    read = {}
    for reference in re.findall(rb"/(regular|semibold) (\d+) 0 R", objects[3]):
        name, number = reference[0].decode(), int(reference[1])
        to_unicode = re.search(rb"/ToUnicode (\d+) 0 R", objects[number])
        assert to_unicode is not None
        table = _pdf_stream(objects[int(to_unicode[1])]).decode("ascii")
        read[name] = dict(re.findall(r"<([0-9a-f]{4})> <([0-9a-f]{4})>", table))
    shown = [
        "".join(chr(int(read[name][codes[i : i + 4]], 16)) for i in range(0, len(codes), 4))
        for name, codes in re.findall(r"BT /(\w+) .*? <([0-9a-f]+)> Tj", content)
    ]
    assert shown == [NAMES, "turned"]


def test_a_pdf_of_several_pages_places_and_scales_what_lies_on_them(drawing):
    sheets = [
        Sheet(width=400.0, height=300.0, placed=[Placed(drawing=drawing)]),
        Sheet(
            width=200.0,
            height=100.0,
            placed=[Placed(drawing=drawing, x=10.0, y=20.0, scale=0.5), Placed(drawing=drawing)],
        ),
    ]
    data = pdf_document(sheets, "light", "two pages")
    objects = _pdf_objects(data)
    assert b"/Kids [3 0 R 5 0 R] /Count 2" in objects[2]
    assert b"/MediaBox [0 0 300.00 225.00]" in objects[3]
    assert b"/MediaBox [0 0 150.00 75.00]" in objects[5]
    second = _pdf_stream(objects[6]).decode("ascii")
    assert second.count(" Tj") == 2 * _pdf_stream(objects[4]).decode("ascii").count(" Tj")
    assert "q 0.5000 0 0 0.5000 10.00 20.00 cm" in second
    assert second.count("q ") == second.count(" Q")


def _pdf_objects(data: bytes) -> dict[int, bytes]:
    """Every object by number, found by the table of places at the file's end."""
    start = re.search(rb"startxref\n(\d+)\n", data)
    assert start is not None
    table = data[int(start[1]) :].splitlines()
    assert table[0] == b"xref"
    places = [int(line[:10]) for line in table[2:] if line.endswith(b" n ")]
    ends = [*places[1:], int(start[1])]
    objects = {}
    for number, (begin, end) in enumerate(zip(places, ends, strict=True), start=1):
        assert data[begin:].startswith(f"{number} 0 obj\n".encode())
        objects[number] = data[begin:end]
    return objects


def _pdf_stream(content: bytes) -> bytes:
    length = re.search(rb"/Length (\d+) >>\nstream\n", content)
    assert length is not None
    return zlib.decompress(content[length.end() : length.end() + int(length[1])])


@pytest.mark.parametrize("weight", WEIGHTS)
@given(text=st.text(st.characters(codec="latin-1", min_codepoint=32, exclude_categories=["Cc"])))
def test_widths_are_those_that_freetype_measures(weight, text):
    face = typeface(weight)
    font = ImageFont.truetype(
        io.BytesIO(face.data), face.units_per_em, layout_engine=ImageFont.Layout.BASIC
    )
    assert face.width(text, face.units_per_em) == pytest.approx(font.getlength(text), abs=0.51)


@given(text=st.text(min_size=1, max_size=60), room=st.floats(1.0, 300.0))
def test_fitted_text_keeps_both_ends_and_fits(text, room):
    face = typeface("regular")
    fitted = face.fitted(text, 12.0, room)
    if face.width(text, 12.0) <= room:
        assert fitted == text
        return
    assert fitted[0] == text[0]
    assert "…" in fitted
    if len(fitted) > 2:
        assert face.width(fitted, 12.0) <= room
        assert fitted[-1] in (text[-1], "…")


def test_the_typefaces_tables_are_in_order():
    for weight in WEIGHTS:
        data = typeface(weight).data
        (num_tables,) = struct.unpack_from(">H", data, 4)
        tags = [data[12 + 16 * i : 16 + 16 * i] for i in range(num_tables)]
        assert all(first < second for first, second in pairwise(tags))
        assert b"glyf" in tags
