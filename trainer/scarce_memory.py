"""What an allocation that was refused looks like, in all the ways that libraries say it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

_SAID = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)
_ASKED_FOR = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?([KMGT]iB|bytes)", re.IGNORECASE)
_OF_A_GPU = re.compile(r"\bCU(DA|BLAS)")
_KIB = 2.0**10


class OutOfMemoryError(MemoryError):
    """In one line: of what, and what needs less."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def exhausted_device(error: BaseException, device: str) -> str:
    """Whose memory it was: that of `device`, on which the work is done, or the cpu's."""
    of_a_gpu = isinstance(error, torch.OutOfMemoryError) or _OF_A_GPU.search(str(error))
    return device if of_a_gpu else "cpu"


def size_asked_for(error: BaseException) -> str:
    """` (1.5 GiB asked for)`, or nothing where the error does not say it."""
    asked = _ASKED_FOR.search(str(error))
    return f" ({_in_words(*asked.groups())} asked for)" if asked else ""


@contextmanager
def memory_told(device: str, remedies: Sequence[str]) -> Iterator[None]:
    """Raises OutOfMemoryError for whatever ran out of memory within.

    device: on which the work is done. remedies: options of the verb that need less.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        exhausted = exhausted_device(error, device)
        less = [*remedies, *(["--device cpu"] if exhausted != "cpu" else [])]
        raise OutOfMemoryError(
            f"{exhausted}: out of memory{size_asked_for(error)}; less is needed with "
            f"{', '.join(less)}"
        ) from error


def _in_words(number: str, unit: str) -> str:
    """`1.5 GiB`."""
    if unit != "bytes":
        return f"{number} {unit}"
    size = float(number)
    for larger in ("bytes", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.3g} {larger}"
        size /= _KIB
    return f"{size:,.0f} TiB"
