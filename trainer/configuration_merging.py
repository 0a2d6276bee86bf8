"""What differs from a configuration, merged in: deeply, and as strictly as a whole one is read.

Parts merge field by field. Numbers, names, lists and free-form mappings replace what was there. Of
a field that may be one of several kinds, such as a vision-language model's language model, the keys
say which: those that the present kind has merge into it; those that only another kind has replace
the whole by that kind, whose other fields are then its defaults.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from trainer.configuration_json import did_you_mean, field_types, read_value
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig

_Config = TypeVar("_Config", bound=RunConfig)


def merged(config: _Config, changes: Mapping[str, Any]) -> _Config:
    """The configuration with the changes, of JSON, in it.

    Raises ConfigurationError for a key that is none, with a suggestion, for a value of another type
    and for what cannot be, naming the field by its path, such as `optimizer.learning_rate`.
    """
    return _merged_part(type(config), config, changes, "")


def _merged_part(kind: type[Any], present: Any, changes: Mapping[str, Any], path: str) -> Any:
    """present: of that kind, or of another, which then gives way to that kind's defaults."""
    hints = field_types(kind)
    for name in changes:
        if name not in hints:
            raise ConfigurationError(
                f"unknown configuration key {path + name!r}{did_you_mean(name, hints)}"
            )
    replaced = type(present) is not kind
    before = _defaults(kind) if replaced else {name: getattr(present, name) for name in hints}
    missing = [path + name for name in hints if name not in before and name not in changes]
    if missing:
        why = ""
        if dataclasses.is_dataclass(present):
            why = (
                f": {', '.join(changes)} would make of the {type(present).__name__} that there is "
                f"a {kind.__name__}, which needs them"
            )
        raise ConfigurationError(f"missing configuration keys {missing}{why}")
    values = {
        name: _merged_value(hints[name], before.get(name), value, path + name)
        for name, value in changes.items()
    }
    try:
        return kind(**before | values)
    except ConfigurationError as error:
        # Parts name their own fields alone.
        is_own = str(error).partition(":")[0] in hints
        raise ConfigurationError(f"{path if is_own else ''}{error}") from error


def _merged_value(hint: Any, present: Any, value: Any, path: str) -> Any:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [kind for kind in members if dataclasses.is_dataclass(kind)]
    if not kinds or not isinstance(value, dict):
        return read_value(hint, value, path)
    return _merged_part(_kind_of(kinds, present, value, path), present, value, path + ".")


def _kind_of(kinds: Sequence[Any], present: Any, value: Mapping[str, Any], path: str) -> Any:
    """The present kind, where it has all keys; else the one that has."""
    known = {kind: value.keys() & field_types(kind).keys() for kind in kinds}
    # The present one first, so that it is meant where nothing speaks for another.
    ordered = sorted(kinds, key=lambda kind: type(present) is not kind)
    fitting = [kind for kind in ordered if len(known[kind]) == len(value)]
    if fitting and (len(fitting) == 1 or fitting[0] is type(present)):
        return fitting[0]
    if fitting or (len(kinds) > 1 and set().union(*known.values()) == value.keys()):
        own = "; ".join(f"{kind.__name__}: {', '.join(field_types(kind))}" for kind in kinds)
        raise ConfigurationError(
            f"{path}: expected keys that one kind alone has, got {list(value)}; there are {own}"
        )
    return max(ordered, key=lambda kind: len(known[kind]))


def _defaults(kind: type[Any]) -> dict[str, Any]:
    """Of those fields that have one."""
    return {
        one.name: one.default_factory()
        if one.default_factory is not dataclasses.MISSING
        else one.default
        for one in dataclasses.fields(kind)
        if one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
    }
