"""What the user sees while episodes run, and what came of them in the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from tqdm import tqdm

from step_analysis.ledger import latest_outcomes
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

_NUM_PLAIN_LINES = 10


class Progress:
    """A bar with the successes so far on a terminal; elsewhere a plain line now and then."""

    def __init__(self, design: EvaluationDesign, records: Iterable[RolloutRecord]) -> None:
        self._design = design
        self._total = len(design.tasks) * design.num_episodes
        self._decided = dict.fromkeys(design.tasks, 0)
        self._successes = dict.fromkeys(design.tasks, 0)
        for record in records:
            self._count(record)
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self._bar = tqdm(
            total=self._total,
            initial=sum(self._decided.values()),
            unit="episode",
            disable=None,
            dynamic_ncols=True,
        )
        self._bar.set_postfix_str(self._tally())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, record: RolloutRecord, *, will_retry: bool) -> None:
        """Show one attempt's end."""
        if record.outcome is Outcome.ERROR:
            then = "it will be run again" if will_retry else "no attempt is left in this run"
            self._say(
                f"{record.task} episode {record.scenario_index}: error, no verdict, {then}: "
                f"{record.message}"
            )
            return
        self._count(record)
        if self._bar is None or self._bar.disable:
            done = sum(self._decided.values())
            if done == self._total or done % max(1, self._total // _NUM_PLAIN_LINES) == 0:
                self._say(f"{done} of {self._total} episodes; successes: {self._tally()}")
        else:
            self._bar.set_postfix_str(self._tally(), refresh=False)
            self._bar.update()

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

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
