"""A folder of results, looked at again and again: what has not changed is not read again."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from step_analysis.dashboard.gathering import Gathering
from step_analysis.dashboard.snapshot import NOMINAL, Snapshot, condition_of
from step_analysis.findings import Finding, Severity
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    STUDY_FILE_NAME,
    LedgerError,
    is_being_written,
)
from step_analysis.ledger_follower import LedgerFollower
from step_analysis.provenance import PROVENANCE_FILE_NAME
from step_analysis.reading.discovery import Discovery, LeftOut
from step_analysis.reading.lbm_eval import LbmEvalReader
from step_analysis.reading.ledger_file import ledger_sources
from step_analysis.reading.rename import RENAME_FILE_NAME, Renaming, read_renaming
from step_analysis.reading.source import PolicySource, SourceFormat
from step_analysis.rollouts import RolloutRecord
from step_analysis.study.design import StudyDesign
from step_analysis.study.folder import read_study_design

_FIRST_PUBLISHED_S = 0.5
"""During a long first reading what is there so far is shown after this, and each time again when
the reading has taken twice as long: who looks at it has the page worked out anew for that."""

_Stamp = tuple[int, int, int] | None


@dataclass(kw_only=True)
class _KnownFile:
    """What was read of one file, and the state of the disk that it was read in."""

    stamps: tuple[_Stamp, ...] = ()
    sources: Sequence[PolicySource] = ()
    errors: Sequence[Sequence[RolloutRecord]] = ()
    """Of each source: the attempts that ended in an error."""
    fault: str | None = None
    follower: LedgerFollower | None = None
    is_written: bool = False


@dataclass(kw_only=True)
class ResultsFolder:
    """Reads a folder that evaluations write, as `step-analysis report` does.

    A file that can't be read becomes a finding, and the others are shown. `publish` gets each
    new snapshot.
    """

    root: Path
    publish: Callable[[Snapshot], None]
    count_infrastructure: bool = False
    _known: dict[Path, _KnownFile] = field(default_factory=dict)
    _gathering: Gathering = field(default_factory=Gathering)
    _formats: dict[Path, SourceFormat] = field(default_factory=dict)
    _renaming_stamp: _Stamp = None
    _shown: tuple[tuple[object, ...], ...] = ()
    _version: int = 0

    def __post_init__(self) -> None:
        # The folders' names matter, and of '.' they show only in full.
        self.root = Path(os.path.normpath(self.root.absolute()))

    def look(self) -> None:
        """Read what is new, and publish a snapshot if anything is.

        Never raises for what lies in the folder.
        """
        discovery = Discovery(count_infrastructure=self.count_infrastructure)
        faults: list[Finding] = []
        renaming = Renaming()
        try:
            renaming = self._read_renaming()
        except (LedgerError, OSError) as error:
            faults.append(_fault(self.root / RENAME_FILE_NAME, str(error)))
        study_design = self._read_study(faults)
        files: list[tuple[Path, SourceFormat]]
        try:
            files = discovery.files_below(self.root)
        except OSError as error:
            # Between the listing and the opening a file may go; the next look tells.
            faults.append(_fault(self.root, str(error)))
            files = [(path, kind) for path, kind in self._formats.items() if path.exists()]
        self._formats = dict(files)
        for gone in self._known.keys() - self._formats.keys():
            del self._known[gone]
        results = LbmEvalReader(
            root=self.root, renaming=renaming, count_infrastructure=self.count_infrastructure
        )
        began, shown_after_s = time.monotonic(), _FIRST_PUBLISHED_S
        for number, (path, source_format) in enumerate(files, start=1):
            self._read(path, source_format, discovery, results)
            if time.monotonic() - began > shown_after_s and number < len(files):
                self._publish(discovery.left_out, faults, study_design, len(files), number)
                shown_after_s = 2.0 * (time.monotonic() - began)
        self._publish(discovery.left_out, faults, study_design, len(files), len(files))

    def _read_renaming(self) -> Renaming:
        stamp = _stamp(self.root / RENAME_FILE_NAME)
        if stamp != self._renaming_stamp:
            self._renaming_stamp = stamp
            self._known.clear()
        return read_renaming(self.root)

    def _read(
        self,
        path: Path,
        source_format: SourceFormat,
        discovery: Discovery,
        results: LbmEvalReader,
    ) -> None:
        known = self._known.setdefault(path, _KnownFile())
        is_ledger = source_format == "ledger"
        beside = (DESIGN_FILE_NAME, PROVENANCE_FILE_NAME) if is_ledger else ()
        stamps = (_stamp(path), *(_stamp(path.parent / name) for name in beside))
        try:
            known.is_written = is_ledger and is_being_written(path)
            if stamps == known.stamps:
                return
            known.stamps = stamps
            if is_ledger:
                known.follower = known.follower or LedgerFollower(path)
                # A copy, since the follower's own list grows.
                known.sources = ledger_sources(path, [*known.follower.read()])
            else:
                known.sources = discovery.read_file(path, source_format, results)
            known.fault = None
        except (LedgerError, OSError, RecursionError) as error:
            known.sources, known.fault = (), str(error)
        known.errors = [
            [record for record in source.records if not record.outcome.counts]
            for source in known.sources
        ]

    def _read_study(self, faults: list[Finding]) -> StudyDesign | None:
        path = self.root / STUDY_FILE_NAME
        if not path.is_file():
            return None
        try:
            return read_study_design(path)
        except (LedgerError, OSError) as error:
            faults.append(_fault(path, str(error)))
            return None

    def _publish(
        self,
        left_out: Iterable[LeftOut],
        faults: Iterable[Finding],
        study_design: StudyDesign | None,
        num_files: int,
        num_read: int,
    ) -> None:
        read = {p: known for p, known in self._known.items() if known.stamps}
        left_out = tuple(left_out)
        all_faults = [*faults]
        all_faults += [_fault(path, known.fault) for path, known in read.items() if known.fault]
        shown = (
            *((path, known.stamps, known.is_written) for path, known in sorted(read.items())),
            (*all_faults,),
            left_out,
            (study_design, num_files, num_read),
        )
        if shown == self._shown:
            return
        self._shown = shown
        self._version += 1
        self.publish(
            _snapshot(
                self.root,
                self._version,
                [known for _, known in sorted(read.items())],
                self._gathering,
                faults=tuple(all_faults),
                left_out=left_out,
                study_design=study_design,
                num_files=num_files,
                num_read=num_read,
            )
        )


def _snapshot(
    root: Path,
    version: int,
    files: Sequence[_KnownFile],
    gathering: Gathering,
    *,
    faults: tuple[Finding, ...],
    left_out: tuple[LeftOut, ...],
    study_design: StudyDesign | None,
    num_files: int,
    num_read: int,
) -> Snapshot:
    by_condition: dict[str, list[PolicySource]] = {}
    running: set[tuple[str, str]] = set()
    errors: dict[str, list[RolloutRecord]] = {}
    for known in files:
        for source, failed in zip(known.sources, known.errors, strict=True):
            condition = condition_of(source.design)
            by_condition.setdefault(condition, []).append(source)
            errors.setdefault(condition, []).extend(failed)
            if known.is_written:
                running.add((condition, source.policy))
    order = sorted(by_condition, key=lambda name: (name != NOMINAL, name))
    return Snapshot(
        root=root,
        version=version,
        conditions=gathering.gather({name: by_condition[name] for name in order}),
        error_attempts=errors,
        running=frozenset(running),
        faults=faults,
        left_out=left_out,
        study_design=study_design,
        num_files=num_files,
        num_files_read=num_read,
        is_complete=num_read == num_files,
    )


def _stamp(path: Path) -> _Stamp:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _fault(path: Path, message: str) -> Finding:
    return Finding(
        code="file-not-readable",
        severity=Severity.ERROR,
        policy=None,
        task=None,
        count=1,
        text=" ".join(message.split()) or f"{path}: can't be read",
        effect="nothing in this file is in any number",
    )
