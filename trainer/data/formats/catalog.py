"""Which formats there are, and which one a folder holds.

A format's module has two functions: `recognises(location)`, cheap, and `open_dataset(location)`.
The modules are imported when they are needed, because some want packages that others don't.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.writer import LEDGER_FOLDER, UNFINISHED
from trainer.data.locations import Location

# By name, in the order of trying: what is told from a single file's presence comes first.
FORMATS = {
    "native": "trainer.data.formats.native",
    "demonstrations": "trainer.data.formats.demonstrations",
    "lerobot-v3": "trainer.data.formats.lerobot_v3",
    "lerobot-v2": "trainer.data.formats.lerobot_v2",
    "foundry": "trainer.data.formats.foundry",
    "spartan": "trainer.data.formats.spartan",
    "hdf5": "trainer.data.formats.hdf5",
    "rlds": "trainer.data.formats.rlds",
}


def open_dataset(place: str | Path | Location, format_name: str | None = None) -> Dataset:
    """Open a data set, its format recognised unless named.

    Raises DataError for a place that does not exist, for an unknown format, and where none fits.
    """
    location = Location.parse(place)
    if format_name is not None and format_name not in FORMATS:
        close = difflib.get_close_matches(format_name, FORMATS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(f"unknown format {format_name!r}{hint}; there are {', '.join(FORMATS)}")
    if not location.exists():
        raise DataError("no such file or folder", where=location)
    name = format_name or _recognised(location)
    return importlib.import_module(FORMATS[name]).open_dataset(location)


def _recognised(location: Location) -> str:
    for name, module in FORMATS.items():
        if importlib.import_module(module).recognises(location):
            return name
    if (location / LEDGER_FOLDER).is_dir():
        raise DataError(UNFINISHED, where=location)
    raise DataError(
        f"no known format recognised; there are {', '.join(FORMATS)}, and --from names one",
        where=location,
    )
