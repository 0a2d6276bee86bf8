"""The report of a study's folder, from its files alone."""

from collections.abc import Sequence
from pathlib import Path

from step_analysis.comparison import Comparison
from step_analysis.doctor.examination import examine
from step_analysis.loading import Rollouts
from step_analysis.report.content import ReportContent
from step_analysis.report.study_content import study_content
from step_analysis.study.folder import read_study
from step_analysis.study.reporting import study_comparison


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
    content = study_content(
        study,
        comparison,
        num_rollouts_run=sum(
            len(task.counted) for policy in rollouts.policies for task in policy.tasks.values()
        ),
        title=title,
        confidence=confidence,
        arguments=arguments,
        findings=examine(comparison.policies, left_out=rollouts.left_out),
    )
    return content, comparison
