"""A tokenizer of Python's own documentation, and small files of text and pictures."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.data.text.chat import ChatTemplate
from trainer.data.text.encoding import Encoder
from trainer.data.text.tokenizer import TextTokenizer, train_tokenizer

TOKENS_PER_IMAGE = 4


def docstrings() -> list[str]:
    """Of the standard library: real sentences that every installation has."""
    members = [member for module in (json, inspect, io, np) for member in vars(module).values()]
    found = [inspect.getdoc(member) for member in members if callable(member)]
    return list(dict.fromkeys(text for text in found if text and len(text) > 80))[:120]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return docstrings()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> TextTokenizer:
    return train_tokenizer(texts, 512, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="session")
def encoder(tokenizer: TextTokenizer) -> Encoder:
    return Encoder(
        template=ChatTemplate(tokenizer, TOKENS_PER_IMAGE),
        vocabulary_size=tokenizer.vocabulary_size,
    )


def _png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def png() -> Callable[[int], bytes]:
    """The file of a picture of one colour: png(red)."""
    return _png


WriteLines = Callable[[Path, list[dict[str, Any]]], Path]


@pytest.fixture(scope="session")
def write_lines() -> WriteLines:
    def write(path: Path, records: list[dict[str, Any]]) -> Path:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write
