"""Documents come out of every kind of file the same, and what is wrong is named by its place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import resource
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trainer.data.errors import DataError
from trainer.data.text.documents import Columns
from trainer.data.text.sources import open_source

RECORDS = [{"text": f"Sentence number {number}, äöü."} for number in range(7)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def plain(folder: Path) -> Path:
    # Blank lines, Windows line ends and a missing last end are all usual.
    content = lines(RECORDS[:4]) + b"\n  \r\n" + lines(RECORDS[4:]).rstrip(b"\n")
    (folder / "texts.jsonl").write_bytes(content)
    return folder / "texts.jsonl"


def gzipped(folder: Path) -> Path:
    (folder / "texts.jsonl.gz").write_bytes(gzip.compress(lines(RECORDS)))
    return folder / "texts.jsonl.gz"


def zstandard(folder: Path) -> Path:
    with pyarrow.CompressedOutputStream(str(folder / "texts.jsonl.zst"), "zstd") as file:
        file.write(lines(RECORDS))
    return folder / "texts.jsonl.zst"


def parquet(folder: Path) -> Path:
    table = pyarrow.Table.from_pylist([record | {"spare": 1} for record in RECORDS])
    pyarrow.parquet.write_table(table, folder / "texts.parquet", row_group_size=2)
    return folder / "texts.parquet"


def tar(folder: Path) -> Path:
    write_tar(folder / "texts.tar", {f"{n:03}.txt": r["text"].encode() for n, r in numbered()})
    return folder / "texts.tar"


def text_files(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for number, record in numbered():
        (folder / "texts" / f"{number}.md").write_text(record["text"])
    (folder / "texts" / "empty.txt").write_text("")
    return folder / "texts"


def several_files(folder: Path) -> Path:
    (folder / "a.jsonl").write_bytes(lines(RECORDS[:3]))
    (folder / "b.jsonl").write_bytes(lines(RECORDS[3:]))
    (folder / "README.md").write_text("No data.")
    return folder


def numbered() -> list[tuple[int, dict[str, str]]]:
    return list(enumerate(RECORDS))


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    "make", [plain, gzipped, zstandard, parquet, tar, text_files, several_files]
)
def test_every_kind_of_file_gives_the_same_documents(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    source = open_source(make(tmp_path))
    assert [document.text for document in source] == [record["text"] for record in RECORDS]
    # In any order, any number of times.
    assert source.document(5).text == RECORDS[5]["text"]
    assert source.document(0).text == RECORDS[0]["text"]


def test_captions_and_questions_come_with_their_pictures(
    tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png(1))
    caption = {"image": "images/a.png", "caption": "A mug."}
    question = {"image": "images/a.png", "question": "<image>\nWhat is it?", "answer": "A mug."}
    (tmp_path / "a.jsonl").write_bytes(lines([caption, question]))
    first, second = open_source(tmp_path, Columns(caption_prompt="Describe it."))
    assert first.images == second.images == (png(1),)
    assert [(t.role, t.text, t.num_images) for t in first.turns] == [
        ("user", "Describe it.", 1),
        ("assistant", "A mug.", 0),
    ]
    assert second.turns[0].text == "What is it?"


def test_pictures_in_parquet_and_tars_are_read_from_the_file_itself(
    tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    record = {"image": {"bytes": png(2), "path": None}, "text": "A plate."}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "a.parquet")
    members = {"x/0.png": png(3), "x/0.txt": b"A crock.", "x/1.png": png(4)}
    members["x/1.json"] = json.dumps(
        {"messages": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A."}]}
    ).encode()
    write_tar(tmp_path / "b.tar", members)
    from_parquet, first, second = open_source(tmp_path)
    assert (from_parquet.images, from_parquet.turns[1].text) == ((png(2),), "A plate.")
    assert (first.images, first.turns[1].text) == ((png(3),), "A crock.")
    assert (second.images, second.turns[0].text) == ((png(4),), "What?")


def test_openai_messages_say_where_their_pictures_stand(
    tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    content = [{"type": "image"}, {"type": "text", "text": "And this?"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": content},
        {"role": "assistant", "content": "A mug."},
    ]
    (tmp_path / "a.jsonl").write_bytes(lines([{"messages": messages, "image": "a.png"}]))
    (document,) = open_source(tmp_path)
    assert [turn.num_images for turn in document.turns] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("content", "columns", "complaint"),
    [
        (b'{"text": "a"}\n{"text": \n', Columns(), r"a\.jsonl, line 2: not JSON"),
        (b'\n\n["text"]\n', Columns(), "line 3: expected an object, got list"),
        (b'{"txet": "a"}\n', Columns(text="text"), r"no column 'text' for text.*'txet'"),
        (b'{"body": "a"}\n', Columns(text="boody"), "did you mean 'body'"),
        (b'{"title": "a"}\n', Columns(), r"expected text, tokens.*\['title'\]"),
        (b'{"text": 3}\n', Columns(), "column 'text': expected text, got int"),
        (b'{"text": "  "}\n', Columns(), "column 'text' is empty"),
        (b'{"image": "no.png", "caption": "a"}\n', Columns(), "line 1: image 'no.png' cannot"),
        (b'{"messages": [{"role": "cook", "content": "a"}]}\n', Columns(), "got 'cook'"),
        (b'{"messages": []}\n', Columns(), "expected a list of turns"),
        (b'{"input_ids": [0.5]}\n', Columns(), "expected a list of whole numbers"),
        (b'{"input_ids": [[1, 2], [3]]}\n', Columns(), "line 1: column 'input_ids'"),
        (b'{"text": ' + b"[" * 100_000 + b"\n", Columns(), "line 1: not JSON"),
        (b'{"text": ' + b"1" * 5000 + b"}\n", Columns(), "line 1: not JSON"),
        (b'{"messages": "' + b"[" * 100_000 + b'"}\n', Columns(), "messages: not JSON"),
        (b'{"messages": [{"role": ["user"], "content": "a"}]}\n', Columns(), r"got \['user'\]"),
        (b'{"text": "half: \\ud83d"}\n', Columns(), "column 'text': not Unicode"),
        (
            b'{"messages": [{"role": "user", "content": "\\udc00"}]}\n',
            Columns(),
            "turn 0: not Unicode",
        ),
        (b'{"image": "a\\u0000", "caption": "a"}\n', Columns(), "line 1: image .* cannot be read"),
        (b'{"image": "../secret", "caption": "a"}\n', Columns(), "outside the data set"),
        (b'{"image": "/dev/zero", "caption": "a"}\n', Columns(), "outside the data set"),
        (
            b'{"messages": [{"role": "user", "content": "<image> a"}]}\n',
            Columns(),
            "the turns show 1 images, got 0",
        ),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(
    tmp_path: Path, content: bytes, columns: Columns, complaint: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    source = open_source(tmp_path / "a.jsonl", columns)
    with pytest.raises(DataError, match=complaint):
        list(source)


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b""), ("a.jsonl", b"\n \n"), ("a.txt", b"")]
)
def test_a_source_that_yields_nothing_is_an_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="holds no documents"):
        open_source(tmp_path / name)


def test_places_that_are_not_there_or_hold_no_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "missing.jsonl")
    (tmp_path / "a.xyz").write_bytes(b"1")
    with pytest.raises(DataError, match=r"no text here; expected \.jsonl"):
        open_source(tmp_path)


@pytest.mark.parametrize("make", [gzipped, zstandard, parquet, tar])
def test_a_file_that_was_cut_is_told(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with pytest.raises(DataError, match=path.name):
        list(open_source(path))


def test_a_row_without_the_picture_that_others_have_is_a_document(
    tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    turns = json.dumps([{"role": "user", "content": "Hello."}])
    table = pyarrow.table({"messages": [turns, turns], "image": [png(1), None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [len(document.images) for document in open_source(tmp_path)] == [1, 0]


def _number(header: bytes, offset: int, value: int) -> bytes:
    """A tar header with another number in a field of twelve bytes, and its checksum made anew."""
    changed = bytearray(header)
    changed[offset : offset + 12] = b"\xff" + (2**88 + value).to_bytes(11, "big")
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def _endless_names() -> bytes:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 512
    return (name.tobuf(tarfile.GNU_FORMAT) + b"a" * 512) * 3000


def _member(**headers: str) -> bytes:
    member = tarfile.TarInfo("a.txt")
    member.size, member.pax_headers = 5, headers
    return member.tobuf(tarfile.PAX_FORMAT) + b"hello".ljust(512, b"\0")


@pytest.mark.parametrize(
    "content",
    [
        _number(_member(), 124, -512),
        _number(_member(), 124, -1024),
        _member(**{"GNU.sparse.size": "1", "GNU.sparse.map": "x,y"}),
        _member(**{"GNU.sparse.size": "1000", "GNU.sparse.map": "0,5"}),
        _endless_names(),
    ],
    ids=["size -512", "size -1024", "map of nonsense", "sparse", "endless names"],
)
def test_a_tar_that_claims_nonsense_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    with pytest.raises(DataError, match=r"a\.tar"):
        list(open_source(tmp_path / "a.tar"))


def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "A.JSONL.GZ"
    path.write_bytes(gzip.compress(lines([{"text": "a" * 3_000_000}])))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            open_source(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(open_source(path)) == 1


def test_a_changed_compressed_file_is_unpacked_anew(tmp_path: Path) -> None:
    path = gzipped(tmp_path)
    assert len(open_source(path)) == 7
    path.write_bytes(gzip.compress(lines(RECORDS[:2])))
    assert len(open_source(path)) == 2


def test_an_image_that_is_no_image_column_is_told(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"x").decode()
    (tmp_path / "a.jsonl").write_bytes(lines([{"image": 3, "caption": encoded}]))
    with pytest.raises(DataError, match="expected an image's bytes or path, got int"):
        list(open_source(tmp_path))


def test_parquet_is_read_by_one_thread_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training reads batches ahead while it measures, and the library's reader bears but one."""
    table = pyarrow.Table.from_pylist([{"text": f"Sentence {number}."} for number in range(2)])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    source = open_source(tmp_path)
    read_group = pyarrow.parquet.ParquetFile.read_row_group
    met = Barrier(2)

    def read_together(self: Any, group: int, columns: list[str]) -> Any:
        with pytest.raises(BrokenBarrierError):
            met.wait(timeout=0.2)
        return read_group(self, group, columns)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", read_together)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(source.document, (0, 1))
    assert (first.text, second.text) == ("Sentence 0.", "Sentence 1.")
