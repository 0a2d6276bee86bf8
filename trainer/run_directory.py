"""A run's folder, and what a resume needs.

config.json                        the resolved configuration
changes.json                       what it was before, where it was changed as the run went on
checkpoints/step_000400/           as asked for; `final` links to the last
training_state/step_000400/        weights, averages and moments of the newest save, in a file, or
                                   in one of each rank that holds a part
evaluations/step_000400/           of a checkpoint in simulation, where that was asked for
tokenizer.json, corpus/            of a language model: its text as tokens
action_tokenizer.json              of a policy that tells actions in words: these
normalization.json                 of a policy that began with another: that one's scales
metrics.jsonl                      how it goes, a line each ten steps and at a measurement
tensorboard/                       the same, and pictures
.lock                              held by the process that trains in it
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from trainer.atomic_directory import (
    atomic_directory,
    publish_directory,
    remove_partial_directories,
)
from trainer.atomic_file import atomic_file, remove_partial_files
from trainer.configuration_changes import (
    ConfigurationChange,
    changed_fields,
    changes_from_json,
    changes_to_json,
    plain_changes,
    refusals,
    with_changes_of,
    with_own_places,
)
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.errors import DataError
from trainer.distributed import World
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.scarce_memory import is_out_of_memory
from trainer.state_files import read_tensors, write_parts, write_whole

_FACTS = "state.json"
_CONFIG, _LOCK = "config.json", ".lock"


class RunError(ValueError):
    """An output folder that holds another run, or one that cannot be continued."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """step: optimizer steps taken. tensors: a learner's state. training_s: time spent so far."""

    step: int
    data_digest: str
    training_s: float
    tensors: Mapping[str, Tensor]


def _is_of_a_beginning(path: Path) -> bool:
    """Whether a run that was killed before it wrote its configuration may have left it."""
    return path.name == _LOCK or path.match(f".{_CONFIG}.*.partial")


def step_name(step: int) -> str:
    return f"step_{step:06d}"


