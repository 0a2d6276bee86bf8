"""The verdicts of a study's folder: its own, by the design that was locked beforehand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from step_analysis.comparison import Comparison
from step_analysis.dashboard.query import Query
from step_analysis.findings import Finding, Severity
from step_analysis.ledger import STUDY_FILE_NAME
from step_analysis.loading import PolicyRollouts
from step_analysis.report.content import ReportContent
from step_analysis.report.study_content import study_content
from step_analysis.strict_json import FormatError
from step_analysis.study.design import StudyDesign
from step_analysis.study.reporting import study_comparison
from step_analysis.study.study import Study


def study_verdicts(
    design: StudyDesign,
    policies: Sequence[PolicyRollouts],
    chosen: Sequence[PolicyRollouts],
    query: Query,
    findings: Sequence[Finding],
) -> tuple[Comparison, ReportContent]:
    """The comparison and content of the policies and tasks that are chosen.

    Filters choose from the study's verdicts and change none: they rest on all of its records.

    Args:
        policies: all of the study's, with all of their tasks.

    Raises:
        FormatError: a record is none of this study's.
    """
    records = (
        record
        for policy in policies
        for task in policy.tasks.values()
        for record in task.outcomes.values()
        if record.outcome.counts
    )
    study = Study(design, records)
    comparison = study_comparison(study, chosen)
    tasks = {task for policy in chosen for task in policy.tasks}
    comparison = replace(
        comparison,
        task_panels=tuple(p for p in comparison.task_panels if tasks.issuperset(p.tasks)),
        aggregate=comparison.aggregate if tasks.issuperset(design.tasks) else None,
    )
    content = study_content(
        study,
        comparison,
        chosen,
        title="Dashboard",
        confidence=query.confidence,
        arguments=(),
        findings=findings,
    )
    return comparison, content


def foreign(root: Path, error: FormatError) -> Finding:
    """That a folder's rollouts are not those of its design."""
    return Finding(
        code="not-of-this-study",
        severity=Severity.ERROR,
        policy=None,
        task=None,
        count=1,
        text=f"{root / STUDY_FILE_NAME}: {error}",
        effect="the study's own verdicts can't be told",
    )
