"""Make the stubs in `policy_interface/generated` from the `.proto` sources: `make stubs`.

The stubs are committed, so that a robot needs no compiler; a test compares them with what this
makes. grpcio-tools comes with the `dev` extra.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
SOURCES = PACKAGE.parent
WIRES = ("lbm_policy_interface", "assay_policy_interface")

# protoc writes `from lbm_policy_interface import X_pb2`, which would need a top-level package of
# that name; ours live inside policy_interface.generated.
_ABSOLUTE_IMPORT = re.compile(rf"^from ({'|'.join(WIRES)}) import ", flags=re.MULTILINE)


def generate(output: Path) -> list[Path]:
    """Write the stubs under `output`; return their paths, sorted. Raises RuntimeError."""
    from grpc_tools import protoc

    sources = sorted(source for wire in WIRES for source in (SOURCES / wire).glob("*.proto"))
    output.mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={SOURCES}",
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--grpc_python_out={output}",
            *(str(source) for source in sources),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status} on {sources}")
    stubs = sorted(stub for wire in WIRES for stub in (output / wire).glob("*_pb2*.py*"))
    for stub in stubs:
        text = stub.read_text(encoding="utf-8")
        stub.write_text(_ABSOLUTE_IMPORT.sub(r"from ..\1 import ", text), encoding="utf-8")
    return stubs


if __name__ == "__main__":
    for path in generate(PACKAGE / "generated"):
        print(path.relative_to(SOURCES), file=sys.stderr)
