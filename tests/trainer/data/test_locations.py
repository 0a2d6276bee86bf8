"""Data on other file systems; fsspec's own memory:// stands in for a remote store."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec import AbstractFileSystem

from tests.trainer.data.numbered_data import (
    assert_same_numbers,
    robot_dataset,
    shown_numbers,
)
from trainer.data.conversion import Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.foundry_writer import FoundryWriter
from trainer.data.formats.lerobot_writer import LeRobotWriter
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.formats.writer import DatasetWriter
from trainer.data.locations import Location

FIXTURES = Path(__file__).parent / "fixtures" / "lerobot"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    for name in filesystem.ls("/", detail=False):
        filesystem.rm(name, recursive=True)


def cached_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_local_path_is_itself(tmp_path: Path) -> None:
    location = Location.parse(tmp_path) / "a" / "b.txt"
    assert (location.is_local, location.name, location.parent.name) == (True, "b.txt", "a")
    assert str(location) == str(tmp_path / "a" / "b.txt")
    assert not location.exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("text")
    assert location.local() == tmp_path / "a" / "b.txt"
    assert (location.read_text(), location.size(), location.is_file()) == ("text", 4, True)
    assert [child.name for child in location.parent.children()] == ["b.txt"]
    assert location == Location.parse(str(tmp_path)) / "a" / "b.txt"


def test_remote_path_is_written_as_it_is_parsed(remote: Any) -> None:
    remote.pipe({"/store/a/1.txt": b"one", "/store/a/b/2.txt": b"two"})
    location = Location.parse("memory://store/a")
    assert Location.parse(str(location)) == location
    assert location.is_dir()
    assert not location.is_local
    assert [child.name for child in location.children()] == ["1.txt", "b"]
    assert [file.name for file in location.find()] == ["1.txt", "2.txt"]
    assert (location / "b" / "2.txt").read_bytes() == b"two"
    with (location / "1.txt").open() as file:
        file.seek(1)
        assert file.read() == b"ne"
    assert pickle.loads(pickle.dumps(location)) == location  # noqa: S301 (its own pickle)


def test_remote_file_is_copied_once_and_anew_when_it_changes(remote: Any, tmp_path: Path) -> None:
    location = Location.parse("memory://store/video.mp4")
    remote.pipe("/store/video.mp4", b"first")
    copy = location.local()
    assert copy.read_bytes() == b"first"
    assert copy.suffix == ".mp4"
    copy.write_bytes(b"marked")
    assert location.local().read_bytes() == b"marked"
    remote.pipe("/store/video.mp4", b"second")
    assert location.local().read_bytes() == b"second"
    assert len(cached_files(tmp_path)) == 2


def test_copy_that_fails_leaves_nothing(remote: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Location.parse("memory://store/nothing.mp4").local()
    assert cached_files(tmp_path) == []


class _Unreachable(AbstractFileSystem):
    """A store whose driver's errors are of its own class, as those of botocore and httpx are."""

    protocol = "unreachable"

    def exists(self, path: str, **options: Any) -> bool:
        raise RuntimeError("Unable to locate\ncredentials")


def test_store_that_cannot_be_reached_is_told_in_one_line() -> None:
    fsspec.register_implementation("unreachable", _Unreachable, clobber=True)
    with pytest.raises(DataError) as caught:
        open_dataset("unreachable://bucket/data")
    told = str(caught.value)
    assert told == "unreachable://bucket/data: cannot be reached: Unable to locate credentials"


def test_missing_place_is_an_error(remote: Any) -> None:
    with pytest.raises(DataError, match="memory:///store/nothing: no such file or folder"):
        open_dataset("memory://store/nothing")


def test_unknown_scheme_is_an_error() -> None:
    with pytest.raises(DataError, match="nowhere"):
        Location.parse("nowhere://data")


@pytest.mark.parametrize(("scheme", "driver"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_missing_driver_is_told_in_one_line(scheme: str, driver: str) -> None:
    if importlib.util.find_spec(driver):
        pytest.skip(f"{driver} is installed")
    with pytest.raises(DataError) as caught:
        open_dataset(f"{scheme}://bucket/data")
    assert str(caught.value) == f"{scheme}:// needs {driver}: pip install {driver}"


def test_hugging_face_paths_go_through_the_hubs_client() -> None:
    from huggingface_hub import HfFileSystem

    location = Location.parse("hf://datasets/lerobot/pusht") / "meta" / "info.json"
    assert isinstance(location.filesystem, HfFileSystem)
    assert str(location) == "hf://datasets/lerobot/pusht/meta/info.json"


@pytest.mark.parametrize("name", ["v3.0-video", "v3.0-image", "v2.1-video", "v2.1-image"])
def test_lerobot_data_sets_are_read_from_afar(remote: Any, name: str) -> None:
    remote.put(str(FIXTURES / name), "/store/data", recursive=True)
    there, here = open_dataset("memory://store/data"), open_dataset(FIXTURES / name)
    assert len(there) == 3
    for got, expected in zip(there, here, strict=True):
        assert_same_numbers(got, expected)
        steps = range(expected.description.num_steps)
        frames = got.frames("front", steps)
        assert shown_numbers(frames) == shown_numbers(expected.frames("front", steps))


@pytest.mark.parametrize("writer", [NativeWriter, LeRobotWriter, FoundryWriter])
def test_what_is_written_here_is_read_from_afar(
    remote: Any, tmp_path: Path, writer: type[DatasetWriter]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    dataset = robot_dataset((9, 6))
    convert(Source.of(dataset), writer(destination=folder))  # pyright: ignore[reportCallIssue]
    remote.put(str(folder), "/store/data", recursive=True)
    there, here = open_dataset("memory://store/data"), open_dataset(folder)
    assert there.format_name == here.format_name
    for got, expected in zip(there, here, strict=True):
        assert_same_numbers(got, expected)
        np.testing.assert_array_equal(got.frames("scene", [5, 0]), expected.frames("scene", [5, 0]))
