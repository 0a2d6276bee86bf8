"""The checkpoints in a folder, as they arrive.

A checkpoint is a folder with a MANIFEST.json that lists the size and SHA-256 of each of its files;
its digest, by which its policy is known, is the SHA-256 of the manifest. The trainer renames a
checkpoint into place when it is whole; one that is being copied here is not, so each file is
compared with the manifest before a checkpoint is taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from step_analysis.rollouts import check_name
from step_analysis.strict_json import FormatError, parse_object, read_bounded, shown

_MANIFEST = "MANIFEST.json"
_FORMAT = "assay.checkpoint/1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """name: its path below the folder. digest: of its manifest, as its server states it."""

    path: Path
    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """A folder with a manifest that is not taken, or not yet."""

    path: Path
    reason: str


class Arrivals:
    """Looks for checkpoints below a folder; what was found whole once is not read again."""

    def __init__(self, folder: Path, *, besides: Path) -> None:
        """besides: a folder, perhaps below this one, that is not looked into."""
        self._folder = folder
        self._besides = besides.absolute()
        self._whole: set[tuple[Path, str]] = set()

    def look(self) -> tuple[list[Checkpoint], list[PassedOver]]:
        """Those that are whole, the oldest first, and what was passed over.

        Raises:
            OSError: the folder can't be read.
        """
        found: list[tuple[int, Checkpoint]] = []
        passed_over: list[PassedOver] = []
        for path in self._folders():
            try:
                checkpoint = self._read(path)
                found.append(((path / _MANIFEST).stat().st_mtime_ns, checkpoint))
            except (FormatError, OSError) as error:
                passed_over.append(PassedOver(path=path, reason=str(error)))
        found.sort(key=lambda each: (each[0], each[1].name))
        return [checkpoint for _, checkpoint in found], passed_over

    def _folders(self) -> Iterator[Path]:
        for folder, subfolders, names in os.walk(self._folder, onerror=_raise):
            place = Path(folder)
            if _MANIFEST in names:
                subfolders.clear()
                yield place
            # Hidden ones are those that the trainer has not finished.
            subfolders[:] = sorted(
                name
                for name in subfolders
                if not name.startswith(".") and (place / name).absolute() != self._besides
            )

    def _read(self, path: Path) -> Checkpoint:
        """Raises FormatError, OSError for what is not whole, or no checkpoint."""
        name = path.relative_to(self._folder).as_posix()
        check_name(name, "name")
        if "," in name:
            raise FormatError("name: commas separate the names of policies; rename the folder")
        text = read_bounded(path / _MANIFEST)
        digest = hashlib.sha256(text).hexdigest()
        if (path, digest) not in self._whole:
            manifest = parse_object(text, _MANIFEST)
            if manifest.get("format") != _FORMAT:
                raise FormatError(
                    f"{_MANIFEST}: format {_FORMAT!r} expected, got {shown(manifest.get('format'))}"
                )
            _check_files(path, manifest.get("files"))
            self._whole.add((path, digest))
        return Checkpoint(path=path, name=name, digest=digest)


def _check_files(path: Path, files: Any) -> None:
    if not isinstance(files, Mapping) or not files:
        raise FormatError(f"{_MANIFEST}: files: an object expected, got {shown(files)}")
    for name, entry in files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise FormatError(f"{_MANIFEST}: files: {shown(name)} is no file of the checkpoint")
        if not isinstance(entry, Mapping):
            raise FormatError(f"{_MANIFEST}: {shown(name)}: an object expected, got {shown(entry)}")
        with (path / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # The size first: while a large file is being copied it is not read again and again.
            if size != entry.get("bytes"):
                raise FormatError(
                    f"{name} has {size} bytes of {shown(entry.get('bytes'))}: not whole yet"
                )
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.get("sha256"):
            raise FormatError(f"{name}: its SHA-256 is not that of {_MANIFEST}: not whole")


def _raise(error: OSError) -> None:
    raise error
