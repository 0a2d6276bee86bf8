"""How the C library keeps memory for observations of half a megabyte that come and go."""

from __future__ import annotations

import ctypes
import logging

logger = logging.getLogger(__name__)

# glibc's mallopt parameters, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Above the largest message, so that none is mapped by itself, and several of them at once.
_KEPT_BYTES = 256 * 1024 * 1024
_LARGEST_BYTES = 64 * 1024 * 1024


def keep_large_buffers() -> None:
    """Let this process keep what it frees, up to a quarter of a gigabyte.

    Otherwise each image goes back to the kernel when its step is answered, and the next one comes
    as fresh pages, zeroed and faulted in one by one: 40 to 70 page faults a step with four cameras
    and sixteen clients, and a tenth of the server's time. Does nothing where there is no mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        logger.debug("this C library has no mallopt")
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
