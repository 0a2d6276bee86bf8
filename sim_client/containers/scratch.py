"""Where simulators in containers leave their files: for the run alone, beside its results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim_client.containers.owner import Owner

_PREFIX = ".simulators-"


@contextmanager
def scratch_folder(output: Path, *, run_id: str, owner: Owner) -> Iterator[Path]:
    """A new folder on the disk of the results, removed at the end with all that is in it.

    Before it is made, those are removed whose owners have certainly ended. The owner is told by
    the folder's name: a runner that is killed can leave none behind that nobody may remove.

    run_id: letters and digits, new for each run.
    """
    _remove_orphans(output, here=owner)
    folder = output / f"{_PREFIX}{run_id}-{owner}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphans(output: Path, *, here: Owner) -> None:
    for folder in output.glob(f"{_PREFIX}*"):
        _, _, text = folder.name.removeprefix(_PREFIX).partition("-")
        owner = Owner.parse(text)
        if owner is not None and owner.is_gone(here=here):
            shutil.rmtree(folder, ignore_errors=True)
