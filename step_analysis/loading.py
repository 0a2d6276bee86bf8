"""Gathering the rollouts of policies from ledgers and results files, wherever they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    LedgerError,
    latest_outcomes,
    read_design,
    read_ledger,
)
from step_analysis.results_json import (
    PUBLIC_RESULTS_PATTERN,
    RESULTS_FILE_NAME,
    ResultsFile,
    read_results_tree,
)
from step_analysis.rollouts import EvaluationDesign, RolloutRecord


@dataclass(frozen=True, kw_only=True)
class TaskRollouts:
    """One policy's episodes of one task."""

    task: str
    outcomes: Mapping[int, RolloutRecord]
    """By scenario index: the counted record, or the last error."""
    requested: tuple[int, ...]
    """Scenario indices in order, done or not."""
    max_sample_size: int
    budget_is_recorded: bool
    """Whether the budget was written down; otherwise it is the number of episodes requested."""

    @property
    def counted(self) -> list[RolloutRecord]:
        return [record for record in self.outcomes.values() if record.outcome.counts]

    @property
    def errors(self) -> list[RolloutRecord]:
        return [record for record in self.outcomes.values() if not record.outcome.counts]

    @property
    def num_missing(self) -> int:
        """Episodes requested and neither counted nor failed by an error."""
        return sum(index not in self.outcomes for index in self.requested)


@dataclass(frozen=True, kw_only=True)
class PolicyRollouts:
    """All that was found of one policy."""

    policy: str
    tasks: Mapping[str, TaskRollouts]
    design: EvaluationDesign | None
    sources: tuple[Path, ...]


@dataclass(kw_only=True)
class _Gathered:
    """One policy while its sources are read."""

    policy: str
    records: list[RolloutRecord] = field(default_factory=list)
    requested: dict[str, set[int]] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)
    design: EvaluationDesign | None = None
    sources: list[Path] = field(default_factory=list)

    def request(self, task: str, scenario_indices: Iterable[int]) -> None:
        self.requested.setdefault(task, set()).update(scenario_indices)

    def set_budget(self, task: str, budget: int, source: Path) -> None:
        known = self.budgets.setdefault(task, budget)
        if known != budget:
            raise LedgerError(
                f"{source}: {self.policy!r} on {task} has a budget of {budget} episodes here and "
                f"{known} elsewhere; a budget is fixed once, before the first episode"
            )

    def finish(self) -> PolicyRollouts:
        outcomes = latest_outcomes(self.records)
        by_task: dict[str, dict[int, RolloutRecord]] = {task: {} for task in self.requested}
        for key, record in sorted(outcomes.items()):
            by_task.setdefault(key.task, {})[key.scenario_index] = record
        tasks = {}
        for task in sorted(by_task):
            requested = self.requested.get(task, set()) | by_task[task].keys()
            budget = self.budgets.get(task)
            if budget is not None and len(by_task[task]) > budget:
                raise LedgerError(
                    f"{self.sources[0]}: {self.policy!r} has {len(by_task[task])} episodes of "
                    f"{task}, more than the budget of {budget} fixed beforehand"
                )
            tasks[task] = TaskRollouts(
                task=task,
                outcomes=by_task[task],
                requested=tuple(sorted(requested)),
                max_sample_size=budget or len(requested),
                budget_is_recorded=budget is not None,
            )
        return PolicyRollouts(
            policy=self.policy, tasks=tasks, design=self.design, sources=tuple(self.sources)
        )


def load_rollouts(paths: Iterable[Path | str]) -> list[PolicyRollouts]:
    """The policies in `paths`, by name.

    A path is a folder that an evaluation wrote, with one or more policies below; a ledger; or a
    results file or folder of LBM Eval or VLA Foundry. Results beside a ledger are left alone:
    they say the same again.

    Raises:
        LedgerError: a path is missing or nothing of the kind, two sources contradict each other,
            or one name stands for two checkpoints.
        OSError: a file can't be read.
    """
    gathered: dict[str, _Gathered] = {}
    seen: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise LedgerError(f"{path}: no such file or folder")
        for source in _sources(path):
            if source.resolve() in seen:
                continue
            seen.add(source.resolve())
            if source.suffix == ".jsonl":
                _gather_ledger(source, gathered)
        for results in _results_without_ledger(path):
            if results.path.resolve() not in seen:
                seen.add(results.path.resolve())
                _gather_results(results, gathered)
    return [gathered[policy].finish() for policy in sorted(gathered)]


def _sources(path: Path) -> list[Path]:
    """The ledgers at or below a path."""
    if path.is_file():
        return [path] if path.suffix == ".jsonl" else []
    return sorted(path.rglob(LEDGER_FILE_NAME))


def _results_without_ledger(path: Path) -> list[ResultsFile]:
    if path.is_file():
        if path.suffix == ".jsonl":
            return []
        if path.name != RESULTS_FILE_NAME and not path.match(PUBLIC_RESULTS_PATTERN):
            raise LedgerError(
                f"{path}: neither a {LEDGER_FILE_NAME}, a {RESULTS_FILE_NAME} nor a "
                f"{PUBLIC_RESULTS_PATTERN} of LBM Eval"
            )
        return read_results_tree(path)
    ledger_folders = {ledger.parent.resolve() for ledger in _sources(path)}
    return [
        results
        for results in read_results_tree(path)
        if ledger_folders.isdisjoint(results.path.resolve().parents)
    ]


def _gather_ledger(path: Path, gathered: dict[str, _Gathered]) -> None:
    design_path = path.parent / DESIGN_FILE_NAME
    design = read_design(design_path) if design_path.exists() else None
    records = read_ledger(path)
    policies = {record.policy for record in records}
    if design is not None:
        strangers = policies - {design.policy}
        if strangers:
            raise LedgerError(
                f"{path}: holds records of {sorted(strangers)}, but {design_path} is of "
                f"{design.policy!r}"
            )
        policies.add(design.policy)
    for policy in policies:
        known = gathered.setdefault(policy, _Gathered(policy=policy))
        known.sources.append(path)
        for record in records:
            if record.policy == policy:
                known.records.append(record)
                known.request(record.task, [record.scenario_index])
        if design is not None:
            _gather_design(design, design_path, known)


def _gather_design(design: EvaluationDesign, path: Path, known: _Gathered) -> None:
    if known.design is not None and known.design.policy_digest != design.policy_digest:
        raise LedgerError(
            f"{path}: policy {design.policy!r} has digest {design.policy_digest!r} here and "
            f"{known.design.policy_digest!r} elsewhere: two checkpoints under one name"
        )
    known.design = known.design or design
    for task in design.tasks:
        known.request(task, range(design.first_episode, design.first_episode + design.num_episodes))
        known.set_budget(task, design.max_sample_size, path)


def _gather_results(results: ResultsFile, gathered: dict[str, _Gathered]) -> None:
    known = gathered.setdefault(results.policy, _Gathered(policy=results.policy))
    known.sources.append(results.path)
    known.records.extend(results.records)
    for key in [*(record.key for record in results.records), *results.pending]:
        known.request(key.task, [key.scenario_index])
        if results.max_sample_size is not None:
            known.set_budget(key.task, results.max_sample_size, results.path)
