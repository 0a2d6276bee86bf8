"""OUT/<policy>: the design, the ledger and the results.json of one evaluation.

evaluation.json                          what the evaluation set out to do
ledger.jsonl                             one line an attempt; the only source of truth
.claims/<Task>-<index>                   locked by the process that runs the episode
<Task>/rollouts/<timestamp>/results.json the same for LBM Eval's and VLA Foundry's tools
<Task>/rollouts/<timestamp>/<task>/demonstration_<index>/
                                         an episode's own files, where those tools look for them
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sim_client.evaluation.claims import Claims
from sim_client.evaluation.config import evaluation_seed
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.errors import UsageError
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    Ledger,
    LedgerError,
    read_design,
    write_design,
)
from step_analysis.results_json import RESULTS_FILE_NAME, snake_case, write_results
from step_analysis.rollouts import EvaluationDesign, RolloutKey, RolloutRecord
from step_analysis.strict_json import FormatError

_TIMESTAMP_FORMAT = "%Y-%m-%dT%H-%M-%S"
_PLAIN_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MAX_READABLE_LENGTH = 60


def folder_name(policy: str) -> str:
    """A policy's name as one component of a path, and never another one's.

    A plain name stays as it is. Any other, which may hold slashes, dots alone or anything that
    a server sends, is reduced to plain characters and told apart by a hash of the whole name.
    """
    if _PLAIN_COMPONENT.fullmatch(policy):
        return policy
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", policy).strip("_-")[:_MAX_READABLE_LENGTH]
    digest = hashlib.sha256(policy.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{readable or 'policy'}-{digest}"


def check_writable(folder: Path) -> None:
    """Raises UsageError unless files can be made in `folder`, which is created if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"--output {folder}: can't be written to: {error.strerror}") from error


def episode_folder(results_folder: Path, key: RolloutKey) -> Path:
    """Where an episode's own files are, below the folder of its task's results.json."""
    return results_folder / snake_case(key.task) / f"demonstration_{key.scenario_index}"


