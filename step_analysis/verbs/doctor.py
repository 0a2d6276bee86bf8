"""`step-analysis doctor`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """List what is wrong with rollouts: how often, and what it does to the numbers.

    Finds errors counted as failures, successes before the policy acted, missing or unequal
    scenarios, differing budgets, duplicates, mixed protocols, unequal tasks, order effects and
    signs of optional stopping. Exits with 0 whatever it finds; with --strict with 1 if anything
    is more than a note.

    Example: step-analysis doctor eval_results --json
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Folders, ledgers, results files or tables to read."""
    source_format: Annotated[
        Literal["ledger", "lbm-eval", "foundry", "vla-eval", "lerobot", "csv", "parquet"] | None,
        tyro.conf.arg(name="from"),
    ] = None
    """What the files are, if their names and contents do not say it."""
    count_errors_as_failures: bool = False
    """Count errors that a file scores as failures of the policy so, as its writer does."""
    early_s: float = 1.0
    """Successes sooner than this, in simulated seconds, are told of."""
    strict: bool = False
    """Exit with 1 if there is an error or a warning."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the findings, the most severe first."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.doctor.examination import examine
        from step_analysis.doctor.tally import plural
        from step_analysis.verbs.rollout_paths import count_by_severity, read_paths

        rollouts = read_paths(
            self.paths,
            source_format=self.source_format,
            count_infrastructure=self.count_errors_as_failures,
            allow_mixed_checkpoints=True,
        )
        findings = examine(rollouts.policies, left_out=rollouts.left_out, early_s=self.early_s)
        if self.json:
            print(json.dumps({"findings": [finding.to_json() for finding in findings]}))
        else:
            for finding in findings:
                where = f"{finding.where}: " if finding.where else ""
                print(f"{finding.severity.value}: {finding.code}: {where}{finding.text}")
                print(f"    {finding.effect}")
            num_tasks = len({task for policy in rollouts.policies for task in policy.tasks})
            print(
                f"{count_by_severity(findings)} in the rollouts of "
                f"{plural(len(rollouts.policies), 'policy')} on {plural(num_tasks, 'task')}"
            )
        if self.strict and any(finding.is_serious for finding in findings):
            sys.exit(1)
