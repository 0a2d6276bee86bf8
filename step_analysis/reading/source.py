"""What a reader makes of one file, whatever its format."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from step_analysis.provenance import Provenance
from step_analysis.rollouts import EvaluationDesign, RolloutRecord

SourceFormat = Literal["ledger", "lbm-eval", "foundry", "vla-eval", "lerobot", "csv", "parquet"]
SOURCE_FORMATS: tuple[SourceFormat, ...] = get_args(SourceFormat)


@dataclass(frozen=True, kw_only=True)
class PolicySource:
    """What one file says about one policy."""

    path: Path
    policy: str
    records: Sequence[RolloutRecord]
    """In the file's order; an episode that is there twice is here twice."""
    requested: Mapping[str, Collection[int]]
    """Scenario indices by task, done or not."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """By task, where the file records the number of episodes fixed beforehand."""
    scored_as_failure: Collection[tuple[str, int]] = ()
    """(task, scenario index) of what the file scores as a failure of the policy although its
    message names the infrastructure."""
    design: EvaluationDesign | None = None
    provenance: Provenance | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """How the episodes were run, as far as the file says, by dotted name: two policies are
    comparable only if these agree."""
    remarks: tuple[str, ...] = ()
    """What was read by convention rather than because the file says so."""


def flattened(value: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested settings by dotted name: {'camera': {'fps': 10}} is {'<prefix>.camera.fps': 10}."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= flattened(inner, f"{prefix}.{name}")
        else:
            flat[f"{prefix}.{name}"] = inner
    return flat
