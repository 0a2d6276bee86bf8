"""How the C library keeps memory that comes and goes, for programs that live by large buffers."""

from __future__ import annotations

import ctypes
import logging

logger = logging.getLogger(__name__)

# glibc's mallopt parameters, from malloc.h, and the most that they can say.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_INT_MAX = 2**31 - 1


def keep_freed_memory(*, kept_bytes: int = _INT_MAX, largest_bytes: int = _INT_MAX) -> None:
    """Let this process keep what it frees, up to kept_bytes, of blocks of up to largest_bytes.

    Otherwise a large block goes back to the kernel when it is freed, and the next one comes as
    fresh pages, zeroed and faulted in one by one. Does nothing where there is no mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        logger.debug("this C library has no mallopt")
        return
    mallopt(_M_TRIM_THRESHOLD, kept_bytes)
    mallopt(_M_MMAP_THRESHOLD, largest_bytes)
