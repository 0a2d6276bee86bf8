"""Reading the rollouts that a verb's command line names."""

import sys
from collections.abc import Sequence
from pathlib import Path

from step_analysis.doctor.examination import examine
from step_analysis.findings import Finding, Severity
from step_analysis.loading import Rollouts, read_rollouts
from step_analysis.reading.source import SourceFormat
from step_analysis.usage import UsageError


def read_paths(
    paths: Sequence[Path],
    *,
    source_format: SourceFormat | None,
    count_infrastructure: bool,
    allow_mixed_checkpoints: bool = False,
) -> Rollouts:
    """What lies at the paths.

    Raises:
        UsageError: no path is named, or nothing is there.
        LedgerError: a file is not what it seems.
        OSError: a file can't be read.
    """
    if not paths:
        raise UsageError("name at least one folder, ledger or results file to read")
    rollouts = read_rollouts(
        paths,
        source_format=source_format,
        count_infrastructure=count_infrastructure,
        allow_mixed_checkpoints=allow_mixed_checkpoints,
    )
    if rollouts.is_empty:
        named = ", ".join(map(str, paths))
        left_out = "".join(f"; {left.path}: {left.reason}" for left in rollouts.left_out[:1])
        raise UsageError(
            f"no rollouts in {named}{left_out}: run `sim-client evaluate` first, or wait for it"
        )
    return rollouts


def check_findings(rollouts: Rollouts, *, is_strict: bool) -> list[Finding]:
    """The doctor's findings; in one line on stderr, how many there are.

    Raises:
        UsageError: strict, and one of them is an error or a warning.
    """
    findings = examine(rollouts.policies, left_out=rollouts.left_out)
    serious = [finding for finding in findings if finding.is_serious]
    if serious and is_strict:
        worst = serious[0]
        where = f"{worst.where}: " if worst.where else ""
        raise UsageError(
            f"--strict refuses these rollouts for {count_by_severity(serious)}; the first: "
            f"{where}{worst.text}; step-analysis doctor lists all"
        )
    if serious:
        print(f"{count_by_severity(serious)}: see step-analysis doctor", file=sys.stderr)
    return findings


def count_by_severity(findings: Sequence[Finding]) -> str:
    """'1 error, 2 warnings'."""
    counts = [(s.value, sum(f.severity is s for f in findings)) for s in Severity]
    return ", ".join(f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts if n) or "nothing"
