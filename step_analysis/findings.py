"""What the doctor finds: a defect of the rollouts, how often, and what it does to the numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters. `--strict` refuses errors and warnings, never notes."""

    ERROR = "error"
    """A number that can't be right as it stands: something was mixed or contradicts itself."""
    WARNING = "warning"
    """The numbers hold with a reservation, which the effect states."""
    NOTE = "note"
    """Worth knowing; no number changes."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing, with its count and its effect."""

    code: str
    """What kind it is, in stable kebab-case, e.g. 'errors-counted-as-failures'."""
    severity: Severity
    policy: str | None
    """None: it concerns several policies."""
    task: str | None
    """None: it concerns several tasks."""
    count: int
    """How many episodes, files or settings are concerned: the text says which."""
    text: str
    """What is wrong, in one line."""
    effect: str
    """What it does to the numbers, in one line."""
    numbers: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The figures that the effect is about, by name: rates within [0, 1], p-values, counts."""

    @property
    def is_serious(self) -> bool:
        """Whether `--strict` refuses the rollouts for it."""
        return self.severity is not Severity.NOTE

    @property
    def where(self) -> str:
        """The policy and the task as a reader says them; empty if it concerns several of both."""
        return ", ".join(name for name in (self.policy, self.task) if name is not None)

    def to_json(self) -> dict[str, Any]:
        """As `step-analysis doctor --json` prints it."""
        return asdict(self)


def most_severe_first(findings: Iterable[Finding]) -> list[Finding]:
    """In order of severity; within one severity in the order in which they were found."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
