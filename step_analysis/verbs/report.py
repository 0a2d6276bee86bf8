"""`step-analysis report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from step_analysis.usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Report:
    """Say what rollouts prove: success rates, intervals, and which policy is better.

    Reads the output folder of `sim-client evaluate` (with one or more policies in it), a
    ledger.jsonl, or the results of LBM Eval and VLA Foundry. Writes index.html, report.md,
    report.json and figures/ into the output folder, and prints the verdict in one line.

    Example: step-analysis report rollouts --output report
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Folders, ledgers or results files to read."""
    output: Path = Path("report")
    """Folder for the report; files of an earlier one are replaced."""
    alpha: float = 0.05
    """Largest chance of a wrong verdict, both directions together."""
    confidence: float = 0.95
    """Confidence of the intervals."""
    method: Literal["auto", "step", "lai", "savi"] = "auto"
    """Sequential test; auto is STEP for budgets up to 500 episodes, otherwise Lai."""
    title: str = "Policy evaluation"
    """Title of the page."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """`arguments` are the command line's, to be shown in the report."""
        for name in ("alpha", "confidence"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise UsageError(f"--{name} must lie strictly between 0 and 1, got {value:g}")
        if not self.paths:
            raise UsageError("name at least one folder, ledger or results file to read")

        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.comparison import compare
        from step_analysis.loading import load_rollouts
        from step_analysis.report.content import build_content
        from step_analysis.report.writing import write_report

        policies = load_rollouts(self.paths)
        if not any(task.outcomes for policy in policies for task in policy.tasks.values()):
            read = ", ".join(map(str, self.paths))
            raise UsageError(
                f"no rollouts in {read}: run `sim-client evaluate` first, or wait for it"
            )
        comparison = compare(policies, self.alpha, self.method)
        content = build_content(
            comparison, title=self.title, confidence=self.confidence, arguments=arguments
        )
        page = write_report(self.output, content, comparison)
        print(f"Report: {page}")
        print(f"Verdict: {content.headline}")
