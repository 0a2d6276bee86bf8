"""Gathering the rollouts of policies, wherever they lie and whatever wrote them.

What several files say of one episode is put together here: the first counted record decides, and
what comes later for the same episode is kept aside for the doctor to tell of. Nothing is refused
because its statistics are doubtful; `doctor` finds that. Refused is what can't be read, and two
checkpoints under one name, of which no number is right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from step_analysis.ledger import LedgerError
from step_analysis.provenance import Provenance
from step_analysis.reading.discovery import Discovery, LeftOut
from step_analysis.reading.source import PolicySource, SourceFormat
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.strict_json import shown

_ERROR = Outcome.ERROR


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A counted record of an episode that had its outcome already; it decides nothing."""

    kept: RolloutRecord
    ignored: RolloutRecord
    source: Path
    """Of the one ignored."""

    @property
    def contradicts(self) -> bool:
        return self.kept.outcome is not self.ignored.outcome


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one file has of a task."""

    source: Path
    num_requested: int
    budget: int | None
    """Episodes fixed beforehand, where the file says so."""


@dataclass(frozen=True, kw_only=True)
class TaskRollouts:
    """One policy's episodes of one task."""

    task: str
    outcomes: Mapping[int, RolloutRecord]
    """By scenario index: the counted record, or the last error."""
    requested: tuple[int, ...]
    """Scenario indices in order, done or not."""
    max_sample_size: int
    """The budget; the smallest, where several were recorded."""
    budget_is_recorded: bool
    """Whether the budget was written down; otherwise it is the number of episodes requested."""
    runs: tuple[Run, ...] = ()
    """In order of their paths, which for timestamped folders is the order of time."""
    repeats: tuple[Repeat, ...] = ()
    scored_as_failure: frozenset[int] = frozenset()
    """Scenario indices that a file scores as failures although the message names the
    infrastructure. They are errors here, unless asked for otherwise."""

    @cached_property
    def counted(self) -> tuple[RolloutRecord, ...]:
        if _ERROR not in self._ends:
            return tuple(self.outcomes.values())
        return tuple(record for record in self.outcomes.values() if record.outcome.counts)

    @cached_property
    def errors(self) -> tuple[RolloutRecord, ...]:
        if _ERROR not in self._ends:
            return ()
        return tuple(record for record in self.outcomes.values() if not record.outcome.counts)

    @property
    def num_missing(self) -> int:
        """Episodes requested and neither counted nor failed by an error."""
        return len(set(self.requested).difference(self.outcomes))

    def num(self, outcome: Outcome) -> int:
        """How many episodes ended so."""
        return self._ends.count(outcome)

    @cached_property
    def _ends(self) -> tuple[Outcome, ...]:
        return tuple([record.outcome for record in self.outcomes.values()])


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one file says that its episodes were run."""

    source: Path
    settings: Mapping[str, Any]
    """By dotted name."""


@dataclass(frozen=True, kw_only=True)
class PolicyRollouts:
    """All that was found of one policy."""

    policy: str
    tasks: Mapping[str, TaskRollouts]
    design: EvaluationDesign | None
    sources: tuple[Path, ...]
    protocols: tuple[Protocol, ...] = ()
    digests: tuple[str, ...] = ()
    """Of its checkpoints: more than one only where that was allowed."""
    remarks: tuple[str, ...] = ()
    """What was read by convention rather than because a file says so."""
    provenances: tuple[Provenance, ...] = ()
    """One a source that has it, each different."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """All that was found at some paths."""

    policies: tuple[PolicyRollouts, ...]
    """By name."""
    left_out: tuple[LeftOut, ...]
    """Files in the folders that are no rollouts, as far as can be told."""

    @property
    def is_empty(self) -> bool:
        return not any(task.outcomes for policy in self.policies for task in policy.tasks.values())


def read_rollouts(
    paths: Iterable[Path | str],
    *,
    source_format: SourceFormat | None = None,
    count_infrastructure: bool = False,
    allow_mixed_checkpoints: bool = False,
) -> Rollouts:
    """The policies in `paths`, and what was left out.

    A path is a folder that an evaluation wrote, with one or more policies below; a ledger; or
    results of LBM Eval, VLA Foundry, vla-eval or LeRobot, a CSV or parquet table, or a folder of
    such. Results beside a ledger are left alone: they say the same again.

    Args:
        source_format: what the files are; None recognises each by name and content.
        count_infrastructure: count as failures the errors that a file scores so, as the
            evaluations that wrote them do; otherwise they are errors, and count for nothing.
        allow_mixed_checkpoints: go on where one name stands for two checkpoints.

    Raises:
        LedgerError: a path is missing, a file is not what it seems, or one name stands for two
            checkpoints; names the file and the field.
        OSError: a file can't be read.
    """
    discovery = Discovery(source_format=source_format, count_infrastructure=count_infrastructure)
    sources = (source for path in paths for source in discovery.read(Path(path)))
    policies = gather(sources, allow_mixed_checkpoints=allow_mixed_checkpoints)
    return Rollouts(policies=policies, left_out=tuple(discovery.left_out))


def gather(
    sources: Iterable[PolicySource], *, allow_mixed_checkpoints: bool = False
) -> tuple[PolicyRollouts, ...]:
    """What several files say, by policy.

    Raises:
        LedgerError: one name stands for two checkpoints, unless that is allowed.
    """
    gathered: dict[str, _Gathered] = {}
    for source in sources:
        known = gathered.setdefault(source.policy, _Gathered(policy=source.policy))
        known.add(source)
        if len(known.digests) > 1 and not allow_mixed_checkpoints:
            first, second = known.digests[:2]
            raise LedgerError(
                f"{source.path}: policy {source.policy!r} has digest {second!r} here and "
                f"{first!r} elsewhere: two checkpoints under one name"
            )
    return tuple(gathered[policy].finish() for policy in sorted(gathered))


def load_rollouts(
    paths: Iterable[Path | str],
    *,
    source_format: SourceFormat | None = None,
    count_infrastructure: bool = False,
) -> list[PolicyRollouts]:
    """The policies in `paths`, by name: `read_rollouts` without what was left out."""
    return list(
        read_rollouts(
            paths, source_format=source_format, count_infrastructure=count_infrastructure
        ).policies
    )


@dataclass(kw_only=True)
class _GatheredTask:
    """One policy's episodes of one task while its sources are read."""

    outcomes: dict[int, RolloutRecord] = field(default_factory=dict)
    requested: set[int] = field(default_factory=set)
    runs: list[Run] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    scored_as_failure: dict[int, RolloutRecord] = field(default_factory=dict)

    def add(self, record: RolloutRecord, source: Path, is_scored_as_failure: bool) -> None:
        known = self.outcomes.get(record.scenario_index)
        if is_scored_as_failure:
            self.scored_as_failure[record.scenario_index] = record
        if known is None or not known.outcome.counts:
            self.outcomes[record.scenario_index] = record
        elif record.outcome.counts:
            self.repeats.append(Repeat(kept=known, ignored=record, source=source))

    def finish(self, task: str) -> TaskRollouts:
        runs = sorted(self.runs, key=lambda run: run.source)
        budgets = [run.budget for run in runs if run.budget is not None]
        return TaskRollouts(
            task=task,
            outcomes=dict(sorted(self.outcomes.items())),
            requested=tuple(sorted(self.requested)),
            max_sample_size=min(budgets, default=len(self.requested)),
            budget_is_recorded=bool(budgets),
            runs=tuple(runs),
            repeats=tuple(self.repeats),
            # Where another attempt decided, nothing is left of the error.
            scored_as_failure=frozenset(
                index
                for index, record in self.scored_as_failure.items()
                if self.outcomes[index] is record
            ),
        )


