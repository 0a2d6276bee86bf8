"""Recipes of one's own: a JSON file that says what it begins with, and what differs.

    {"recipe": "one_task", "batch_size": 16, "optimizer": {"learning_rate": 5e-4}}

`recipe` is the name of a shipped recipe, or another file, seen from the folder of this one. A file
without it is a whole configuration, such as a run's config.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policy_interface.usage import UsageError
from trainer.configuration_json import config_from_json
from trainer.configuration_merging import merged
from trainer.recipes.catalog import find_recipe
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig

_BEGINNING = "recipe"


def is_recipe_file(recipe: str) -> bool:
    """Whether that is a file's path and no recipe's name."""
    return recipe.endswith(".json")


def read_recipe_file(path: Path) -> RunConfig:
    """The configuration that a file describes, alone or by what it begins with.

    Raises UsageError for a file that cannot be read, ConfigurationError for anything in it that
    cannot be, naming the file and the field.
    """
    return _read(path, ())


def _read(path: Path, before: Sequence[Path]) -> RunConfig:
    """before: the files that led here, each beginning with the next."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        asking = f" ({before[-1]} begins with it)" if before else ""
        raise UsageError(f"{path}: cannot be read{asking}: {error}") from error
    with _told_of(path):
        fields = _object_of(text)
        if _BEGINNING not in fields:
            return _whole_config(text)
        named = fields.pop(_BEGINNING)
        beginning = _beginning(named, [*before, path])
    if isinstance(beginning, Path):
        beginning = _read(beginning, [*before, path])
    with _told_of(path):
        return merged(beginning, _without_kind(fields, beginning))


def _beginning(named: Any, files: Sequence[Path]) -> RunConfig | Path:
    """A shipped recipe, or the file that comes next."""
    if not isinstance(named, str):
        raise ConfigurationError(
            f"{_BEGINNING}: expected a recipe's name, or the path of a file that ends in .json, "
            f"got {named!r:.80}"
        )
    if not is_recipe_file(named):
        return find_recipe(named)
    file = files[-1].parent / Path(named).expanduser()
    if os.path.realpath(file) in map(os.path.realpath, files):
        raise ConfigurationError(
            f"{_BEGINNING}: expected files that end at a recipe, got a circle: "
            f"{' -> '.join(map(str, [*files, file]))}"
        )
    return file


def _object_of(text: str) -> dict[str, Any]:
    """Empty for what is no object of JSON, of which a whole configuration's reader says more."""
    try:
        found = json.loads(text, object_pairs_hook=_each_once)
    except ConfigurationError:
        raise
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _each_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ConfigurationError(f"{name}: expected each key of an object once, got it twice")
        found[name] = value
    return found


def _whole_config(text: str) -> RunConfig:
    try:
        return config_from_json(text)
    except ConfigurationError as error:
        # A file of what differs may lack what it differs from.
        hint = ""
        if str(error).startswith(("missing ", "unknown ")):
            hint = (
                "; a file that holds only what differs names the recipe that it begins with, by "
                f"the key {_BEGINNING!r}"
            )
        raise ConfigurationError(f"{error}{hint}") from error


def _without_kind(fields: Mapping[str, Any], beginning: RunConfig) -> Mapping[str, Any]:
    """A file may repeat what kind of training its beginning is."""
    kind = fields.get("kind", beginning.kind)
    if kind != beginning.kind:
        raise ConfigurationError(
            f"kind: expected {beginning.kind!r}, as what it begins with has it, got {kind!r:.80}"
        )
    return {name: value for name, value in fields.items() if name != "kind"}


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
