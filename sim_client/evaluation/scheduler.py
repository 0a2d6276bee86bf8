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
from sim_client.evaluation.provenance_file import ProvenanceFile
from step_analysis.rollouts import Outcome, RolloutKey, RolloutRecord

# So many errors in a row, with no episode decided between them, are no accident of one scenario.
MAX_CONSECUTIVE_ERRORS = 10

# How often to look whether another process has ended an episode, or has died over it.
_LOOK_AGAIN_S = 0.5


def run_episodes(
    requests: Iterable[EpisodeRequest],
    *,
    executor: Executor,
    folder: OutputFolder,
    provenance: ProvenanceFile,
    progress: Progress,
    interruption: Interruption,
    max_attempts: int,
) -> None:
    """Run every episode until it is decided or has been tried `max_attempts` times.

    Other processes may do the same in the same folder: what one of them runs is left to it, and
    waited for, so that it is run here if that process dies. Attempts of all since we began count.

    Each attempt is on the disk before the next one of its episode begins. Raises
    KeyboardInterrupt when interrupted with episodes left, between two records, and
    EvaluationStoppedError where going on would only make more errors.
    """
    waiting = deque(requests)
    attempts: Counter[RolloutKey] = Counter()
    errors_in_a_row: list[RolloutRecord] = []
    is_told_of_others = False
    while True:
        for record in folder.news():
            attempts[record.key] += 1
            progress.note_of_another_process(record)
        waiting = deque(
            request
            for request in waiting
            if not folder.is_finished(folder.key(request))
            and attempts[folder.key(request)] < max_attempts
        )
        if not waiting and not executor.is_busy:
            # Also where we are interrupted: there was nothing left to cut off.
            return
        if interruption.requested:
            raise KeyboardInterrupt
        _begin(waiting, executor, folder)
        if not executor.is_busy:
            if not is_told_of_others:
                progress.say(f"waiting for {len(waiting)} episodes that other processes run")
                is_told_of_others = True
            interruption.wait(_LOOK_AGAIN_S)
        for request, report in executor.wait(interruption):
            provenance.note(report)
            record = folder.record(request, report)
            attempts[record.key] += 1
            retry = record.outcome is Outcome.ERROR and attempts[record.key] < max_attempts
            if retry:
                waiting.append(request)
            progress.note(record, will_retry=retry)
            errors_in_a_row = [] if record.outcome.counts else [*errors_in_a_row, record]
        if len(errors_in_a_row) >= MAX_CONSECUTIVE_ERRORS:
            latest = errors_in_a_row[-1]
            raise EvaluationStoppedError(
                f"the last {len(errors_in_a_row)} attempts all ended in errors, the latest, "
                f"{latest.task} episode {latest.scenario_index}: {latest.message}"
            )


def _begin(waiting: deque[EpisodeRequest], executor: Executor, folder: OutputFolder) -> None:
    """Start what there is room for; what another process runs stays among those that wait."""
    for _ in range(len(waiting)):
        if not executor.has_room:
            return
        request = waiting.popleft()
        if folder.claim(folder.key(request)):
            executor.submit(request)
        else:
            waiting.append(request)