@dataclass(kw_only=True)
class _Gathered:
    """One policy while its sources are read."""

    policy: str
    tasks: dict[str, _GatheredTask] = field(default_factory=dict)
    design: EvaluationDesign | None = None
    sources: list[Path] = field(default_factory=list)
    protocols: list[Protocol] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    remarks: dict[str, None] = field(default_factory=dict)
    provenances: list[Provenance] = field(default_factory=list)

    def add(self, source: PolicySource) -> None:
        self.sources.append(source.path)
        self.remarks |= dict.fromkeys(source.remarks)
        if source.design is not None:
            self.design = self.design or source.design
            if source.design.policy_digest not in self.digests:
                self.digests.append(source.design.policy_digest)
        if source.provenance is not None and source.provenance not in self.provenances:
            self.provenances.append(source.provenance)
        if source.protocol:
            self.protocols.append(Protocol(source=source.path, settings=source.protocol))
        for task, indices in source.requested.items():
            known = self.tasks.setdefault(task, _GatheredTask())
            known.requested.update(indices)
            known.runs.append(
                Run(
                    source=source.path,
                    num_requested=len(set(indices)),
                    budget=source.budgets.get(task),
                )
            )
        scored_as_failure = frozenset(source.scored_as_failure)
        for record in source.records:
            known = self.tasks[record.task]
            if not scored_as_failure and record.scenario_index not in known.outcomes:
                # What there is to say of nearly every record.
                known.outcomes[record.scenario_index] = record
                continue
            is_scored_as_failure = (record.task, record.scenario_index) in scored_as_failure
            known.add(record, source.path, is_scored_as_failure)

    def finish(self) -> PolicyRollouts:
        # A task of which nothing was asked has nothing to be compared.
        asked_for = {task: known for task, known in self.tasks.items() if known.requested}
        for task in sorted(self.tasks.keys() - asked_for.keys()):
            self.remarks[f"task {shown(task)} has no episodes and is left out"] = None
        return PolicyRollouts(
            policy=self.policy,
            tasks={task: asked_for[task].finish(task) for task in sorted(asked_for)},
            design=self.design,
            sources=tuple(self.sources),
            protocols=tuple(self.protocols),
            digests=tuple(self.digests),
            remarks=tuple(self.remarks),
            provenances=tuple(self.provenances),
        )
