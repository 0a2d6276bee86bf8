"""What the doctor finds: a fault of the data, where it is, what it costs and how to mend it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """From the worst on."""

    ERROR = "error"
    """A policy trained on it is ruined, or training stops."""
    WARNING = "warning"
    """A policy trained on it is probably worse than it need be."""
    NOTE = "note"
    """Worth knowing; nothing is the worse for it."""

    def reaches(self, level: Severity) -> bool:
        order = list(Severity)
        return order.index(self) <= order.index(level)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, told once however many episodes have it.

    check: which check found it. episodes: those that have it, in the data set's order; empty
    where it concerns the data set as a whole. subject: the field or camera. steps: where in the
    first of the episodes, the last step left out. measured, cost, remedy: a sentence each.
    numbers: what was measured, for machines, with units in the names.
    """

    check: str
    severity: Severity
    measured: str
    cost: str
    remedy: str
    episodes: tuple[str, ...] = ()
    subject: str | None = None
    steps: tuple[int, int] | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A number that is NaN or infinite, of which JSON knows none, is None."""
        numbers = {
            name: value if math.isfinite(value) else None for name, value in self.numbers.items()
        }
        return asdict(self) | {"numbers": numbers, "episodes": list(self.episodes)}


def most_severe_first(findings: Iterable[Finding]) -> list[Finding]:
    """Within one severity in the order in which they were found."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
