"""Memory that a process keeps when it frees it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEBIBYTES = 128
PAGES = MEBIBYTES * 2**20 // 4096

# In a process of its own, since it holds for the process's life.
PROGRAM = f"""
import resource
import sys

import numpy as np

from policy_interface.allocator import keep_freed_memory

if sys.argv[1] == "keeping":
    keep_freed_memory()
elif sys.argv[1] == "keeping small ones":
    keep_freed_memory(largest_bytes={MEBIBYTES} * 2**19)


def num_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty({MEBIBYTES} * 2**20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


num_faults()
print(num_faults())
"""


def num_faults(how: str) -> int:
    """Of a block like one that was freed before it."""
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_asked_for_once() -> None:
    assert num_faults("keeping") < PAGES / 100
    # Pages may be huge ones.
    assert num_faults("as ever") >= PAGES / 512
    assert num_faults("keeping small ones") >= PAGES / 512
