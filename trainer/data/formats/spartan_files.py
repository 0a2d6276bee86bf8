"""Where diffusion spartan episodes are: found recursively in folders, and in tar files.

LBM Eval's training data are a tar a skill, in which an episode's files lie at

    tasks/SKILL/STATION/sim/bc/teleop/DATE/diffusion_spartan/episode_N/processed/observations.npz

A tar is read where it lies: its index is made once, and a file in it is a range of its bytes.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from trainer.data.errors import DataError
from trainer.data.locations import Location

OBSERVATIONS = "observations.npz"
_PROCESSED = f"processed/{OBSERVATIONS}"
# Enough for the first files of an episode, in whatever order they were packed.
_MEMBERS_TO_LOOK_AT = 200


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """path: of the folder `processed`, in its file system or tar. files: openers, by path below it.

    damage: why the episode cannot be whole, where that is known before it is read.
    """

    path: str
    where: str
    files: Mapping[str, Callable[[], IO[bytes]]]
    damage: str | None = None


def holds_episodes(location: Location) -> bool:
    """Cheap: ends at the first that it meets."""
    if not location.is_dir():
        return _is_tar(location) and _tar_holds_episodes(location)
    for _, folders, files in location.filesystem.walk(location.path):
        folders.sort()
        if any(name.endswith(".tar") for name in files):
            first = min(name for name in files if name.endswith(".tar"))
            return _tar_holds_episodes(location / first)
        if OBSERVATIONS in files:
            return True
        if files and not folders:
            return False
    return False


def find_episodes(location: Location) -> list[EpisodeFiles]:
    """In the order of their paths. Raises DataError for a tar that cannot be read at all."""
    if not location.is_dir():
        return _in_tar(location)
    found: list[EpisodeFiles] = []
    below: dict[str, dict[str, Callable[[], IO[bytes]]]] = {}
    for file in location.find():
        if _is_tar(file):
            found += _in_tar(file)
        else:
            _file_away(below, file.path, file.open)
    found += _episodes(below, lambda path: path)
    return sorted(found, key=lambda episode: _natural_order(episode.path))


def _episodes(
    below: Mapping[str, Mapping[str, Callable[[], IO[bytes]]]],
    where: Callable[[str], str],
    damage: Mapping[str, str] | None = None,
) -> Iterator[EpisodeFiles]:
    for path, files in below.items():
        told = (damage or {}).get(path)
        if told is None and OBSERVATIONS not in files and "actions.npz" in files:
            told = f"no {OBSERVATIONS}"
        if OBSERVATIONS in files or told:
            yield EpisodeFiles(path=path, where=where(path), files=files, damage=told)


def _file_away(
    below: dict[str, dict[str, Callable[[], IO[bytes]]]], path: str, opener: Callable[[], IO[bytes]]
) -> str | None:
    """Under its episode's folder, which is returned."""
    head, processed, name = path.rpartition("/processed/")
    if not processed:
        return None
    folder = f"{head}/processed"
    below.setdefault(folder, {})[name] = opener
    return folder


def _in_tar(location: Location) -> list[EpisodeFiles]:
    below: dict[str, dict[str, Callable[[], IO[bytes]]]] = {}
    damage: dict[str, str] = {}
    folder: str | None = None
    try:
        for member in _members(location):
            path = posixpath.normpath(member.name)
            folder = _file_away(below, path, _TarRange(location, member.offset_data, member.size))
    except (tarfile.TarError, EOFError, OSError) as error:
        if folder is None:
            raise DataError(f"cannot be read as a tar file: {error}", where=location) from error
        damage[folder] = (
            f"the tar file is cut short here ({error}): this episode, and any after it, are lost"
        )
    found = list(_episodes(below, lambda path: f"{location}: {path}", damage))
    return sorted(found, key=lambda episode: _natural_order(episode.path))


def _members(location: Location) -> Iterator[tarfile.TarInfo]:
    size = location.size()
    with location.open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if not member.isfile():
                continue
            if member.offset_data + member.size > size:
                # Python's reader takes a cut last file for the end.
                raise tarfile.ReadError(f"{member.name} is not whole")
            yield member


def _tar_holds_episodes(location: Location) -> bool:
    try:
        for number, member in enumerate(_members(location)):
            if member.name.endswith(_PROCESSED):
                return True
            if number > _MEMBERS_TO_LOOK_AT:
                return False
    except (tarfile.TarError, EOFError, OSError):
        return False
    return False


def _is_tar(location: Location) -> bool:
    return location.name.endswith(".tar")


def _natural_order(path: str) -> list[tuple[str, int]]:
    """episode_9 before episode_10."""
    parts = []
    for part in path.split("/"):
        text = part.rstrip("0123456789")
        parts.append((text, int(part[len(text) :] or -1)))
    return parts


@dataclass(frozen=True)
class _TarRange:
    """Opens a file inside a tar. Called, it behaves as `Location.open` does."""

    location: Location
    offset: int
    size: int

    def __call__(self) -> IO[bytes]:
        return io.BufferedReader(_RangeFile(self.location.open(), self.offset, self.size), 1 << 16)


class _RangeFile(io.RawIOBase):
    """`size` bytes of a file from `offset` on, as a file."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._offset + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
