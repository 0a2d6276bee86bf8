"""Running a study: which rollout is next is asked anew after each that ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from sim_client.compare.progress import Progress
from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.executor import Executor
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.output_folder import OutputFolder
from sim_client.evaluation.provenance_file import ProvenanceFile
from sim_client.evaluation.scheduler import MAX_CONSECUTIVE_ERRORS
from step_analysis.rollouts import RolloutKey, RolloutRecord
from step_analysis.study.allocation import next_rollout
from step_analysis.study.study import Study


def run_study(
    study: Study,
    *,
    executor: Executor,
    folders: Mapping[str, OutputFolder],
    origins: Mapping[str, ProvenanceFile],
    request_of: Callable[[RolloutKey], EpisodeRequest],
    progress: Progress,
    interruption: Interruption,
    max_attempts: int,
) -> frozenset[RolloutKey]:
    """Run rollouts until the study is finished; those that were given up after `max_attempts`.

    Policies without a folder among `folders` can't be run; what waits for them goes on waiting.

    Each record is on the disk before it decides anything. What is still running when the study is
    finished is dropped without a record: its outcome could change nothing. Raises
    KeyboardInterrupt when interrupted before it is finished, between two records, and
    EvaluationStoppedError where going on would only make more errors.
    """
    absent = {policy.name for policy in study.design.policies} - folders.keys()
    running: dict[EpisodeRequest, RolloutKey] = {}
    attempts: Counter[RolloutKey] = Counter()
    given_up: set[RolloutKey] = set()
    errors_in_a_row: list[RolloutRecord] = []
    while not study.standing().is_finished:
        if interruption.requested:
            raise KeyboardInterrupt
        while executor.has_room:
            key = next_rollout(study, busy=running.values(), given_up=given_up, absent=absent)
            if key is None:
                break
            request = request_of(key)
            executor.submit(request)
            running[request] = key
        if not running:
            break
        for request, report in executor.wait(interruption):
            key = running.pop(request)
            origins[key.policy].note(report)
            record = folders[key.policy].record(request, report)
            study.add(record)
            attempts[key] += 1
            if record.outcome.counts:
                errors_in_a_row = []
            else:
                errors_in_a_row.append(record)
                if attempts[key] >= max_attempts:
                    given_up.add(key)
            progress.note(record, will_retry=key not in given_up)
        if len(errors_in_a_row) >= MAX_CONSECUTIVE_ERRORS:
            latest = errors_in_a_row[-1]
            raise EvaluationStoppedError(
                f"the last {len(errors_in_a_row)} attempts all ended in errors, the latest, "
                f"{latest.key}: {latest.message}"
            )
    return frozenset(given_up)