@dataclass(frozen=True, kw_only=True)
class RunDirectory:
    root: Path

    @property
    def config_path(self) -> Path:
        return self.root / _CONFIG

    @property
    def _changes_path(self) -> Path:
        return self.root / "changes.json"

    @property
    def final_checkpoint(self) -> Path:
        return self._checkpoints / "final"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer.json"

    @property
    def action_tokenizer(self) -> Path:
        return self.root / "action_tokenizer.json"

    @property
    def normalization(self) -> Path:
        return self.root / "normalization.json"

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    def checkpoint(self, step: int) -> Path:
        return self._checkpoints / step_name(step)

    def evaluation(self, step: int) -> Path:
        return self.root / "evaluations" / step_name(step)

    @property
    def _checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def _states(self) -> Path:
        return self.root / "training_state"

    def check(self, config: RunConfig) -> None:
        """Raises RunError where the folder holds something other than this resolved run."""
        try:
            if self.config_path.exists():
                self._refuse_another_run(config)
            elif self.root.exists() and not all(map(_is_of_a_beginning, self.root.iterdir())):
                raise RunError(
                    f"{self.root}: neither empty nor a run (it has no config.json); "
                    "choose another --output"
                )
        except OSError as error:
            raise RunError(f"{self.root}: cannot be read as a run: {error}") from error

    @contextmanager
    def claimed(self, config: RunConfig) -> Iterator[None]:
        """The folder is this run's and this process's until the block ends.

        Raises RunError where it cannot be written, or another process trains in it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / _LOCK).open("ab")
        except OSError as error:
            raise RunError(f"{self.root}: cannot be written: {error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"{self.root}: another process trains in it; wait for it, stop it, or choose "
                    "another --output"
                ) from error
            self.check(config)
            try:
                self._begin(config)
            except OSError as error:
                raise RunError(f"{self.root}: cannot be written: {error}") from error
            try:
                yield
            except (ConfigurationError, DataError):
                self._forget_beginning()
                raise

    def _forget_beginning(self) -> None:
        """Leave nothing of a run that could not begin, which would bind the next command to it.

        What cannot be removed stays, such as a folder that is mounted: why the run could not begin
        is what there is to say.
        """
        lock = self.root / _LOCK
        with suppress(OSError):
            entries = list(self.root.iterdir())
            folders = [path for path in entries if path not in (self.config_path, lock)]
            if any(not path.is_dir() or any(path.iterdir()) for path in folders):
                return
            for folder in folders:
                folder.rmdir()
            # The folder is a run's until this is gone, and nobody's without the other.
            self.config_path.unlink()
            lock.unlink()
            self.root.rmdir()

    def _begin(self, config: RunConfig) -> None:
        # First of all: by it the folder is known as a run's.
        if not self.config_path.exists():
            with atomic_file(self.config_path) as file:
                file.write(config_to_json(config).encode())
        remove_partial_files(self.root)
        for parent in (self._states, self._checkpoints):
            parent.mkdir(exist_ok=True)
            remove_partial_directories(parent)

    def _refuse_another_run(self, config: RunConfig) -> None:
        stored = self.stored_config()
        refused = refusals(stored, config)
        if refused:
            raise RunError(
                f"{self.root} holds a run of another configuration ({'; '.join(refused)}); "
                "use the same one to resume it, or choose another --output"
            )
        self.changes()
        changed = changed_fields(stored, config)
        if changed and self.is_finished(config.total_steps):
            raise RunError(
                f"{self.root}: all {config.total_steps} optimizer steps are done without "
                f"{', '.join(f'{name} {now!r}' for name, (_, now) in changed.items())}; ask for "
                "more steps, or choose another --output"
            )

    def stored_config(self) -> RunConfig:
        """Raises RunError, OSError."""
        try:
            return config_from_json(self.config_path.read_text())
        except (ConfigurationError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config_path}: {error}; choose another --output") from error

    def changes(self) -> list[ConfigurationChange]:
        """Of the configuration, as the run went on. Raises RunError, OSError."""
        try:
            return changes_from_json(self._changes_path.read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise RunError(f"{self._changes_path}: {error}; choose another --output") from error

    def change(self, config: RunConfig, *, step: int, created: str) -> dict[str, list[Any]]:
        """Have the run go on after optimizer step `step` as `config` says, which `check` let pass.

        Returns [before, after] of what it changes, by name. Raises RunError, OSError.
        """
        stored, recorded = self.stored_config(), self.changes()
        changes = with_changes_of(recorded, stored, config, step=step, created=created)
        changed = changed_fields(stored, config)
        # First: where only this is done, the next resume finds what it takes for a change that
        # no step was taken with.
        if plain_changes(changes) != plain_changes(recorded):
            with atomic_file(self._changes_path) as file:
                file.write(changes_to_json(changes).encode())
        if changed:
            with atomic_file(self.config_path) as file:
                file.write(config_to_json(with_own_places(config, stored)).encode())
        return changed

    def is_finished(self, total_steps: int) -> bool:
        """Whether its last checkpoint is that of so many optimizer steps."""
        final = self.final_checkpoint
        if final.is_symlink() and final.readlink().name != step_name(total_steps):
            return False
        return (final / "MANIFEST.json").is_file()

    def link_final(self, step: int) -> None:
        link = self.final_checkpoint.with_name(".final.partial")
        link.unlink(missing_ok=True)
        link.symlink_to(step_name(step), target_is_directory=True)
        link.replace(self.final_checkpoint)

    def save_state(self, state: TrainingState, world: World | None = None) -> None:
        """The newest whole one is what a resume reads; older ones are removed after it.

        world: of ranks that hold a part each, which write together; the last word is the first's.
        """
        path = self._states / step_name(state.step)
        if world is None:
            with atomic_directory(path) as directory:
                write_whole(state.tensors, directory)
                _write_facts(state, directory)
        else:
            partial = path.with_name(f".{path.name}.partial")
            write_parts(state.tensors, partial, world.saving)
            if not world.is_first:
                return
            _write_facts(state, partial)
            publish_directory(partial, path)
        for older in self._states.glob("step_*"):
            if older != path:
                shutil.rmtree(older)

    def remove_partial_states(self) -> None:
        """Of a save that failed."""
        remove_partial_directories(self._states)

    def has_state_of(self, step: int) -> bool:
        return (self._states / step_name(step)).exists()

    def has_state(self) -> bool:
        """Whether there is something to go on from."""
        return any(self._states.glob("step_*"))

    def saved_step(self) -> int | None:
        """Of the newest save."""
        saved = self._saved()
        return int(saved[-1].name.removeprefix("step_")) if saved else None

    def _saved(self) -> list[Path]:
        """Ascending."""
        found = self._states.glob("step_*")
        return sorted(found, key=lambda path: (len(path.name), path.name))

    def load_state(self, layout: Mapping[str, Tensor] | None = None) -> TrainingState | None:
        """The newest save, or None where there is none. Raises RunError if it is damaged.

        layout: see `read_tensors`; without it every tensor is whole.
        """
        saved = self._saved()
        if not saved:
            return None
        try:
            facts = json.loads((saved[-1] / _FACTS).read_text())
            _require_files(saved[-1], facts.get("files", {}))
            return TrainingState(
                step=int(facts["step"]),
                data_digest=str(facts["data_digest"]),
                training_s=float(facts["training_s"]),
                tensors=read_tensors(saved[-1], {} if layout is None else layout),
            )
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
            safetensors.SafetensorError,
        ) as error:
            if is_out_of_memory(error):
                raise
            raise RunError(
                f"{saved[-1]}: damaged training state ({error}); remove it to start the run again"
            ) from error


def _write_facts(state: TrainingState, folder: Path) -> None:
    """Last, of files that are whole."""
    facts = {
        "step": state.step,
        "data_digest": state.data_digest,
        "training_s": state.training_s,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def _require_files(folder: Path, sizes: Mapping[str, int]) -> None:
    """Where one of several is lost, the others look whole."""
    for name, size in sizes.items():
        file = folder / Path(name).name
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            raise ValueError(f"{name}: expected {size} bytes, got {found}")
