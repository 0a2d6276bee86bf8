"""Parquet files with one episode a row; `episode_table` says which columns. Needs pyarrow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from step_analysis.reading.episode_table import columns_by_role, sources_of_rows
from step_analysis.reading.source import PolicySource
from step_analysis.strict_json import FormatError

PARQUET_SUFFIX = ".parquet"
MAX_ROWS = 10_000_000
"""A few kilobytes can say that they hold far more rows than a memory."""


def read_parquet(path: Path, *, count_infrastructure: bool) -> list[PolicySource]:
    """The policies of one table.

    Raises:
        FormatError: not such a table, or pyarrow is not installed; names row and column.
        OSError: the file can't be read.
    """
    table = _open(path)
    columns = columns_by_role(table.schema_arrow.names)
    if table.metadata.num_rows > MAX_ROWS:
        raise FormatError(f"{table.metadata.num_rows} rows, more than the {MAX_ROWS} that are read")
    return sources_of_rows(
        path, columns, _rows(table, columns), count_infrastructure=count_infrastructure
    )


def why_no_episodes(path: Path) -> str | None:
    """Why the schema does not name the columns that are needed; None if it does."""
    try:
        columns_by_role(_open(path).schema_arrow.names)
    except FormatError as error:
        return str(error)
    return None


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise FormatError("reading parquet needs pyarrow; run: pip install pyarrow") from None
    try:
        return ParquetFile(path)
    except (ArrowException, ValueError) as error:
        raise FormatError(f"not parquet: {' '.join(str(error).split())}") from None


def _rows(table: Any, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from pyarrow import ArrowException

    number = 0
    try:
        for batch in table.iter_batches(columns=sorted(set(columns.values()))):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise FormatError(f"row {number + 1}: damaged: {' '.join(str(error).split())}") from None
