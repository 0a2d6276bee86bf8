"""Episodes that were written but not yet put together, for formats whose files hold several.

Each lies whole in a folder of its own below `.parts` in the destination, so that a conversion that
was killed goes on with the others. They are removed when the data set is complete; it takes no more
episodes then, since its files would have to be put together from parts that are gone.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.atomic_file import sync
from trainer.data.errors import DataError

_PARTS = ".parts"
_REMOVED = ".parts.removed"
_ASSEMBLING = ".assembling"


@dataclass(frozen=True)
class StagedEpisodes:
    """complete: the last file or folder that a complete data set has, relative to the destination;
    it is put in place after everything else."""

    destination: Path
    complete: str

    def begin(self) -> None:
        """Remove what an earlier attempt left half written."""
        for leftover in (*self._parts.glob("*.partial"), self.destination / _ASSEMBLING):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(self.destination / _REMOVED, ignore_errors=True)

    @contextmanager
    def writing(self, index: int) -> Iterator[Path]:
        """A folder to write an episode's files into. It becomes the episode's when the block ends
        without an error, on the disk for good, in place of an earlier one.

        Raises DataError at the end where the data set is complete already.
        """
        self._parts.mkdir(parents=True, exist_ok=True)
        partial = self._parts / f"{index:06d}.{uuid.uuid4().hex}.partial"
        partial.mkdir()
        try:
            yield partial
            if self.is_complete:
                raise DataError(
                    "the data set is complete and takes no more episodes; to have this one in it, "
                    "convert to another folder",
                    where=self.destination,
                )
            for file in partial.iterdir():
                sync(file)
            sync(partial)
            folder = self.folder(index)
            if folder.exists():
                folder.rename(folder.with_name(f"{index:06d}.{uuid.uuid4().hex}.partial"))
            partial.rename(folder)
            sync(self._parts)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def folder(self, index: int) -> Path:
        return self._parts / f"{index:06d}"

    def has(self, index: int) -> bool:
        """Whether an episode is staged, or part of the complete data set already."""
        return self.folder(index).is_dir() or self.is_complete

    @property
    def is_complete(self) -> bool:
        """No whole episode is staged any more: to take them away is the last thing done."""
        if not (self.destination / self.complete).exists():
            return False
        return not any(part.name.isdigit() for part in self._parts.glob("*"))

    @contextmanager
    def assembling(self) -> Iterator[Path]:
        """A folder to put the data set together in. When the block ends without an error, what it
        holds takes its place in the destination, and the staged episodes are removed."""
        folder = self.destination / _ASSEMBLING
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            _sync_all(folder)
            last = Path(self.complete).parts[0]
            for item in sorted(folder.iterdir(), key=lambda item: (item.name == last, item.name)):
                target = self.destination / item.name
                if target.is_dir():
                    shutil.rmtree(target)
                item.rename(target)
            sync(self.destination)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        # Renamed first: a half removed folder would look like episodes that were lost.
        removed = self.destination / _REMOVED
        self._parts.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    @property
    def _parts(self) -> Path:
        return self.destination / _PARTS


def _sync_all(folder: Path) -> None:
    """Every file below, and the folders that name them."""
    for item in folder.rglob("*"):
        sync(item)
    sync(folder)
