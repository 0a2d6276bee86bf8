"""The two weights of Inter that figures are set in: their files and how wide their text is.

Figures are laid out before they are drawn as SVG, PDF and PNG, so widths come from the font file
itself and are the same in all three.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

Weight = Literal["regular", "semibold"]
WEIGHTS: tuple[Weight, ...] = ("regular", "semibold")

_FILES: Mapping[Weight, str] = {"regular": "Inter-Regular.ttf", "semibold": "Inter-SemiBold.ttf"}
_ELLIPSIS = "…"


@dataclass(frozen=True, kw_only=True)
class Typeface:
    """One weight; lengths are in font units, `units_per_em` of them to the font's size."""

    data: bytes
    """The TrueType file."""
    units_per_em: int
    ascent: int
    descent: int
    """Negative."""
    bounding_box: tuple[int, int, int, int]
    glyphs: Mapping[int, int]
    """Glyph by code point; what is absent is drawn as glyph 0, a box."""
    advances: tuple[int, ...]
    """By glyph."""

    def width(self, text: str, size: float) -> float:
        """The text's width in the unit of `size`."""
        advances, glyphs = self.advances, self.glyphs
        units = sum(advances[glyphs.get(ord(character), 0)] for character in text)
        return units * size / self.units_per_em

    def fitted(self, text: str, size: float, room: float) -> str:
        """The text, its middle left out where it is wider than `room`."""
        if self.width(text, size) <= room:
            return text
        # Names of policies differ at their ends more than in the middle.
        for kept in range(len(text) - 1, 1, -1):
            head = (kept + 1) // 2
            shorter = text[:head] + _ELLIPSIS + text[len(text) - (kept - head) :]
            if self.width(shorter, size) <= room:
                return shorter
        return text[:1] + _ELLIPSIS


@lru_cache(maxsize=2)
def typeface(weight: Weight) -> Typeface:
    """The weight, read from its file once."""
    folder = resources.files("step_analysis.report") / "fonts"
    data = folder.joinpath(_FILES[weight]).read_bytes()
    tables = _tables(data)
    head, hhea = tables["head"], tables["hhea"]
    (units_per_em,) = struct.unpack_from(">H", head, 18)
    ascent, descent = struct.unpack_from(">hh", hhea, 4)
    (num_advances,) = struct.unpack_from(">H", hhea, 34)
    (num_glyphs,) = struct.unpack_from(">H", tables["maxp"], 4)
    advances = struct.unpack_from(">" + "Hh" * num_advances, tables["hmtx"])[::2]
    return Typeface(
        data=data,
        units_per_em=units_per_em,
        ascent=ascent,
        descent=descent,
        bounding_box=struct.unpack_from(">hhhh", head, 36),
        glyphs=_character_map(tables["cmap"]),
        # Glyphs after the last listed one are as wide as it.
        advances=advances + advances[-1:] * (num_glyphs - num_advances),
    )


def _tables(data: bytes) -> dict[str, bytes]:
    (num_tables,) = struct.unpack_from(">H", data, 4)
    tables = {}
    for number in range(num_tables):
        tag, _, offset, length = struct.unpack_from(">4sLLL", data, 12 + 16 * number)
        tables[tag.decode("ascii")] = data[offset : offset + length]
    return tables


def _character_map(cmap: bytes) -> dict[int, int]:
    """Glyph by code point, from the table's part of format 4 (OpenType specification, cmap)."""
    (num_parts,) = struct.unpack_from(">H", cmap, 2)
    parts = (struct.unpack_from(">HHL", cmap, 4 + 8 * number)[2] for number in range(num_parts))
    start = next(at for at in parts if struct.unpack_from(">H", cmap, at) == (4,))
    (double_count,) = struct.unpack_from(">H", cmap, start + 6)
    count = double_count // 2
    ends_at = start + 14
    firsts_at = ends_at + double_count + 2
    deltas_at, offsets_at = firsts_at + double_count, firsts_at + 2 * double_count
    segments = zip(
        struct.unpack_from(f">{count}H", cmap, firsts_at),
        struct.unpack_from(f">{count}H", cmap, ends_at),
        struct.unpack_from(f">{count}H", cmap, deltas_at),
        struct.unpack_from(f">{count}H", cmap, offsets_at),
        strict=True,
    )
    glyphs: dict[int, int] = {}
    for segment, (first, last, delta, offset) in enumerate(segments):
        for code in range(first, min(last, 0xFFFE) + 1):
            glyph = code
            if offset:
                at = offsets_at + 2 * segment + offset + 2 * (code - first)
                (glyph,) = struct.unpack_from(">H", cmap, at)
                if glyph == 0:
                    continue
            glyphs[code] = (glyph + delta) % 0x10000
    return glyphs
