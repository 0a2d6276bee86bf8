"""What a simulator's process is made of, as it finds it itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import policy_interface.contract
import sim_client
from policy_interface.image_bill import image_facts


@cache
def versions_here() -> dict[str, str]:
    """Versions by name; `assay_source` tells two states of our own code apart."""
    return {
        "assay": version_of("assay"),
        "assay_source": _source_digest(),
        "drake": version_of("drake"),
        "numpy": version_of("numpy"),
        "python": platform.python_version(),
    }


@cache
def machine_facts() -> dict[str, str]:
    """The versions, what kind of machine this is, and what image, if it is one."""
    return {
        **versions_here(),
        **image_facts(),
        "machine": platform.machine(),
        "platform": platform.platform(),
    }


def version_of(distribution: str) -> str:
    """Its installed version, or that it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _source_digest() -> str:
    """SHA-256 over the modules of the simulator and of the interface, by their names."""
    digest = hashlib.sha256()
    for package in (sim_client.__path__[0], Path(policy_interface.contract.__file__).parent):
        root = Path(package)
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
