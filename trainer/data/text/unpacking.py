"""Compressed files, unpacked once into the cache, so that any line can be found at once."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.locations import Location, cache_folder

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_CHUNK = 2**22


def unpacked(file: Location) -> Path:
    """The file on this machine's disk, without compression.

    Raises DataError for a compressed file that is cut or corrupt.
    """
    local = file.local()
    name = file.name.lower()
    codec = next((codec for ending, codec in _CODECS.items() if name.endswith(ending)), None)
    if codec is None:
        return local
    # Arrow reads both, so that no package is needed for Zstandard.
    import pyarrow

    state = local.stat()
    version = f"{local} {state.st_size} {state.st_mtime_ns}"
    copy = cache_folder() / "unpacked" / hashlib.sha256(version.encode()).hexdigest()
    if copy.exists():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            pyarrow.OSFile(str(local)) as packed,
            pyarrow.CompressedInputStream(packed, codec) as stream,
            atomic_file(copy) as output,
        ):
            while chunk := stream.read(_CHUNK):
                output.write(chunk)
    except (OSError, zlib.error) as error:
        # Arrow's complaints have no number; the system's, such as of a full disk, have one.
        if getattr(error, "errno", None) is None:
            raise DataError(f"not a whole {codec} file: {error}", where=file) from error
        raise
    return copy
