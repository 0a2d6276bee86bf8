"""What the configurations of runs have that others' have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.configuration_json import configuration_fields
from trainer.plotting.gallery import Table
from trainer.plotting.runs import Run

_ABSENT = "–"


def difference_tables(runs: list[Run]) -> list[Table]:
    """A row a field in which runs differ, a column a run; those that only some kinds of run have
    apart. None for a run alone."""
    known = [run for run in runs if run.config is not None]
    if len(known) < 2:
        return []
    fields = [configuration_fields(run.config) for run in known if run.config is not None]
    names = list(dict.fromkeys(name for each in fields for name in each))
    shared = [name for name in names if all(name in each for each in fields)]
    differing = [name for name in shared if len({repr(each[name]) for each in fields}) > 1]
    partial = [name for name in names if name not in shared]
    head = ["Field", *(run.name for run in known)]
    tables = []
    if differing:
        tables.append(
            Table(
                heading="Configuration differences",
                lead="Fields of the resolved configurations that are not the same in all runs.",
                head=head,
                rows=[_row(name, fields) for name in differing],
            )
        )
    if partial:
        tables.append(
            Table(
                heading=f"{len(partial)} fields that not every kind of run has",
                head=head,
                rows=[_row(name, fields) for name in partial],
                is_minor=True,
            )
        )
    return tables


def _row(name: str, fields: list[dict[str, Any]]) -> list[str]:
    return [name, *(_told(each, name) for each in fields)]


def _told(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return _ABSENT
    value = fields[name]
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
