"""Which episode runs next, how often it is tried, and when to give up."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.executor import Executor
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.output_folder import OutputFolder
from sim_client.evaluation.progress import Progress
from step_analysis.rollouts import Outcome, RolloutRecord

# So many errors in a row, with no episode decided between them, are no accident of one scenario.
MAX_CONSECUTIVE_ERRORS = 10


def run_episodes(
    requests: Iterable[EpisodeRequest],
    *,
    executor: Executor,
    folder: OutputFolder,
    progress: Progress,
    interruption: Interruption,
    max_attempts: int,
) -> None:
    """Run every episode until it is decided or has been tried `max_attempts` times.

    Each attempt is on the disk before the next one of its episode begins. Raises
    KeyboardInterrupt when interrupted, between two records, and EvaluationStoppedError where
    going on would only make more errors.
    """
    waiting = deque(requests)
    attempts: Counter[EpisodeRequest] = Counter()
    errors_in_a_row: list[RolloutRecord] = []
    while waiting or executor.is_busy:
        while waiting and executor.has_room:
            executor.submit(waiting.popleft())
        for request, report in executor.wait(interruption):
            record = folder.record(request, report)
            attempts[request] += 1
            retry = record.outcome is Outcome.ERROR and attempts[request] < max_attempts
            if retry:
                waiting.append(request)
            progress.note(record, will_retry=retry)
            errors_in_a_row = [] if record.outcome.counts else [*errors_in_a_row, record]
        if interruption.requested:
            raise KeyboardInterrupt
        if len(errors_in_a_row) >= MAX_CONSECUTIVE_ERRORS:
            latest = errors_in_a_row[-1]
            raise EvaluationStoppedError(
                f"the last {len(errors_in_a_row)} attempts all ended in errors, the latest, "
                f"{latest.task} episode {latest.scenario_index}: {latest.message}"
            )
