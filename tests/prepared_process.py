"""Commands that change something of their own process before they become another program.

subprocess's preexec_fn does the same between fork and exec. A process in which gRPC has run must
not fork: its handlers abort about one child in fifty.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_LIMIT_FILES = """
import os, resource, sys
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
os.execv(sys.argv[2], sys.argv[2:])
"""

_IGNORE_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def with_files_of_at_most(num_bytes: int, command: Sequence[str]) -> list[str]:
    """No file that it writes can grow beyond that, as on a full disk."""
    return [sys.executable, "-c", _LIMIT_FILES, str(num_bytes), *command]


def with_ctrl_c_ignored(command: Sequence[str]) -> list[str]:
    """As a shell starts what it runs in the background."""
    return [sys.executable, "-c", _IGNORE_CTRL_C, *command]
