"""Finding the files that hold rollouts, and reading each as what it is.

A file that is named must be one of the formats; what lies in a folder that is named is read if its
name or its beginning says that it is, and otherwise left out by name and reason, so that nothing
is missing unsaid.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, STUDY_FILE_NAME, LedgerError
from step_analysis.provenance import PROVENANCE_FILE_NAME
from step_analysis.reading import csv_file, parquet_file
from step_analysis.reading.lbm_eval import LbmEvalReader
from step_analysis.reading.ledger_file import read_ledger_file
from step_analysis.reading.lerobot import EVAL_INFO_FILE_NAME, looks_like_lerobot, read_lerobot
from step_analysis.reading.rename import Renaming, read_renaming
from step_analysis.reading.source import SOURCE_FORMATS, PolicySource, SourceFormat
from step_analysis.reading.vla_eval import looks_like_vla_eval, read_vla_eval
from step_analysis.results_json import (
    PUBLIC_RESULTS_PATTERN,
    RESULTS_FILE_NAME,
    is_foundry_layout,
)
from step_analysis.rollouts import check_name
from step_analysis.strict_json import FormatError, parse_object, read_bounded

_LEDGER_SUFFIX = ".jsonl"
# Beside our ledgers; they are read with these.
_OUR_OWN = (DESIGN_FILE_NAME, PROVENANCE_FILE_NAME, STUDY_FILE_NAME)
_LBM_EVAL: tuple[SourceFormat, ...] = ("lbm-eval", "foundry")
_HEAD_BYTES = 4096
# How the files of vla-eval and LeRobot begin; their names say nothing.
_JSON_BEGINNINGS: Mapping[SourceFormat, re.Pattern[bytes]] = {
    "vla-eval": re.compile(rb'\A\s*\{\s*"benchmark"\s*:'),
    "lerobot": re.compile(rb'\A\s*\{\s*"per_(task|episode)"\s*:'),
}


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file below a named folder that was not read."""

    path: Path
    reason: str


@dataclass(kw_only=True)
class Discovery:
    """Reads everything at the paths that are named, each file once.

    Args:
        source_format: what the files are; None recognises each by its name and content.
        count_infrastructure: count errors that a file scores as failures as failures.
    """

    source_format: SourceFormat | None = None
    count_infrastructure: bool = False
    left_out: list[LeftOut] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def read(self, path: Path) -> Iterator[PolicySource]:
        """What the file, or every file in the folder, says.

        Raises:
            LedgerError: the path is missing, a file is not of the format that it seems or is said
                to be, or holds something wrong; names the file and the field.
            OSError: a file can't be read.
        """
        if not path.exists():
            raise LedgerError(f"{path}: no such file or folder")
        # The folders' names matter, and of '.' they show only in full.
        path = Path(os.path.normpath(path.absolute()))
        if path.is_file():
            named_format = self.source_format or _format_of_named(path)
            if named_format is None:
                raise LedgerError(
                    f"{path}: neither a {LEDGER_FILE_NAME}, a {RESULTS_FILE_NAME} or "
                    f"{PUBLIC_RESULTS_PATTERN} of LBM Eval, nor results of vla-eval or LeRobot, "
                    f"nor a CSV or parquet table; --from says what it is: "
                    f"{', '.join(SOURCE_FORMATS)}"
                )
            files: list[tuple[Path, SourceFormat]] = [(path, named_format)]
            renaming = Renaming()
        else:
            files = self.files_below(path)
            renaming = read_renaming(path)
        results = LbmEvalReader(
            root=path, renaming=renaming, count_infrastructure=self.count_infrastructure
        )
        for file, source_format in files:
            resolved = file.resolve()
            if resolved not in self._seen:
                self._seen.add(resolved)
                yield from self.read_file(file, source_format, results)

    def files_below(self, root: Path) -> list[tuple[Path, SourceFormat]]:
        """The files of rollouts in a folder, in order; others are noted in `left_out`.

        Raises:
            OSError: a file can't be read.
        """
        return sorted(self._files_below(root))

    def read_file(
        self, path: Path, source_format: SourceFormat, results: LbmEvalReader
    ) -> Sequence[PolicySource]:
        """One file, as what it is. Raises as `read` does."""
        count = self.count_infrastructure
        if source_format == "ledger":
            return read_ledger_file(path)
        if source_format in _LBM_EVAL:
            return [results.read(path, self.source_format)]
        try:
            if source_format == "csv":
                return csv_file.read_csv(path, count_infrastructure=count)
            if source_format == "parquet":
                return parquet_file.read_parquet(path, count_infrastructure=count)
            policy = check_name(path.parent.name, "policy, from the folder's name")
            document = parse_object(read_bounded(path), "results", allow_nan=True)
            if source_format == "vla-eval":
                return [read_vla_eval(path, document, policy, count_infrastructure=count)]
            return [read_lerobot(path, document, policy)]
        except FormatError as error:
            raise LedgerError(f"{path}: {error}") from None

    def _files_below(self, root: Path) -> Iterator[tuple[Path, SourceFormat]]:
        below_ledgers: set[Path] = set()
        walked: set[tuple[int, int]] = set()
        for folder, subfolders, names in os.walk(root, followlinks=True):
            place = Path(folder)
            status = place.stat()
            if (status.st_dev, status.st_ino) in walked:
                # Without this a link to a folder above would lead round forever.
                subfolders.clear()
                continue
            walked.add((status.st_dev, status.st_ino))
            if LEDGER_FILE_NAME in names or place.parent in below_ledgers:
                below_ledgers.add(place)
            elif RESULTS_FILE_NAME in names and is_foundry_layout(place / RESULTS_FILE_NAME):
                # Below lie the recordings of single episodes, by the thousand.
                subfolders.clear()
            for name in names:
                # The results and tables beside a ledger and below say the same again.
                is_copy = place in below_ledgers and self.source_format is None
                if is_copy and name != LEDGER_FILE_NAME:
                    continue
                found = _format_of_found(place / name)
                if isinstance(found, LeftOut):
                    self.left_out.append(found)
                elif found is not None and self._is_wanted(found):
                    yield place / name, found

    def _is_wanted(self, found: SourceFormat) -> bool:
        if self.source_format in _LBM_EVAL:
            return found in _LBM_EVAL
        return self.source_format in (None, found)


