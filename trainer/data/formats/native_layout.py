"""The bytes of the training format: one file an episode.

    episodes/000012.episode
        64 bytes    the magic line, padded
        frames      JPEG or PNG files: step by step, and within a step camera by camera
                    without how all files of the camera begin
        shared      how they begin, and of a row what no step changes; see `native_shared`
        rows        one record a control step: time, where its frames lie, all fields, the cameras'
                    matrices; little-endian, aligned as a C compiler would, without what is shared
        footer      JSON: what the episode is and where each column lies in a whole row
        16 bytes    the footer's length, and the magic's first 8 bytes again

So a window costs few reads: its rows are one range of bytes, whatever fields it wants, and the
frames of a step lie side by side. `rows_at` and `shared_bytes` stand in the manifest, so that
opening a file reads what is shared and nothing else.

Files of version 1 share nothing: their rows and frames are whole.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.description_json import description_to_json
from trainer.data.episode import Camera, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.native_shared import SharedParts

MAGIC = b"assay.episode/2\n"
_MAGICS = (MAGIC, b"assay.episode/1\n")
FRAMES_AT = 64
ALIGNMENT = 64

TIME = "@time_s"
# (cameras + 1,) positions in the file: camera c's frame lies from number c to number c + 1.
FRAME_BOUNDS = "@frame_bounds"

_TAIL = struct.Struct("<Q8s")


def intrinsics_column(camera: str) -> str:
    return f"@intrinsics/{camera}"


def extrinsics_column(camera: str) -> str:
    return f"@extrinsics/{camera}"


def row_dtype(fields: Mapping[str, Field], cameras: Mapping[str, Camera]) -> np.dtype[Any]:
    """Of one control step's record. Raises DataError for a field that it cannot hold."""
    columns: list[tuple[str, Any, tuple[int, ...]]] = [(TIME, "<f8", ())]
    if cameras:
        columns.append((FRAME_BOUNDS, "<u8", (len(cameras) + 1,)))
    for name, field in fields.items():
        dtype = np.dtype(field.dtype)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DataError(
                f"expected booleans, integers or floats of up to 8 bytes, got {field.dtype}",
                field=name,
            )
        if name.startswith("@"):
            raise DataError("names that begin with @ are the format's own", field=name)
        columns.append((name, dtype.newbyteorder("<"), field.shape))
    for name, camera in cameras.items():
        if camera.has_intrinsics:
            columns.append((intrinsics_column(name), "<f8", (3, 3)))
        if camera.has_extrinsics:
            columns.append((extrinsics_column(name), "<f8", (4, 4)))
    return np.dtype(columns, align=True)


def file_header() -> bytes:
    return MAGIC.ljust(FRAMES_AT, b"\0")


def file_footer(
    description: EpisodeDescription, shared: SharedParts, shared_at: int, rows_at: int
) -> bytes:
    """What the file says of itself, so that it can be read without its manifest."""
    dtype = shared.dtype
    columns = {}
    for name, (column, offset, *_) in (dtype.fields or {}).items():
        columns[name] = {
            "offset": offset,
            "dtype": column.base.str,
            "shape": list(column.shape),
        }
    told = {
        "description": description_to_json(description),
        "shared_at": shared_at,
        "rows_at": rows_at,
        "row_bytes": shared.row_bytes,
        "whole_row_bytes": dtype.itemsize,
        "columns": columns,
    }
    text = json.dumps(told).encode()
    return text + _TAIL.pack(len(text), MAGIC[:8])


def read_footer(path: Path) -> dict[str, Any]:
    """Raises DataError for a file that is cut or of another kind."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
        size = file.seek(0, 2)
        if start not in _MAGICS or size < FRAMES_AT + _TAIL.size:
            raise DataError(f"expected a file that begins with {MAGIC!r}", where=path)
        file.seek(size - _TAIL.size)
        length, end = _TAIL.unpack(file.read(_TAIL.size))
        if end != MAGIC[:8] or length > size - FRAMES_AT - _TAIL.size:
            raise DataError("the file's end is missing: it is cut short", where=path)
        file.seek(size - _TAIL.size - length)
        try:
            return json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise DataError(f"corrupt footer: {error}", where=path) from error
