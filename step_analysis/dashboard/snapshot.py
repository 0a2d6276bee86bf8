"""What the dashboard knows of a folder at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_analysis.findings import Finding
from step_analysis.loading import PolicyRollouts
from step_analysis.reading.discovery import LeftOut
from step_analysis.rollouts import EvaluationDesign, RolloutRecord
from step_analysis.study.design import StudyDesign

NOMINAL = "nominal"
"""The condition of rollouts without a distribution shift and without added latency."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything read so far. `version` grows with each change of what is shown."""

    root: Path
    version: int = 0
    conditions: Mapping[str, tuple[PolicyRollouts, ...]] = field(default_factory=dict)
    """Policies by name, for each condition that episodes were run under; nominal first."""
    error_attempts: Mapping[str, Sequence[RolloutRecord]] = field(default_factory=dict)
    """By condition: every attempt that ended in an error, settled by a later one or not."""
    running: frozenset[tuple[str, str]] = frozenset()
    """(condition, policy) of the ledgers that a process is writing now."""
    faults: tuple[Finding, ...] = ()
    """Files that can't be read."""
    left_out: tuple[LeftOut, ...] = ()
    study_design: StudyDesign | None = None
    """What was locked beforehand, where the folder is a study's."""
    num_files: int = 0
    num_files_read: int = 0
    is_complete: bool = False
    """Whether every file was looked at: the first reading of a large folder takes a while."""

    @property
    def policy_indices(self) -> dict[str, int]:
        """Each policy's index by name over all conditions, which sets its colour."""
        names = {each.policy for policies in self.conditions.values() for each in policies}
        return {name: index for index, name in enumerate(sorted(names))}


def condition_of(design: EvaluationDesign | None) -> str:
    """The distribution shift and the added latency that a design was run with, in words."""
    if design is None:
        return NOMINAL
    parts = []
    shift: Any = design.station.get("shift")
    if isinstance(shift, str) and shift:
        parts.append(shift)
    latency_ms: Any = design.station.get("latency_ms")
    if type(latency_ms) in (int, float) and latency_ms > 0:
        parts.append(f"latency {latency_ms:g} ms")
    return ", ".join(parts) or NOMINAL
