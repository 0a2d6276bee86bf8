"""A run's numbers as JSON lines, for programs; under the names that TensorBoard has them by.

{"step": 400, "unix_time_s": 1795903200.5, "train/loss": 2.31, "validation/loss": 2.4}

A line is what was told of an optimizer step at once. What is known of it only later, such as how
often its checkpoint succeeded in simulation, is another line of that step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from trainer.atomic_file import atomic_file


class MetricsFile:
    """Each line is with the system as soon as it was told, so that a killed process loses none."""

    def __init__(self, path: Path, step: int) -> None:
        """step: that from which on lines are void, since a run goes back to before it.

        They are removed, so that no step is told of in two ways, and so is what a crash has left
        half-written. Raises OSError.
        """
        if path.exists():
            with path.open("rb") as before, atomic_file(path) as file:
                file.writelines(line for line in before if _stands(line, step))
        self._file = path.open("ab")

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Raises OSError."""
        line: dict[str, float | None] = {"step": step, "unix_time_s": round(time.time(), 3)}
        # JSON has no other word for what is infinite or no number.
        line |= {name: float(x) if math.isfinite(x) else None for name, x in numbers.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _stands(line: bytes, step: int) -> bool:
    """Whether it is whole, and of an optimizer step before `step`."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return False
    its_step = told.get("step") if isinstance(told, dict) else None
    return line.endswith(b"\n") and isinstance(its_step, int) and its_step < step
