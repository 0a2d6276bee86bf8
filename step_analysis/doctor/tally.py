"""Counts of successes as findings give them: with and without the episodes in question."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.strict_json import shown

_MAX_NAMED = 4


class Tally(NamedTuple):
    """Successes among counted episodes."""

    successes: int
    num_counted: int

    @property
    def rate(self) -> float:
        """Within [0, 1]; 0 without an episode."""
        return self.successes / self.num_counted if self.num_counted else 0.0

    def __str__(self) -> str:
        if not self.num_counted:
            return "no episode counted"
        return f"{self.successes}/{self.num_counted} ({self.rate:.1%})"


def tally(records: Iterable[RolloutRecord]) -> Tally:
    """Of the records that count."""
    ends = [record.outcome for record in records]
    return Tally(ends.count(Outcome.SUCCESS), len(ends) - ends.count(Outcome.ERROR))


def named(items: Iterable[object]) -> str:
    """The first few, and how many more: '3, 7, 12, 15 and 4 more'."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - _MAX_NAMED} more" if len(texts) > _MAX_NAMED else ""
    return ", ".join(texts[:_MAX_NAMED]) + more


def messages(records: Iterable[RolloutRecord]) -> str:
    """The commonest last lines of the records' messages, with their counts."""
    last_lines = Counter(
        (record.message or "no message").strip().rpartition("\n")[2].strip() for record in records
    )
    return named(f"{count} x {shown(line)}" for line, count in last_lines.most_common())


def plural(count: int, what: str) -> str:
    """'1 episode', '2 episodes', '3 policies', '4 successes'."""
    if count == 1:
        return f"{count} {what}"
    if what.endswith("y"):
        return f"{count} {what[:-1]}ies"
    return f"{count} {what}es" if what.endswith("s") else f"{count} {what}s"
