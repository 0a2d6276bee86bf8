"""Our own ledger, with the design beside it."""

from collections.abc import Sequence
from pathlib import Path

from step_analysis.ledger import DESIGN_FILE_NAME, LedgerError, read_design, read_ledger
from step_analysis.provenance import PROVENANCE_FILE_NAME, Provenance, read_provenance
from step_analysis.reading.fields import episode_range
from step_analysis.reading.source import PolicySource, flattened
from step_analysis.rollouts import EvaluationDesign, RolloutRecord
from step_analysis.strict_json import FormatError


def read_ledger_file(path: Path) -> list[PolicySource]:
    """The policies of a ledger.jsonl.

    Raises:
        LedgerError: a line is corrupt, or the design beside it is of another policy.
        OSError: a file can't be read.
    """
    return ledger_sources(path, read_ledger(path))


def ledger_sources(path: Path, records: Sequence[RolloutRecord]) -> list[PolicySource]:
    """The same for a ledger whose records are read already.

    Raises:
        LedgerError: the design or the provenance beside it is broken, or of another policy.
        OSError: one of them can't be read.
    """
    design_path = path.parent / DESIGN_FILE_NAME
    design = read_design(design_path) if design_path.exists() else None
    provenance = _provenance(path.parent / PROVENANCE_FILE_NAME)
    policies = {record.policy for record in records}
    if design is not None:
        strangers = policies - {design.policy}
        if strangers:
            raise LedgerError(
                f"{path}: holds records of {sorted(strangers)}, but {design_path} is of "
                f"{design.policy!r}"
            )
        policies.add(design.policy)
    sources = []
    for policy in sorted(policies):
        own = [record for record in records if record.policy == policy]
        requested: dict[str, set[int]] = {}
        for record in own:
            requested.setdefault(record.task, set()).add(record.scenario_index)
        budgets: dict[str, int] = {}
        if design is not None:
            asked_for = _asked_for(design, design_path)
            for task in design.tasks:
                requested.setdefault(task, set()).update(asked_for)
                budgets[task] = design.max_sample_size
        sources.append(
            PolicySource(
                path=path,
                policy=policy,
                records=own,
                requested=requested,
                budgets=budgets,
                design=design,
                provenance=provenance,
                protocol=_protocol(design) if design is not None else {},
            )
        )
    return sources


def _provenance(path: Path) -> Provenance | None:
    try:
        return read_provenance(path) if path.exists() else None
    except FormatError as error:
        raise LedgerError(str(error)) from None


def _asked_for(design: EvaluationDesign, path: Path) -> range:
    try:
        return episode_range(design.first_episode, design.num_episodes, "num_episodes")
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None


def _protocol(design: EvaluationDesign) -> dict[str, object]:
    return {
        "seed_range": design.seed_range,
        **flattened(design.station, "station"),
        **flattened(design.software, "software"),
    }
