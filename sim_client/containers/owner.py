"""Whose a container is: labels that tell it, and when somebody else may remove it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RUN_LABEL, OWNER_LABEL, OUTPUT_LABEL = "assay.run", "assay.owner", "assay.output"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, told from any other that has its id: by when it started, in which boot.

    pid_namespace: where the id means something; a process in a container has another.
    """

    pid: int
    start_ticks: int
    pid_namespace: str
    boot_id: str

    def __str__(self) -> str:
        return f"{self.pid}.{self.start_ticks}.{self.pid_namespace}.{self.boot_id}"

    @staticmethod
    def parse(text: str) -> Owner | None:
        """None for what is no owner."""
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts[:3]):
            return None
        return Owner(
            pid=int(parts[0]), start_ticks=int(parts[1]), pid_namespace=parts[2], boot_id=parts[3]
        )

    @staticmethod
    def this_process() -> Owner:
        pid = os.getpid()
        start_ticks = _start_ticks(pid)
        assert start_ticks is not None
        return Owner(
            pid=pid,
            start_ticks=start_ticks,
            pid_namespace=str(Path("/proc/self/ns/pid").stat().st_ino),
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        )

    def is_gone(self, *, here: Owner) -> bool:
        """Whether this process has certainly ended. here: the one that asks."""
        if (self.boot_id, self.pid_namespace) != (here.boot_id, here.pid_namespace):
            return False
        return _start_ticks(self.pid) != self.start_ticks


def labels(*, run_id: str, owner: Owner, output: Path) -> dict[str, str]:
    """What each container of a run bears. output: the evaluation's folder, resolved."""
    return {RUN_LABEL: run_id, OWNER_LABEL: str(owner), OUTPUT_LABEL: str(output)}


def is_orphan(container: Mapping[str, str], *, run_id: str, here: Owner, output: Path) -> bool:
    """Whether a container with these labels is left from an earlier run into the same folder.

    Only where its labels say so and its owner has certainly ended; whatever can't be told, such as
    an owner in another container or of another boot, means no. (A container outlives no boot: the
    engine removes it.)
    """
    owner = Owner.parse(container.get(OWNER_LABEL, ""))
    return (
        container.get(OUTPUT_LABEL) == str(output)
        and container.get(RUN_LABEL) not in (None, run_id)
        and owner is not None
        and owner.is_gone(here=here)
    )


def _start_ticks(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses, with anything in it.
    fields = stat.rpartition(")")[2].split()
    # One that has ended, and whose parent has not asked how, owns nothing.
    return None if fields[0] == "Z" else int(fields[19])
