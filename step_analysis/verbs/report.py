"""`step-analysis report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from step_analysis.usage import UsageError

if TYPE_CHECKING:
    from step_analysis.findings import Finding
    from step_analysis.loading import Rollouts


@dataclass(frozen=True, kw_only=True)
class Report:
    """Say what rollouts prove: success rates, intervals, and which policy is better.

    Reads the output folder of `sim-client evaluate` (with one or more policies in it) or of
    `sim-client compare`, a ledger.jsonl, or the results of LBM Eval, VLA Foundry, vla-eval,
    LeRobot, CSV or parquet.
    Writes index.html, report.md, report.json and figures/ into the output folder, and prints the
    verdict in one line.

    Example: step-analysis report rollouts --output report

    Try it on published rollouts: step-analysis report --example foundry
    """

    paths: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders, ledgers or results files to read."""
    output: Path = Path("report")
    """Folder for the report; files of an earlier one are replaced."""
    example: str | None = None
    """Published rollouts to report instead of paths: 'foundry'."""
    alpha: float = 0.05
    """Largest chance of a wrong verdict."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself (one) or both together (two)."""
    correction: Literal["bonferroni", "holm", "benjamini-hochberg"] = "bonferroni"
    """How several pairs share alpha."""
    family: Literal["panel", "study"] = "panel"
    """Which pairs share alpha: those of a task, or all of the report."""
    confidence: float = 0.95
    """Confidence of the intervals."""
    method: Literal["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"] = (
        "auto"
    )
    """Test; auto is STEP where its table ships or is quick to make, otherwise Lai."""
    title: str = "Policy evaluation"
    """Title of the page."""
    source_format: (
        Literal["ledger", "lbm-eval", "foundry", "vla-eval", "lerobot", "csv", "parquet"] | None
    ) = None
    """What the files are; recognised by name and content unless said."""
    count_infrastructure: bool = False
    """Count errors that a file scores as failures as failures."""
    allow_mixed_checkpoints: bool = False
    """Go on where one name stands for two checkpoints."""
    pdf: bool = False
    """Write the whole as report.pdf, too, to print or attach."""
    latex: bool = False
    """Write the tables as tables.tex, too, for a paper."""
    strict: bool = False
    """Refuse rollouts in which the doctor finds an error or a warning."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """`arguments` are the command line's, to be shown in the report."""
        for name in ("alpha", "confidence"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise UsageError(f"--{name} must lie strictly between 0 and 1, got {value:g}")
        if bool(self.paths) == (self.example is not None):
            raise UsageError(
                "name at least one folder, ledger or results file to read, or --example foundry; "
                "not both"
            )

        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.comparison import compare
        from step_analysis.doctor.examination import examine
        from step_analysis.report.content import build_content
        from step_analysis.report.writing import write_report
        from step_analysis.study.folder import is_study

        if len(self.paths) == 1 and is_study(self.paths[0]):
            self._report_study(self.paths[0], arguments)
            return
        rollouts = self._rollouts()
        findings = examine(rollouts.policies, left_out=rollouts.left_out)
        if self.strict:
            _refuse(findings)
        try:
            comparison = compare(
                rollouts.policies,
                self.alpha,
                self.method,
                sides=self.sides,
                correction=self.correction,
                family=self.family,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        content = build_content(
            comparison,
            title=self.title,
            confidence=self.confidence,
            arguments=arguments,
            findings=findings,
        )
        page = write_report(self.output, content, comparison, pdf=self.pdf, latex=self.latex)
        print(f"Report: {page}")
        print(f"Verdict: {content.headline}")

    def _report_study(self, path: Path, arguments: Sequence[str]) -> None:
        """Of a study: its own verdicts by its own test, whose alpha was fixed beforehand."""
        from step_analysis.report.study_report import study_report
        from step_analysis.report.writing import write_report

        changed = [
            name
            for name in ("alpha", "sides", "correction", "family", "method")
            if getattr(self, name) != type(self).__dataclass_fields__[name].default
        ]
        if changed:
            raise UsageError(
                f"--{changed[0]}: {path} is a study, whose design was locked in study.json before "
                "its first episode; report its policies' folders to look at them otherwise"
            )
        content, comparison = study_report(
            path,
            self._rollouts(),
            title=self.title,
            confidence=self.confidence,
            arguments=arguments,
        )
        if self.strict:
            _refuse(content.findings)
        page = write_report(self.output, content, comparison, pdf=self.pdf, latex=self.latex)
        print(f"Report: {page}")
        print(f"Verdict: {content.headline}")

    def _rollouts(self) -> "Rollouts":
        """What is to be reported."""
        from step_analysis.examples.published import load_example
        from step_analysis.loading import Rollouts, read_rollouts

        if self.example is not None:
            return Rollouts(policies=tuple(load_example(self.example)), left_out=())
        rollouts = read_rollouts(
            self.paths,
            source_format=self.source_format,
            count_infrastructure=self.count_infrastructure,
            allow_mixed_checkpoints=self.allow_mixed_checkpoints,
        )
        if rollouts.is_empty:
            read = ", ".join(map(str, self.paths))
            raise UsageError(
                f"no rollouts in {read}: run `sim-client evaluate` first, or wait for it"
            )
        return rollouts


def _refuse(findings: "Sequence[Finding]") -> None:
    """Raises UsageError with the most severe of the serious findings, if there is one."""
    serious = [finding for finding in findings if finding.is_serious]
    if serious:
        first = serious[0]
        where = f" ({first.where})" if first.where else ""
        more = f", and {len(serious) - 1} more" if len(serious) > 1 else ""
        raise UsageError(
            f"--strict: {first.code}{where}: {first.text}{more}; `step-analysis doctor` lists them"
        )
