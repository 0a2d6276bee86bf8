"""The arguments of a verb, as a dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from policy_interface.usage import UsageError, parse_or_say_why

_Arguments = TypeVar("_Arguments")


def parse_arguments(
    kind: type[_Arguments],
    arguments: Sequence[str],
    *,
    program: str,
    description: str,
    default: _Arguments | None = None,
) -> _Arguments:
    """Like tyro.cli, but bad usage is a UsageError of one line instead of a box of many."""
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        return parse_or_say_why(
            lambda: tyro.cli(
                kind,
                args=arguments,
                prog=program,
                description=description,
                # Which of several kinds a part is, the recipe says.
                config=(tyro.conf.AvoidSubcommands,),
                **options,
            )
        )
    except UsageError as error:
        raise UsageError(f"{error}; see {program} --help") from error