class OutputFolder:
    """An evaluation's folder, open for writing: by one process, or by several that share it.

    Those that share it, each with workers of its own, in containers or not, run every episode
    once between them: `claim` it, then `record` what became of it.
    """

    def __init__(
        self,
        root: Path,
        design: EvaluationDesign,
        *,
        budget_is_given: bool,
        num_workers: int,
        shared: bool = False,
    ) -> None:
        """budget_is_given: whether the design's max_sample_size was asked for explicitly; if not,
        an earlier run's stands. shared: whether other processes may work on it, too."""
        self.path = root / folder_name(design.policy)
        self.design = design
        self._root = root
        self._budget_is_given = budget_is_given
        self._num_workers = num_workers
        self._ledger = Ledger(self.path / LEDGER_FILE_NAME, shared=shared)
        self._claims = Claims(self.path)
        self._news: list[RolloutRecord] = []
        self._timestamp = ""

    def __enter__(self) -> Self:
        """Lock the folder, and begin, join or resume the evaluation in it.

        Raises:
            UsageError: another evaluation is there, of another design or not shared; says which.
            OSError: the folder can't be written to.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._ledger.__enter__()
        except LedgerError as error:
            raise UsageError(str(error)) from error
        try:
            with self._ledger.turn():
                self.design = self._agreed_design()
                self._timestamp = self._earlier_timestamp() or datetime.now(UTC).strftime(
                    _TIMESTAMP_FORMAT
                )
                for task in self.design.tasks:
                    self._results_folder(task).mkdir(parents=True, exist_ok=True)
                    self.write_results(task)
        except BaseException:
            self._ledger.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._claims.give_all_back()
        self._ledger.__exit__(kind, error, traceback)

    @property
    def records(self) -> Sequence[RolloutRecord]:
        return self._ledger.records

    def news(self) -> list[RolloutRecord]:
        """What other processes have recorded since we were last asked."""
        with self._ledger.turn() as news:
            news = [*self._news, *news]
        self._news = []
        return news

    def claim(self, key: RolloutKey) -> bool:
        """Whether to run the episode now: it has no verdict, and no other process runs it.

        Ours until its attempt is recorded, or this process ends.
        """
        if not self._claims.take(key):
            return False
        # Whoever had it before us may have recorded its verdict just now.
        self._read_news()
        if key in self._ledger.finished_keys():
            self._claims.give_back(key, for_good=True)
            return False
        return True

    def is_finished(self, key: RolloutKey) -> bool:
        """Whether it has a verdict, as far as we have heard."""
        return key in self._ledger.finished_keys()

    def key(self, request: EpisodeRequest) -> RolloutKey:
        return RolloutKey(self.design.policy, request.task, request.scenario_index)

    def _read_news(self) -> None:
        with self._ledger.turn() as news:
            self._news += news

    def unfinished(self) -> list[RolloutKey]:
        """The episodes of the design that have no verdict yet, in order."""
        finished = self._ledger.finished_keys()
        return [
            key for task in self.design.tasks for key in self._keys(task) if key not in finished
        ]

    def record(self, request: EpisodeRequest, report: EpisodeReport) -> RolloutRecord:
        """Put one attempt on the disk: in the ledger, then in its task's results.json."""
        key = self.key(request)
        with self._ledger.turn() as news:
            self._news += news
            record = RolloutRecord(
                policy=key.policy,
                task=key.task,
                scenario_index=key.scenario_index,
                seed=request.seed,
                outcome=report.outcome,
                duration_s=report.duration_s,
                num_control_steps=report.num_control_steps,
                message=report.message,
                attempt=self._ledger.next_attempt(key),
                started_at=report.started_at,
                wall_s=report.wall_s,
                detail=report.detail,
                progress=report.progress,
                instruction=report.instruction,
                first_inference_s=report.first_inference_s,
                policy_latency=report.policy_latency,
                state_digest=report.state_digest,
            )
            self._ledger.append(record)
            self.write_results(request.task)
        self._claims.give_back(key, for_good=record.outcome.counts)
        return record

    def write_results(self, task: str) -> None:
        """Rewrite one task's results.json from the ledger."""
        records = [record for record in self._ledger.records if record.task == task]
        write_results(
            self._results_folder(task) / RESULTS_FILE_NAME,
            records,
            requested=[(task, key.scenario_index) for key in self._keys(task)],
            max_sample_size=self.design.max_sample_size,
            num_processes=self._num_workers,
            # Over all runs of a resumed evaluation, and without the time between them.
            elapsed_s=round(sum(record.wall_s or 0.0 for record in records), 3),
        )

    def request(self, key: RolloutKey, *, max_control_steps: int, record: bool) -> EpisodeRequest:
        """What a worker must know to run one episode."""
        return EpisodeRequest(
            task=key.task,
            scenario_index=key.scenario_index,
            seed=evaluation_seed(key.scenario_index),
            max_control_steps=max_control_steps,
            folder=episode_folder(self._results_folder(key.task).absolute(), key),
            record=record,
        )

    def _keys(self, task: str) -> list[RolloutKey]:
        first = self.design.first_episode
        return [
            RolloutKey(self.design.policy, task, index)
            for index in range(first, first + self.design.num_episodes)
        ]

    def _results_folder(self, task: str) -> Path:
        return self.path / task / "rollouts" / self._timestamp

    def _earlier_timestamp(self) -> str | None:
        """When the evaluation began, by the folder that its first run made."""
        for path in sorted(self.path.glob(f"*/rollouts/*/{RESULTS_FILE_NAME}")):
            try:
                datetime.strptime(path.parent.name, _TIMESTAMP_FORMAT)
            except ValueError:
                continue
            return path.parent.name
        return None

    def _agreed_design(self) -> EvaluationDesign:
        """The design to follow, on the disk. Raises UsageError if another one was begun here."""
        path = self.path / DESIGN_FILE_NAME
        if not path.exists():
            if self._ledger.records:
                raise UsageError(
                    f"{self.path} holds a ledger but no {DESIGN_FILE_NAME}; use another --output"
                )
            write_design(path, self.design)
            return self.design
        try:
            begun = read_design(path)
        except LedgerError as error:
            raise UsageError(f"{error}; use another --output") from error
        wanted = self._within_budget_of(begun)
        if wanted == begun:
            return begun
        if wanted.num_episodes > begun.num_episodes:
            as_begun = replace(wanted, num_episodes=begun.num_episodes)
            if as_begun == begun:
                if not self._ledger.is_ours_alone():
                    raise UsageError(
                        f"{self.path}: another process runs the {begun.num_episodes} episodes a "
                        f"task that it was begun with; wait for it, then go on to "
                        f"{wanted.num_episodes}"
                    )
                write_design(path, wanted)
                return wanted
        raise UsageError(
            f"{self.path} holds another evaluation, and results of two must not mix; use another "
            f"--output, or ask for the same (here: that evaluation, there: this command): "
            f"{'; '.join(begun.differences(wanted))}"
        )

    def _within_budget_of(self, begun: EvaluationDesign) -> EvaluationDesign:
        if self._budget_is_given:
            return self.design
        try:
            return replace(self.design, max_sample_size=begun.max_sample_size)
        except FormatError:
            raise UsageError(
                f"{self.path} was begun with a budget of {begun.max_sample_size} episodes a task, "
                f"and {self.design.num_episodes} are asked for: looking at the results and then "
                "going on voids a sequential test; use a new --output, with --max-sample-size as "
                "large as you may ever want"
            ) from None
