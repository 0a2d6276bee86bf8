"""Where data lies: a local folder, `s3://`, `gs://` or `hf://`, behind one small face.

Local paths go straight to the file system. Others go through fsspec, whose drivers (s3fs, gcsfs,
huggingface_hub) are imported only when a location asks for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainer.data.errors import DataError

_DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


@dataclass(frozen=True)
class Location:
    """A file or folder. Two are equal if they are the same place of the same file system."""

    filesystem: Any
    path: str
    scheme: str

    @staticmethod
    def parse(text: str | Path | Location) -> Location:
        """Raises DataError for a scheme whose driver is not installed, or that is unknown."""
        if isinstance(text, Location):
            return text
        scheme, separator, _ = str(text).partition("://")
        if not separator:
            scheme = "file"
        try:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(str(text))
        except ImportError as error:
            driver = _DRIVERS.get(scheme, error.name or scheme)
            raise DataError(f"{scheme}:// needs {driver}: pip install {driver}") from error
        except ValueError as error:
            raise DataError(str(error), where=text) from error
        return Location(filesystem, path, scheme)

    def __str__(self) -> str:
        return self.path if self.is_local else f"{self.scheme}://{self.path}"

    def __truediv__(self, name: str) -> Location:
        return Location(self.filesystem, posixpath.join(self.path, name), self.scheme)

    def inside(self, path: str) -> Location:
        """What lies below, by a path that a data set's own files tell.

        Raises DataError for one that leads elsewhere: whoever made the data set does not choose
        which of this machine's other files are read.
        """
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise DataError(f"names a file outside the data set: {path!r}", where=self)
        return self / path

    @property
    def is_local(self) -> bool:
        return self.scheme == "file"

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/"))

    @property
    def parent(self) -> Location:
        return Location(self.filesystem, posixpath.dirname(self.path.rstrip("/")), self.scheme)

    def exists(self) -> bool:
        with self._reached():
            return bool(self.filesystem.exists(self.path))

    def is_dir(self) -> bool:
        with self._reached():
            return bool(self.filesystem.isdir(self.path))

    def is_file(self) -> bool:
        with self._reached():
            return bool(self.filesystem.isfile(self.path))

    def size(self) -> int:
        """In bytes."""
        with self._reached():
            return int(self.filesystem.size(self.path))

    def children(self) -> list[Location]:
        """What a folder holds, by name."""
        with self._reached():
            names = self.filesystem.ls(self.path, detail=False)
        return [Location(self.filesystem, name, self.scheme) for name in sorted(names)]

    def find(self) -> list[Location]:
        """Every file below, by path."""
        with self._reached():
            names = self.filesystem.find(self.path)
        return [Location(self.filesystem, name, self.scheme) for name in sorted(names)]

    def open(self) -> IO[bytes]:
        """For reading."""
        with self._reached():
            return self.filesystem.open(self.path, "rb")

    def read_bytes(self) -> bytes:
        with self._reached():
            return self.filesystem.cat_file(self.path)

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def local(self) -> Path:
        """The file on this machine's disk: itself, or a copy in the cache that is made once.

        What the remote file system knows of the file's version is part of the copy's name, so a
        changed file is fetched anew.
        """
        if self.is_local:
            return Path(self.path)
        with self._reached():
            version = f"{self} {self.filesystem.ukey(self.path)}"
        digest = hashlib.sha256(version.encode()).hexdigest()
        copy = cache_folder() / digest[:2] / f"{digest[2:]}-{self.name}"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}.partial")
            try:
                with self._reached():
                    self.filesystem.get_file(self.path, str(partial))
                partial.replace(copy)
            finally:
                partial.unlink(missing_ok=True)
        return copy

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Raises DataError where a remote store does not let itself be reached.

        Each driver has errors of its own for a missing credential or network, of no common class.
        """
        try:
            yield
        except (OSError, DataError):
            raise
        except Exception as error:
            if self.is_local:
                raise
            told = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"cannot be reached: {told}", where=self) from error


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "assay" / "data"
