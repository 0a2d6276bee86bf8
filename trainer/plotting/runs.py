"""Folders of training runs, read for looking at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.configuration_json import config_from_json
from trainer.plotting.errors import PlottingError
from trainer.plotting.event_files import Scalars, read_scalars
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """config: None where it cannot be read. scalars: by name, such as `train/loss`."""

    name: str
    path: Path
    config: RunConfig | None
    scalars: Mapping[str, Scalars]

    @property
    def last_step(self) -> int:
        return max(int(each.steps[-1]) for each in self.scalars.values())


def read_runs(words: Sequence[str], warn: Callable[[str], None]) -> list[Run]:
    """words: folders, each perhaps with a name in front, `wide=runs/b`.

    `warn` is told what is damaged and left out. Raises PlottingError, OSError.
    """
    return [_read_run(name, path, warn) for name, path in named_folders(words).items()]


def named_folders(
    words: Sequence[str], name_of: Callable[[Path], str] | None = None
) -> dict[str, Path]:
    """By name: that given, or name_of's, or the folder's own.

    Raises PlottingError where there is no such folder, or a name is given twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        path = Path(rest) if equals and name and not Path(word).exists() else Path(word)
        if not path.is_dir():
            raise PlottingError(f"{path}: no such folder")
        if path == Path(word):
            whole = path.absolute() if path.name else path.resolve()
            name = name_of(whole) if name_of else whole.name
        if name in found:
            raise PlottingError(
                f"{found[name]} and {path} would both be called {name!r}; give a name in front of "
                f"one: other={path}"
            )
        found[name] = path
    return found


def _read_run(name: str, path: Path, warn: Callable[[str], None]) -> Run:
    directory = RunDirectory(root=path)
    if not directory.config_path.is_file():
        raise PlottingError(f"{path}: no run: it has no config.json; expected what --output named")
    scalars = read_scalars(directory.tensorboard, warn)
    if not scalars:
        raise PlottingError(
            f"{path}: no events: tensorboard/ holds no scalars; a run writes its first ones after "
            "10 optimizer steps"
        )
    config = None
    try:
        config = config_from_json(directory.config_path.read_text())
    except (ConfigurationError, UnicodeDecodeError) as error:
        warn(f"{directory.config_path}: {error}; its curves are shown without it")
    return Run(name=name, path=path, config=config, scalars=scalars)
