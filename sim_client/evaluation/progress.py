"""What the user sees while episodes run, and what came of them in the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sim_client.evaluation.progress_bar import ProgressBar, told_of_error
from step_analysis.ledger import latest_outcomes
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

_NUM_PLAIN_LINES = 10


class Progress(ProgressBar):
    """A bar with the successes so far on a terminal; elsewhere a plain line now and then."""

    def __init__(self, design: EvaluationDesign, records: Iterable[RolloutRecord]) -> None:
        self._design = design
        self._total = len(design.tasks) * design.num_episodes
        self._decided = dict.fromkeys(design.tasks, 0)
        self._successes = dict.fromkeys(design.tasks, 0)
        for record in records:
            self._count(record)
        super().__init__(
            self._total, sum(self._decided.values()), unit="episode", state=self._tally()
        )

    def note(self, record: RolloutRecord, *, will_retry: bool) -> None:
        """Show one attempt's end."""
        if record.outcome is Outcome.ERROR:
            what = f"{record.task} episode {record.scenario_index}"
            self.say(told_of_error(what, record.message, will_retry=will_retry))
            return
        self._advance(record)

    def note_of_another_process(self, record: RolloutRecord) -> None:
        """Count what another process has recorded; of its errors that one tells."""
        if record.outcome.counts:
            self._advance(record)

    def _advance(self, record: RolloutRecord) -> None:
        self._count(record)
        done = sum(self._decided.values())
        is_told = done == self._total or done % max(1, self._total // _NUM_PLAIN_LINES) == 0
        line = f"{done} of {self._total} episodes; successes: {self._tally()}"
        self.advance(self._tally(), plain_line=line if is_told else None)

    def _count(self, record: RolloutRecord) -> None:
        if record.outcome.counts and record.task in self._decided:
            self._decided[record.task] += 1
            self._successes[record.task] += record.outcome is Outcome.SUCCESS

    def _tally(self) -> str:
        return ", ".join(
            f"{task} {self._successes[task]}/{self._decided[task]}" for task in self._design.tasks
        )


def summary(design: EvaluationDesign, records: Sequence[RolloutRecord]) -> list[str]:
    """One line a task: successes of the decided episodes, how the others ended, and errors."""
    latest = latest_outcomes(records).values()
    last_episode = design.first_episode + design.num_episodes
    lines = []
    for task in design.tasks:
        outcomes = [
            record.outcome
            for record in latest
            if record.task == task and design.first_episode <= record.scenario_index < last_episode
        ]
        num = {outcome: outcomes.count(outcome) for outcome in Outcome}
        decided = len(outcomes) - num[Outcome.ERROR]
        rate = f" ({num[Outcome.SUCCESS] / decided:.1%})" if decided else ""
        parts = [f"{task}: {num[Outcome.SUCCESS]}/{decided} succeeded{rate}"]
        if num[Outcome.FAILURE]:
            parts.append(f"{num[Outcome.FAILURE]} failed")
        if num[Outcome.TIMEOUT]:
            parts.append(f"{num[Outcome.TIMEOUT]} timed out")
        if num[Outcome.ERROR]:
            parts.append(f"{num[Outcome.ERROR]} without a verdict after errors")
        if pending := design.num_episodes - len(outcomes):
            parts.append(f"{pending} not run yet")
        lines.append(", ".join(parts))
    return lines
