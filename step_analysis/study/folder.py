"""A study's folder: its design beside the evaluation of each of its policies.

study.json            what the study set out to decide, locked before its first episode
study.lock            held by the one process that runs it
<policy>/             an evaluation as `sim-client evaluate` writes it: design, ledger, results
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from step_analysis.atomic_file import write_atomically
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    STUDY_FILE_NAME,
    LedgerError,
    read_design,
    read_ledger,
)
from step_analysis.rollouts import RolloutRecord
from step_analysis.strict_json import FormatError, read_bounded, shown
from step_analysis.study.design import StudyDesign
from step_analysis.study.study import Study

LOCK_FILE_NAME = "study.lock"
_LOG_SUFFIX = ".log"


class StudyFolder:
    """A study's folder, open to one process that runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Lock the folder, which is made if missing.

        Raises:
            LedgerError: another process runs the study, or something else is in the folder.
            OSError: the folder can't be written to.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        others = [p.name for p in self.path.iterdir() if p.name != LOCK_FILE_NAME]
        others = [name for name in others if not name.endswith(_LOG_SUFFIX)]
        if others and STUDY_FILE_NAME not in others:
            raise LedgerError(
                f"{self.path} holds {', '.join(sorted(others)[:3])} but no {STUDY_FILE_NAME}: a "
                "study begins in a folder of its own; use another --output"
            )
        self._lock = _locked(self.path / LOCK_FILE_NAME)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def design(self) -> StudyDesign | None:
        """The one that is locked here already. Raises as `read_study_design`."""
        path = self.path / STUDY_FILE_NAME
        return read_study_design(path) if path.exists() else None

    def agree(self, design: StudyDesign) -> None:
        """Lock the design in the folder, or see that the one there is the same or grows into it.

        Raises:
            LedgerError: another study is there, or rollouts that are none of this study's, or a
                file is corrupt; says which, and what differs.
            OSError: the design can't be written.
        """
        path = self.path / STUDY_FILE_NAME
        known = self.design()
        if known is not None:
            differences = known.differences(design)
            if differences and not design.grows_from(known):
                raise LedgerError(
                    f"{self.path} holds another study, and a changed design is a new study: use "
                    "another --output, or ask for the same (here: that study, there: this "
                    f"command): {'; '.join(differences)}"
                )
        for policy, folder in _evaluations(self.path):
            if policy not in {each.name for each in design.policies}:
                raise LedgerError(
                    f"{folder} holds rollouts of {shown(policy)}, which is no policy of the study "
                    f"in {self.path}; move it elsewhere"
                )
        if known is None or known.differences(design):
            write_atomically(path, design.to_json())


def is_study(path: Path) -> bool:
    """Whether a study was begun in this folder."""
    return (path / STUDY_FILE_NAME).is_file()


def read_study_design(path: Path) -> StudyDesign:
    """The design in a study.json.

    Raises:
        LedgerError: the file is no study's design; names it.
        OSError: the file can't be read.
    """
    try:
        return StudyDesign.from_json(read_bounded(path))
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None


def read_study(path: Path) -> Study:
    """The study in a folder, as far as it has come; another process may be running it.

    Raises:
        LedgerError: a file is corrupt, or a record is not of this study.
        OSError: a file can't be read.
    """
    design = read_study_design(path / STUDY_FILE_NAME)
    digests = {policy.name: policy.digest for policy in design.policies}
    study = Study(design)
    for policy, folder in _evaluations(path):
        begun = read_design(folder / DESIGN_FILE_NAME)
        if policy not in digests or begun.policy_digest != digests[policy]:
            raise LedgerError(
                f"{folder}: policy {shown(policy)} with digest {shown(begun.policy_digest)} is "
                f"none of the study in {path}"
            )
        ledger = folder / LEDGER_FILE_NAME
        for record in read_ledger(ledger) if ledger.exists() else ():
            add(study, record, ledger)
    return study


def add(study: Study, record: RolloutRecord, ledger: Path) -> None:
    """Raises LedgerError, which names the ledger, for a record that is not of this study."""
    try:
        study.add(record)
    except FormatError as error:
        raise LedgerError(f"{ledger}: {error}") from None


def _evaluations(path: Path) -> Iterator[tuple[str, Path]]:
    for design in sorted(path.glob(f"*/{DESIGN_FILE_NAME}")):
        yield read_design(design).policy, design.parent


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LedgerError(
            f"{path.parent}: another process is running this study; wait for it or stop it"
        ) from None
    return descriptor
