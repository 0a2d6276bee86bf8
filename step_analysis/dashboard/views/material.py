"""What every view is made from."""

from dataclasses import dataclass
from html import escape

from step_analysis.dashboard.analyses import Analysis
from step_analysis.dashboard.query import Query
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.loading import PolicyRollouts

PENDING = (
    '<p class="pending" role="status">The tests are being worked out; their verdicts appear here '
    "by themselves.</p>"
)


@dataclass(frozen=True, kw_only=True)
class Material:
    """The rollouts that a page is about, and what they say."""

    snapshot: Snapshot
    query: Query
    condition: str
    policies: tuple[PolicyRollouts, ...]
    """Those of the condition that the filters leave, by name."""
    analysis: Analysis | None
    """None without a policy."""

    @property
    def known(self) -> Analysis:
        """The analysis where there is one, which `View.needs_policies` promises."""
        assert self.analysis is not None
        return self.analysis

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the policies, by name."""
        return tuple(sorted({task for policy in self.policies for task in policy.tasks}))

    @property
    def by_rate(self) -> tuple[PolicyRollouts, ...]:
        """The policies, the best first."""
        place = {name: n for n, name in enumerate(self.known.content.policies_by_rate)}
        # A study that has just begun has nothing yet that a verdict of some policy rests on.
        last = len(place)
        return tuple(sorted(self.policies, key=lambda policy: place.get(policy.policy, last)))

    def pair(self) -> tuple[PolicyRollouts, PolicyRollouts | None]:
        """The two policies that the address names, or the best and the next; one if there is
        no other."""
        ordered = self.by_rate
        first = next((p for p in ordered if p.policy == self.query.first), None)
        second = next((p for p in ordered if p.policy == self.query.second), None)
        first = first or next(p for p in ordered if p is not second)
        second = second if second is not first else None
        return first, second or next((p for p in ordered if p is not first), None)


def as_sentence(text: str) -> str:
    """A verdict as a sentence of its own; a policy's name at its beginning stays as it is."""
    if text.startswith(("no ", "undecided", "the ")):
        return text[:1].upper() + text[1:]
    return text


def select(name: str, label: str, options: list[tuple[str, str]], chosen: str) -> str:
    """A labelled list to choose from; `options` are values with their texts."""
    inner = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(text)}</option>"
        for value, text in options
    )
    return f'<label>{escape(label)} <select name="{escape(name)}">{inner}</select></label>'


def chooser(query: Query, view: str, controls: list[str], names: list[str]) -> str:
    """A row of controls that belong to one view; the rest of the address stays as it is."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in query.pairs(without=(*names, "page"))
    )
    return (
        f'<form class="chooser" action="/{view}" method="get">{hidden}{"".join(controls)}'
        '<button type="submit">Show</button></form>'
    )
