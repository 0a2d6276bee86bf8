"""Pictures of a colour, and questions about them, that tests train on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 40, 30), "green": (40, 190, 60), "blue": (40, 60, 210)}
SIDES = ("left", "right")


def picture(colour: str, side: str, seed: int) -> bytes:
    """A JPEG of 40 pixels: a square of a colour, on grey."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 120, (40, 40, 3), dtype=np.uint8)
    row, column = rng.integers(4, 24), 4 if side == "left" else 24
    pixels[row : row + 12, column : column + 12] = COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_pictures(folder: Path, count: int, *, with_text: bool = True) -> None:
    """Questions about the colour, and captions, in turn; some documents of text alone."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        colour, side = list(COLOURS)[number % 3], SIDES[number // 3 % 2]
        (folder / f"{number}.jpg").write_bytes(picture(colour, side, number))
        record = {"image": f"{number}.jpg"}
        if number % 4:
            record |= {"question": "Which colour?", "answer": colour}
        else:
            record |= {"caption": f"A {colour} square on the {side}."}
        lines.append(json.dumps(record))
    if with_text:
        lines += [json.dumps({"text": f"The square is {colour}."}) for colour in COLOURS]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def write_colours(folder: Path, pictures: Iterable[tuple[bytes, str]]) -> Path:
    """A question about the colour of each. pictures: PNG files, each with its colour."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (file, colour) in enumerate(pictures):
        (folder / f"{number}.png").write_bytes(file)
        lines.append({"image": f"{number}.png", "question": "Which colour?", "answer": colour})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_plain(folder: Path, count: int) -> Path:
    """The same of pictures that are all of one colour."""

    def plain(colour: str) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (20, 20), colour).save(file, "PNG")
        return file.getvalue()

    colours = [list(COLOURS)[number % 3] for number in range(count)]
    return write_colours(folder, [(plain(colour), colour) for colour in colours])
