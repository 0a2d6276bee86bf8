"""A folder of demonstrations as the recorder sees it: what it holds, what it lacks.

`dataset.json` beside the demonstrations says what was asked for, so that nobody goes on with other
options by mistake, and which scenarios the expert did not solve, and why.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from policy_interface.contract import Contract
from policy_interface.demonstration import (
    DemonstrationError,
    list_demonstrations,
    load_demonstration,
)

DATASET_FILE = "dataset.json"
DATASET_SCHEMA = "assay.dataset/1"


class FolderUnusableError(ValueError):
    """A folder that can't be written, or that holds something else than what is to be recorded."""


@dataclass(kw_only=True)
class DemonstrationFolder:
    """path: the folder. request: what is recorded (task, cameras, noise), as JSON values.

    first: the first scenario that may be recorded.
    recorded: scenario indices with a whole demonstration. unsuccessful: those that the expert did
    not solve, with the reason.
    """

    path: Path
    first: int
    request: Mapping[str, Any]
    recorded: set[int]
    unsuccessful: dict[int, str]

    @staticmethod
    def open(
        path: Path,
        *,
        task: str,
        contract: Contract,
        noise: Mapping[str, Any],
        roll_in: Mapping[str, Any] | None,
        first: int,
    ) -> DemonstrationFolder:
        """Make the folder, or take stock of it. A file that is not whole is removed.

        contract: what the recording station gives. roll_in: the policy that begins, if there is
        one. Raises FolderUnusableError.
        """
        request = {
            "task": task,
            "cameras": {name: str(size) for name, size in contract.cameras.items()},
            "noise": dict(noise),
            "roll_in": roll_in,
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise FolderUnusableError(f"{path}: not a writable folder: {error}") from error
        folder = DemonstrationFolder(
            path=path,
            first=first,
            request=request,
            unsuccessful=_unsuccessful_before(path, request),
            recorded=_whole_demonstrations(path, task=task, contract=contract),
        )
        folder._write()
        return folder

    def note_unsuccessful(self, scenario_index: int, reason: str) -> None:
        self.unsuccessful[scenario_index] = reason
        self._write()

    def unknown_scenarios(self) -> Iterator[int]:
        """The scenarios, from the first up, of which nothing is known when they are asked for."""
        for index in count(self.first):
            if index not in self.recorded and index not in self.unsuccessful:
                yield index

    def _write(self) -> None:
        fields = {
            "schema": DATASET_SCHEMA,
            **self.request,
            "unsuccessful": {str(i): why for i, why in sorted(self.unsuccessful.items())},
        }
        partial = self.path / f".{DATASET_FILE}.{os.getpid()}.partial"
        with partial.open("w") as file:
            json.dump(fields, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / DATASET_FILE)


def _unsuccessful_before(path: Path, request: Mapping[str, Any]) -> dict[int, str]:
    description = path / DATASET_FILE
    try:
        fields = json.loads(description.read_text())
        # Older folders say nothing of a policy that begins: there was none.
        before = {"roll_in": None} | {name: fields[name] for name in request if name in fields}
        if missing := request.keys() - before.keys():
            raise KeyError(*sorted(missing))
        unsuccessful = {int(index): str(why) for index, why in fields["unsuccessful"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FolderUnusableError(
            f"{description}: not a description of a data set ({error!r}); choose another folder"
        ) from error
    for name, value in request.items():
        if before[name] != value:
            raise FolderUnusableError(
                f"{path} holds demonstrations with {name} {before[name]}, not {value}; "
                "choose another folder, or the same options to go on"
            )
    return unsuccessful


def _whole_demonstrations(path: Path, *, task: str, contract: Contract) -> set[int]:
    try:
        files = list_demonstrations(path)
    except DemonstrationError:
        return set()
    whole = set()
    for file in files:
        try:
            demonstration = load_demonstration(file)
        except DemonstrationError as error:
            print(f"{error}; it is recorded again", file=sys.stderr)
            file.unlink()
            continue
        if demonstration.task != task or demonstration.contract != contract:
            raise FolderUnusableError(
                f"{file} is a demonstration of {demonstration.task}, or with other cameras, than "
                f"the {task} to be recorded; choose another folder"
            )
        whole.add(demonstration.scenario_index)
    return whole
