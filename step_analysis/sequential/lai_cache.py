"""Constants of Lai's test in the user's cache folder, each a small file.

Nothing here vouches for one: who reads it sees whether it is the answer.
"""

import logging
import math
from pathlib import Path

from step_analysis.atomic_file import write_atomically
from step_analysis.sequential.step_tables import CACHE_FOLDER_VARIABLE, cache_folder
from step_analysis.strict_json import FormatError, read_bounded

_VERSION = 1
_MAX_BYTES = 100
_log = logging.getLogger(__name__)


def kept_log_c(n_max: int, alpha_per_side: float) -> float | None:
    """What is there for this design; None where nothing is that could be a logarithm."""
    try:
        text = read_bounded(_path(n_max, alpha_per_side), _MAX_BYTES).decode("ascii")
        log_c = float.fromhex(text)
    except (OSError, FormatError, ValueError, OverflowError):
        return None
    return log_c if math.isfinite(log_c) and log_c <= 0.0 else None


def keep_log_c(n_max: int, alpha_per_side: float, log_c: float) -> None:
    """Put it there, whole or not at all. Where that can't be done, the log says so."""
    try:
        path = _path(n_max, alpha_per_side)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, log_c.hex())
    except OSError as error:
        _log.warning(
            "the constant of Lai's test can't be kept, %s; each process finds it anew: set %s to "
            "a folder that can be written",
            error,
            CACHE_FOLDER_VARIABLE,
        )


def _path(n_max: int, alpha_per_side: float) -> Path:
    """Raises FileNotFoundError where there is no such folder."""
    return cache_folder() / f"lai-v{_VERSION}-{n_max}-{alpha_per_side.hex()}.txt"
