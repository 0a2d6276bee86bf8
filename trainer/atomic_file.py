"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PARTIAL_SUFFIX = ".partial"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write what this yields; when the block ends well it takes the place of `path`, on the disk
    for good. A reader sees the old file or the new one, whole. On an exception nothing is left."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """What a killed process left half-written in `folder`."""
    for leftover in folder.glob(f".*{_PARTIAL_SUFFIX}"):
        leftover.unlink()


def sync(path: Path) -> None:
    """Make a file, or the renames in a folder, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
