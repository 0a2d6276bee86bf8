"""What `letters` and `table` have in common: what to read, and how to compare it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from step_analysis.usage import UsageError

if TYPE_CHECKING:
    from step_analysis.panel_table import TableRow


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of a verb that compares policies."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Folders, ledgers, results files or tables to read."""
    alpha: float = 0.05
    """Largest chance of a wrong verdict on a task."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself (one) or both together (two)."""
    method: Literal["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"] = (
        "auto"
    )
    """Test; auto is STEP where its table ships or is quick to make, otherwise Lai."""
    confidence: float = 0.95
    """Confidence of the intervals."""
    source_format: Annotated[
        Literal["ledger", "lbm-eval", "foundry", "vla-eval", "lerobot", "csv", "parquet"] | None,
        tyro.conf.arg(name="from"),
    ] = None
    """What the files are, if their names and contents do not say it."""
    count_errors_as_failures: bool = False
    """Count errors that a file scores as failures of the policy so, as its writer does."""
    strict: bool = False
    """Refuse rollouts in which the doctor finds an error or a warning."""

    def rows(self) -> list[TableRow]:
        """The table of the comparison.

        Raises:
            UsageError: nothing to read, an option out of range, or refused by --strict.
            LedgerError: a file is not what it seems.
            OSError: a file can't be read.
        """
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.comparison import compare
        from step_analysis.panel_table import table_rows
        from step_analysis.verbs.rollout_paths import check_findings, read_paths

        rollouts = read_paths(
            self.paths,
            source_format=self.source_format,
            count_infrastructure=self.count_errors_as_failures,
        )
        check_findings(rollouts, is_strict=self.strict)
        try:
            comparison = compare(rollouts.policies, self.alpha, self.method, sides=self.sides)
            return table_rows(comparison, self.confidence)
        except ValueError as error:
            raise UsageError(str(error)) from error
