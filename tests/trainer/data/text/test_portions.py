"""Portions hold all of the data once, and sample n of them is the same whatever came when."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text import portions
from trainer.data.text.portion_order import PortionOrder
from trainer.data.text.portions import Portions, sized_files
from trainer.data.text.sources import open_part, open_source


@hypothesis.given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    blank=st.integers(0, 30),
    num_parts=st.integers(1, 12),
    ends=st.booleans(),
)
def test_each_line_is_in_one_part(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    blank: int,
    num_parts: int,
    ends: bool,
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [json.dumps({"text": f"{n} {'x' * size}"}) for n, size in enumerate(sizes)]
    lines.insert(min(blank, len(lines)), " ")
    path.write_text("\n".join(lines) + "\n" * ends)
    expected = [document.text for document in open_source(path)]
    parts = [open_part(Location.parse(path), n, num_parts) for n in range(num_parts)]
    assert [document.text for part in parts for document in part] == expected


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files, and large ones with and without compression."""
    monkeypatch.setattr(portions, "_LEAST_BYTES", 2**11)
    folder = tmp_path / "data"
    folder.mkdir()
    for number, count in enumerate((3, 200, 2, 1, 90)):
        lines = [json.dumps({"text": f"{number} says {line}."}) + "\n" for line in range(count)]
        (folder / f"{number}.jsonl").write_text("".join(lines))
    (folder / "5.jsonl.gz").write_bytes(gzip.compress((folder / "1.jsonl").read_bytes()))
    return folder


def test_all_documents_are_learnt_from_once_or_held_out(folder: Path, tmp_path: Path) -> None:
    place = str(folder)
    cut = Portions.of(place, sized_files(place), 12)
    assert len(cut) > 4
    held_out = [document.text for document in cut.held_out_documents()]
    assert len(held_out) == 12
    learnt = [document.text for index in range(len(cut)) for document in cut.training(index)]
    expected = [document.text for document in open_source(place)]
    assert sorted(map(str, learnt + held_out)) == sorted(map(str, expected))
    cut.write(tmp_path / "portions.json")
    again = Portions.read(tmp_path / "portions.json", place)
    assert (again, again.digest) == (cut, cut.digest)
    with pytest.raises(DataError, match="496 documents, of which 900 cannot be held out"):
        Portions.of(place, sized_files(place), 900)


@pytest.mark.parametrize("sizes", [[3, 0, 5, 2, 8, 1, 4], [0, 0, 1], [7] * 200])
def test_every_sequence_comes_once_before_any_comes_twice(sizes: list[int]) -> None:
    asked: set[int] = set()

    def count(portion: int) -> int:
        assert portion in asked
        return sizes[portion]

    def order() -> PortionOrder:
        asked.clear()
        return PortionOrder(
            len(sizes), 3, count=count, ask=lambda more: asked.update(more.tolist()), where="a"
        )

    total = sum(sizes)
    one = order()
    times = [[one.find(n) for n in range(t * total, (t + 1) * total)] for t in range(3)]
    expected = [(portion, index) for portion, size in enumerate(sizes) for index in range(size)]
    assert all(sorted(time) == expected for time in times)
    # Whoever begins in the middle finds the same.
    other = order()
    for number in np.random.default_rng(0).integers(0, 3 * total, 50).tolist():
        assert other.find(number) == times[number // total][number % total]


def test_the_first_sample_waits_for_few_portions() -> None:
    counted: list[int] = []

    def count(portion: int) -> int:
        counted.append(portion)
        return 10

    order = PortionOrder(1000, 0, count=count, ask=lambda _: None, where="a")
    order.find(0)
    assert len(counted) == 1
    order.find(99)
    assert len(counted) < 20


def test_portions_without_a_sequence_are_an_error() -> None:
    order = PortionOrder(3, 0, count=lambda _: 0, ask=lambda _: None, where="a")
    with pytest.raises(DataError, match="a: holds nothing to learn"):
        order.find(0)
