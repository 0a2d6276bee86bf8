"""What a vision-language model was asked about pictures, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from trainer.data.showing.canvas import Colour, resized, typeface, write
from trainer.plotting.palette import colours

_MARGIN, _SIDE, _GAP = 20, 280, 24
_TEXT_SIZE, _LINE_HEIGHT = 15, 20
_MOST_LINES, _COLUMNS = 3, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """picture: (H, W, 3). question: empty where a caption was asked for. right: as the data say."""

    picture: npt.NDArray[np.uint8]
    question: str
    said: str
    right: str

    @property
    def asked(self) -> str:
        return self.question or "(a caption)"


def picture_of_answers(answers: Sequence[Answered]) -> npt.NDArray[np.uint8]:
    """(H, W, 3): each picture over the question, what was said, and what is right."""
    palette = {role: _rgb(colour) for role, colour in colours("light").items()}
    blocks = [
        [
            (_lines(one.asked), palette["muted"]),
            (_lines(one.said), palette["ink"]),
            (_lines(f"right: {one.right}"), palette["series-0"]),
        ]
        for one in answers
    ]
    most = max(sum(len(lines) for lines, _ in block) for block in blocks)
    pitch = (_SIDE + _GAP, _SIDE + _LINE_HEIGHT * most + 2 * _GAP)
    columns = min(_COLUMNS, len(answers))
    size = (
        2 * _MARGIN + columns * pitch[0] - _GAP,
        2 * _MARGIN + -(-len(answers) // columns) * pitch[1] - _GAP,
    )
    sheet = Image.new("RGB", size, palette["paper"])
    draw = ImageDraw.Draw(sheet)
    for number, (one, block) in enumerate(zip(answers, blocks, strict=True)):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * pitch[0], _MARGIN + row * pitch[1]
        sheet.paste(resized(one.picture, (_SIDE, _SIDE)), (x, y))
        y += _SIDE + _LINE_HEIGHT + 2
        for lines, colour in block:
            for line in lines:
                write(draw, (x, y), line, _TEXT_SIZE, colour, width=_SIDE)
                y += _LINE_HEIGHT
    return np.asarray(sheet)


def _rgb(colour: str) -> Colour:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def _lines(text: str) -> list[str]:
    """As many as there is room for; the last one holds the rest, to be shortened."""
    lines, words = [""], text.split()
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or typeface(_TEXT_SIZE).getlength(longer) <= _SIDE:
            lines[-1] = longer
        elif len(lines) == _MOST_LINES:
            lines[-1] = " ".join([lines[-1], *words[number:]])
            break
        else:
            lines.append(word)
    return lines
