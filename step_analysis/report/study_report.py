"""The report of a study's folder, from its files alone."""

from collections.abc import Sequence
from pathlib import Path

from step_analysis.comparison import Comparison
from step_analysis.doctor.episodes import unresolved_errors
from step_analysis.doctor.examination import examine
from step_analysis.loading import Rollouts
from step_analysis.report.content import ReportContent
from step_analysis.report.study_content import study_content
from step_analysis.study.folder import read_study
from step_analysis.study.reporting import study_comparison, up_to_errors


def study_report(
    path: Path,
    rollouts: Rollouts,
    *,
    title: str,
    confidence: float,
    arguments: Sequence[str],
) -> tuple[ReportContent, Comparison]:
    """What it says, and the comparison that its figures draw.

    Args:
        rollouts: those of the folder.

    Raises:
        LedgerError: a file is corrupt, or a record is not of this study.
        OSError: a file can't be read.
    """
    study = read_study(path)
    comparison = study_comparison(study, rollouts.policies)
    findings = examine(comparison.policies, left_out=rollouts.left_out)
    for policy in up_to_errors(study, rollouts.policies):
        for task in policy.tasks.values():
            findings += unresolved_errors(policy, task)
    content = study_content(
        study,
        comparison,
        rollouts.policies,
        title=title,
        confidence=confidence,
        arguments=arguments,
        findings=findings,
    )
    return content, comparison
