"""What lies where in a VLA Foundry tar shard, found without reading images or arrays.

A shard holds windows, each as several files that share the name before the first dot:

    ID.CAMERA_tOFFSET.jpg      a frame, OFFSET control steps from the window's anchor
    ID.lowdim.npz              arrays with a row a step of the window, and past_mask, future_mask
    ID.metadata.json           the episode, the anchor's step, how long the episode was
    ID.language_instructions.json
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from trainer.data.errors import DataError
from trainer.data.formats.npz_members import NpzMembers
from trainer.data.locations import Location

_IMAGE = re.compile(r"(.+)_t(-?\d+)\.jpe?g")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a shard: where its bytes are."""

    shard: Location
    offset: int
    size: int

    def read(self) -> bytes:
        """Raises DataError where the shard has become shorter."""
        with _local_file(self.shard) as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise DataError("the shard was cut since it was opened", where=self.shard)
        return data


@dataclass(frozen=True, kw_only=True)
class FoundryWindow:
    """images: by camera and offset from the anchor. metadata: as the shard has it."""

    key: str
    shard: Location
    metadata: Mapping[str, Any]
    images: Mapping[tuple[str, int], Member]
    lowdim_member: Member
    instructions_member: Member | None

    @property
    def episode_id(self) -> str:
        if "episode_id" in self.metadata:
            return str(self.metadata["episode_id"])
        # What VLA Foundry makes of LeRobot data sets.
        return f"episode_{int(self.metadata['episode_index']):06d}"

    @property
    def anchor(self) -> int:
        """Control step of the episode."""
        told = self.metadata.get("anchor_timestep")
        return int(self.metadata["frame_index"] if told is None else told)

    @property
    def past(self) -> int:
        """Steps of the window before the anchor."""
        return int(self.metadata["anchor_relative_idx"])

    def lowdim(self) -> NpzMembers:
        """Its arrays, in memory. Raises DataError where the shard was cut."""
        data = self.lowdim_member.read()
        return NpzMembers(lambda: io.BytesIO(data), f"{self.shard}: {self.key}.lowdim.npz")

    def instructions(self) -> Mapping[str, tuple[str, ...]]:
        """By kind. Raises DataError for anything else."""
        if self.instructions_member is None:
            return {}
        name = f"{self.key}.language_instructions.json"
        told = _parse_json(self.instructions_member.read(), name, self.shard)
        return {
            str(kind): (texts,) if isinstance(texts, str) else tuple(map(str, texts))
            for kind, texts in told.items()
        }


@dataclass(frozen=True, kw_only=True)
class ShardContents:
    """windows: those that can be read, in the shard's order. problem: why others cannot."""

    windows: list[FoundryWindow]
    problem: DataError | None = None


def read_shard(shard: Location, num_windows: int) -> ShardContents:
    """num_windows: as the manifest tells. A shard that is missing, truncated or holds other things
    has a problem, and whatever windows are whole all the same."""
    problems: list[str] = []
    windows: list[FoundryWindow] = []
    try:
        with _local_file(shard) as file:
            files = _files_of_windows(file, shard, problems)
            for key, members in files.items():
                try:
                    windows.append(_window(file, shard, key, members))
                except DataError as error:
                    problems.append(str(error))
    except FileNotFoundError:
        problems.append(f"{shard}: no such shard, but the manifest names it")
    except OSError as error:
        problems.append(f"{shard}: {error}")
    if not problems and len(windows) != num_windows:
        problems.append(
            f"{shard}: the manifest tells of {num_windows} windows, the shard holds {len(windows)}"
        )
    if not problems:
        return ShardContents(windows=windows)
    told = f"{problems[0]}; {len(windows)} of its {num_windows} windows can be read"
    return ShardContents(windows=windows, problem=DataError(told))


def _files_of_windows(
    file: IO[bytes], shard: Location, problems: list[str]
) -> Mapping[str, Mapping[str, Member]]:
    """By window and by what follows its name. Adds to problems where the shard ends too early."""
    files: dict[str, dict[str, Member]] = {}
    try:
        for name, member in _members(file, shard):
            key, _, rest = name.rsplit("/", 1)[-1].partition(".")
            files.setdefault(key, {})[rest] = member
    except (DataError, tarfile.TarError, EOFError, OSError) as error:
        told = isinstance(error, DataError)
        problems.append(str(error) if told else f"{shard}: not a whole tar file: {error}")
        # Of the last window nobody can know which files would have followed.
        if files:
            files.popitem()
    return files


def _members(file: IO[bytes], shard: Location) -> Iterator[tuple[str, Member]]:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        after = 0
        for info in archive:
            after = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if info.offset_data + info.size > end:
                raise DataError(f"truncated in the middle of {info.name}", where=shard)
            if info.isfile():
                yield info.name, Member(shard=shard, offset=info.offset_data, size=info.size)
    file.seek(after)
    if file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
        raise DataError("truncated: the tar file's end is missing", where=shard)


def _window(
    file: IO[bytes], shard: Location, key: str, members: Mapping[str, Member]
) -> FoundryWindow:
    if "lowdim.npz" not in members or "metadata.json" not in members:
        raise DataError(
            f"window {key}: expected lowdim.npz and metadata.json, got {sorted(members)}",
            where=shard,
        )
    images = {
        (match[1], int(match[2])): member
        for name, member in members.items()
        if (match := _IMAGE.fullmatch(name))
    }
    place = members["metadata.json"]
    file.seek(place.offset)
    metadata = _parse_json(file.read(place.size), f"{key}.metadata.json", shard)
    window = FoundryWindow(
        key=key,
        shard=shard,
        metadata=metadata,
        images=images,
        lowdim_member=members["lowdim.npz"],
        instructions_member=members.get("language_instructions.json"),
    )
    try:
        _ = window.episode_id, window.anchor, window.past
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"window {key}: its metadata don't tell the episode and step: no {error}", where=shard
        ) from error
    return window


def _parse_json(data: bytes, name: str, shard: Location) -> Mapping[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON: {error}", where=shard) from error
    if not isinstance(told, dict):
        raise DataError(f"{name}: expected names and values, got {told!r}", where=shard)
    return told


def _local_file(shard: Location) -> IO[bytes]:
    return shard.local().open("rb")
