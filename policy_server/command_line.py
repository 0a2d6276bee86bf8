"""The program `policy-server`.

Exit codes: 0 done, or drained after SIGTERM; 1 failed at work; 2 a bad option, target or address;
130 drained after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# What the extra `serve` installs, by the names under which it is imported.
_EXTRA = frozenset(
    {
        "google",
        "grpc_health",
        "grpc_reflection",
        "numpy",
        "prometheus_client",
        "safetensors",
        "torch",
        "tyro",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code. arguments: None takes the process's own."""
    # gRPC's core writes its own lines to stderr, such as one for each client that does not speak
    # TLS. They would stand between the lines of a JSON log, and it looks just once, at import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from policy_server.verbs import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        print(
            f"policy-server needs {error.name}, which is not installed: pip install '.[serve]' in "
            "Assay's checkout",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
