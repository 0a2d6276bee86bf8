"""What the report of a study says: its own verdicts, and intervals that hold whenever it stops."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from step_analysis.comparison import Comparison
from step_analysis.findings import Finding
from step_analysis.loading import PolicyRollouts
from step_analysis.report.content import (
    PairRow,
    PanelContent,
    ReportContent,
    StudyContent,
    build_content,
    error_rows,
)
from step_analysis.report.wording import percent
from step_analysis.rollouts import RolloutRecord
from step_analysis.study.comparisons import ComparisonStanding
from step_analysis.study.design import StudyTest
from step_analysis.study.reporting import (
    study_difference,
    up_to_errors,
    waited_for,
    why_waiting,
)
from step_analysis.study.study import Study
from step_analysis.study.wording import (
    TEST_NAMES,
    guarantee,
    headline,
    pair_sentence,
    verdict_lines,
)

_WHY: dict[StudyTest, str] = {
    "paired": "All policies meet the same seeds, so that outcomes go together; it reads the "
    "discordant pairs and holds whatever the policies share.",
    "step": "It was chosen for policies that are taken as independent; shared seeds cost it power "
    "rather than validity.",
    "lai": "It was chosen for policies that are taken as independent, on discordant pairs.",
    "savi": "It needs no budget, at the price of power.",
    "betting": "It compares mean scores in [0, 1] of whatever law on shared seeds, and needs no "
    "budget, at the price of power.",
}

_Waiting = Mapping[ComparisonStanding, Sequence[RolloutRecord]]
"""The errors that open comparisons would have to read next."""


def study_content(
    study: Study,
    comparison: Comparison,
    policies: Sequence[PolicyRollouts],
    *,
    title: str,
    confidence: float,
    arguments: Sequence[str],
    findings: Iterable[Finding],
) -> ReportContent:
    """Everything that a study's report says; see `build_content`.

    Args:
        policies: those of the comparison with all of their rollouts, also beyond the verdicts.
    """
    content = build_content(
        comparison, title=title, confidence=confidence, arguments=arguments, findings=findings
    )
    standing = study.standing()
    waiting = waited_for(study, policies)
    return replace(
        content,
        headline=headline(study),
        panels=tuple(_panel(study, panel, confidence, waiting) for panel in content.panels),
        errors=tuple(error_rows(up_to_errors(study, policies))),
        study=StudyContent(
            test=TEST_NAMES[study.design.test],
            why=_WHY[study.design.test],
            guarantee=guarantee(study),
            is_finished=standing.is_finished,
            verdicts=tuple(verdict_lines(study)),
            num_rollouts_budget=study.design.num_rollouts,
            num_rollouts_used=standing.num_rollouts_used,
            num_rollouts_run=sum(
                len(task.counted) for policy in policies for task in policy.tasks.values()
            ),
            interval=(
                f"A difference is that of the episodes that the verdict rests on. Its "
                f"{percent(confidence)} interval is a confidence sequence: it holds at all looks "
                "together, whenever one stops, for each pair by itself. It asks more of the "
                "rollouts than the test, which knows its budget, and may hold 0 where the test "
                "has decided. Intervals of single rates look at the counted episodes as if their "
                "number had been fixed."
            ),
        ),
    )


def _panel(study: Study, panel: PanelContent, confidence: float, waiting: _Waiting) -> PanelContent:
    return replace(
        panel,
        pairs=tuple(_pair(study, panel.tasks, row, confidence, waiting) for row in panel.pairs),
    )


def _pair(
    study: Study, tasks: tuple[str, ...], row: PairRow, confidence: float, waiting: _Waiting
) -> PairRow:
    each = next(each for each in study.standing().panel(tasks) if each.arms == (row.arm0, row.arm1))
    difference = study_difference(study, each, confidence)
    reason = f"; {why_waiting(waiting[each])}" if each in waiting else ""
    return replace(
        row,
        difference=difference.value,
        difference_interval=difference.interval,
        sentence=f"{pair_sentence(study, each)}{reason}.",
    )
