"""CSV (and tab-separated) files with one episode a row; `episode_table` says which columns."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from step_analysis.reading.episode_table import columns_by_role, sources_of_rows
from step_analysis.reading.source import PolicySource
from step_analysis.strict_json import FormatError, read_bounded

CSV_SUFFIXES = (".csv", ".tsv")
_MAX_HEADER = 1 << 16


def read_csv(path: Path, *, count_infrastructure: bool) -> list[PolicySource]:
    """The policies of one table.

    Raises:
        FormatError: not such a table; names line and column.
        OSError: the file can't be read.
    """
    try:
        text = read_bounded(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8: {error}") from None
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path), strict=True)
    try:
        header = next(rows, None)
        if not header:
            raise FormatError("empty: a line with the columns' names expected first")
        columns = columns_by_role(header)
        return sources_of_rows(
            path, columns, _named(rows, header), count_infrastructure=count_infrastructure
        )
    except csv.Error as error:
        raise FormatError(f"line {rows.line_num}: not CSV: {error}") from None


def why_no_episodes(path: Path) -> str | None:
    """Why the first line does not name the columns that are needed; None if it does."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_MAX_HEADER)
        columns_by_role(next(csv.reader(io.StringIO(first), delimiter=_delimiter(path)), []))
    except (FormatError, UnicodeDecodeError, csv.Error) as error:
        return str(error)
    return None


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _named(rows: Any, header: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for row in rows:
        if not row:
            continue
        where = f"line {rows.line_num}"
        if len(row) != len(header):
            raise FormatError(f"{where}: {len(row)} values for {len(header)} columns")
        yield where, dict(zip(header, row, strict=True))
