"""What to hold against the rollouts of a report, by kind: also where nothing was found."""

from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.findings import Finding
from step_analysis.report.content import ReportContent

_KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "Pre-solved scenes",
        ("success-before-action", "early-success", "durations-not-recorded"),
        "no success came before a policy could have brought it about.",
    ),
    (
        "Errors",
        ("errors-counted-as-failures", "unresolved-errors"),
        "no attempt ended in an error, or it was made again with the same seed.",
    ),
    (
        "Unequal budgets",
        (
            "budgets-differ",
            "budget-grew",
            "budget-changed",
            "over-budget",
            "budget-not-recorded",
            "unequal-tasks",
            "unequal-task-weights",
        ),
        "all policies had the same tasks and the same budget, recorded beforehand.",
    ),
    (
        "Missing seeds",
        (
            "missing-episodes",
            "gaps-in-scenarios",
            "unequal-indices",
            "differing-seeds",
            "seeds-not-recorded",
        ),
        "all policies met the same scenarios with the same seeds, without a gap.",
    ),
    (
        "Peeking",
        (
            "optional-stopping",
            "optional-stopping-several-runs",
            "optional-stopping-uneven",
            "order-effect",
        ),
        "no sign that somebody stopped because of what was seen.",
    ),
)
_OTHER = "Other"


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """about: a kind of doubt. findings: its findings; without one, `text` says what was seen."""

    about: str
    text: str
    findings: tuple[Finding, ...] = ()


def caveats(content: ReportContent) -> list[Caveat]:
    """One of each kind, and one of what fits no kind where there is such a thing."""
    found = []
    known: set[str] = set()
    for about, codes, clean in _KINDS:
        findings = tuple(each for each in content.findings if each.code in codes)
        known.update(codes)
        text = clean if not findings else _told(findings)
        if about == "Peeking" and content.study is not None and not findings:
            text = (
                "the study's tests allow for a look after each episode; design, budget and alpha "
                "were locked before the first one."
            )
        found.append(Caveat(about=about, text=text, findings=findings))
    others = tuple(each for each in content.findings if each.code not in known)
    if others:
        found.append(Caveat(about=_OTHER, text=_told(others), findings=others))
    return found


def _told(findings: Sequence[Finding]) -> str:
    return " ".join(_sentence(each) for each in findings)


def _sentence(finding: Finding) -> str:
    where = f"{finding.where}: " if finding.where else ""
    return f"{where}{finding.text.rstrip('.')} (effect: {finding.effect.rstrip('.')})."
