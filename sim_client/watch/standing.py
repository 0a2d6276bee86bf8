"""How an evaluation stands: what is decided, how fast it goes, how long it will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from step_analysis.ledger import latest_outcomes
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.wilson_interval import Interval, wilson

# Between two episodes of one run lie milliseconds, or seconds in which a worker is replaced.
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class TaskStanding:
    """num_errors: attempts without a verdict. mean_progress: of the decided episodes, where it is
    known of any."""

    task: str
    num_episodes: int
    num_successes: int
    num_failures: int
    num_timeouts: int
    num_errors: int
    mean_progress: float | None

    @property
    def num_decided(self) -> int:
        return self.num_successes + self.num_failures + self.num_timeouts

    @property
    def interval(self) -> Interval:
        """Wilson's, at 95%, of the rate of success; all of [0, 1] before the first verdict.

        For looking at: a decision that is taken because of what was seen here needs a sequential
        test (`step-analysis test`).
        """
        return wilson(self.num_successes, self.num_decided)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """episodes_per_min: over the latest run, None before its first verdict."""

    policy: str
    tasks: tuple[TaskStanding, ...]
    is_running: bool
    episodes_per_min: float | None
    latest: RolloutRecord | None

    @property
    def num_episodes(self) -> int:
        return sum(task.num_episodes for task in self.tasks)

    @property
    def num_decided(self) -> int:
        return sum(task.num_decided for task in self.tasks)

    @property
    def is_complete(self) -> bool:
        return self.num_decided >= self.num_episodes

    @property
    def time_left_s(self) -> float | None:
        if not self.episodes_per_min or not self.is_running:
            return None
        return (self.num_episodes - self.num_decided) / self.episodes_per_min * 60.0


def standing(
    design: EvaluationDesign, records: Sequence[RolloutRecord], *, is_running: bool
) -> Standing:
    """From what the ledger holds; raises LedgerError where an episode has two verdicts."""
    indices = range(design.first_episode, design.first_episode + design.num_episodes)
    wanted = [r for r in records if r.task in design.tasks and r.scenario_index in indices]
    decided = [r for r in latest_outcomes(wanted).values() if r.outcome.counts]
    return Standing(
        policy=design.policy,
        tasks=tuple(_of_task(task, design, wanted, decided) for task in design.tasks),
        is_running=is_running,
        episodes_per_min=_episodes_per_min(wanted),
        latest=wanted[-1] if wanted else None,
    )


def _of_task(
    task: str,
    design: EvaluationDesign,
    records: Sequence[RolloutRecord],
    decided: Sequence[RolloutRecord],
) -> TaskStanding:
    own = [record for record in decided if record.task == task]
    outcomes = [record.outcome for record in own]
    scores = [record.progress for record in own if record.progress is not None]
    return TaskStanding(
        task=task,
        num_episodes=design.num_episodes,
        num_successes=outcomes.count(Outcome.SUCCESS),
        num_failures=outcomes.count(Outcome.FAILURE),
        num_timeouts=outcomes.count(Outcome.TIMEOUT),
        num_errors=sum(r.task == task and r.outcome is Outcome.ERROR for r in records),
        mean_progress=fmean(scores) if scores else None,
    )


def _episodes_per_min(records: Sequence[RolloutRecord]) -> float | None:
    """Verdicts a minute since the last time that nothing ran: a resumed evaluation rested."""
    spans = []
    for record in records:
        if record.started_at is not None and record.wall_s is not None:
            start_s = datetime.fromisoformat(record.started_at).timestamp()
            spans.append((start_s, start_s + record.wall_s, record.outcome.counts))
    began_s = ended_s = None
    num_verdicts = 0
    for start_s, end_s, counts in sorted(spans):
        if began_s is None or ended_s is None or start_s > ended_s + _LONGEST_PAUSE_S:
            began_s, ended_s, num_verdicts = start_s, end_s, 0
        ended_s = max(ended_s, end_s)
        num_verdicts += counts
    if began_s is None or ended_s is None or not num_verdicts or ended_s <= began_s:
        return None
    return num_verdicts / (ended_s - began_s) * 60.0