def _format_of_found(path: Path) -> SourceFormat | LeftOut | None:
    """What a file in a folder is; None for what can't be meant to be rollouts."""
    suffix = path.suffix.lower()
    if path.name == RESULTS_FILE_NAME or fnmatch(path.name, PUBLIC_RESULTS_PATTERN):
        return "foundry" if is_foundry_layout(path) else "lbm-eval"
    if path.name == LEDGER_FILE_NAME:
        return "ledger"
    if path.name == EVAL_INFO_FILE_NAME:
        return "lerobot"
    if suffix == ".json" and path.name not in _OUR_OWN:
        return _format_by_beginning(path) or LeftOut(path=path, reason="JSON of no known format")
    if suffix in csv_file.CSV_SUFFIXES:
        reason = csv_file.why_no_episodes(path)
        return "csv" if reason is None else LeftOut(path=path, reason=reason)
    if suffix == parquet_file.PARQUET_SUFFIX:
        reason = parquet_file.why_no_episodes(path)
        return "parquet" if reason is None else LeftOut(path=path, reason=reason)
    return None


def _format_by_beginning(path: Path) -> SourceFormat | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for source_format, beginning in _JSON_BEGINNINGS.items():
        if beginning.match(head):
            return source_format
    return None


def _format_of_named(path: Path) -> SourceFormat | None:
    """What a file that was named itself is; None if nothing says so."""
    suffix = path.suffix.lower()
    if suffix == _LEDGER_SUFFIX:
        return "ledger"
    if suffix in csv_file.CSV_SUFFIXES:
        return "csv"
    if suffix == parquet_file.PARQUET_SUFFIX:
        return "parquet"
    if suffix != ".json":
        return None
    found = _format_of_found(path)
    if found is not None and not isinstance(found, LeftOut):
        return found
    try:
        document: dict[str, Any] = parse_object(read_bounded(path), "results", allow_nan=True)
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None
    if "evaluations" in document:
        return "lbm-eval"
    if looks_like_vla_eval(document):
        return "vla-eval"
    return "lerobot" if looks_like_lerobot(document) else None
