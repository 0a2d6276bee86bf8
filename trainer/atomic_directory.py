"""Directories that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.atomic_file import sync

_PARTIAL_SUFFIX = ".partial"


@contextmanager
def atomic_directory(path: Path, *, may_be_empty: bool = False) -> Iterator[Path]:
    """Fill the directory that this yields; it takes its name when the block ends well.

    may_be_empty: a directory of that name without anything in it is replaced.
    On an exception nothing is left. Raises FileExistsError if the path is there already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_replaced = may_be_empty and path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_replaced:
        what = "already exists, and is not an empty folder" if may_be_empty else "already exists"
        raise FileExistsError(f"{path}: {what}")
    partial = Path(
        tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL_SUFFIX)
    )
    try:
        # mkdtemp makes a folder for this user alone; a checkpoint is for whoever may read it.
        partial.chmod(0o755)
        yield partial
        publish_directory(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish_directory(partial: Path, path: Path) -> None:
    """Give a whole directory its name, on the disk for good."""
    for file in partial.rglob("*"):
        sync(file)
    sync(partial)
    partial.rename(path)
    sync(path.parent)


def remove_partial_directories(parent: Path) -> None:
    """What a killed process left half-written under `parent`."""
    for leftover in parent.glob(f".*{_PARTIAL_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)
