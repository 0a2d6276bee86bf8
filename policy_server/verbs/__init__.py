"""The verbs of `policy-server`: each a frozen dataclass of options with a method `run`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

import tyro

from policy_interface.usage import UsageError, parse_or_say_why
from policy_server.address import AddressError
from policy_server.policy import InvalidPolicyError
from policy_server.security import SecurityError
from policy_server.server import OptionError
from policy_server.targets import TargetError
from policy_server.verbs.bench import Bench
from policy_server.verbs.health import Health
from policy_server.verbs.serve import Serve
from policy_server.verbs.top import Top

_BAD_USAGE = 2


class Verb(Protocol):
    """One command."""

    def run(self) -> int:
        """Do it and return the exit code. Raises one of the errors of bad usage."""
        ...


VERBS: Mapping[str, type[Verb]] = {
    "serve": Serve,
    "health": Health,
    "top": Top,
    "bench": Bench,
}


def run(arguments: Sequence[str]) -> int:
    """Parse and run one verb; returns the exit code."""
    try:
        verb = parse_or_say_why(
            lambda: tyro.extras.subcommand_cli_from_dict(
                dict(VERBS),
                prog="policy-server",
                description="Serve robot policies over gRPC, on the wire that LBM Eval speaks.",
                args=list(arguments),
            )
        )
    except UsageError as error:
        print(f"policy-server: {error}; see policy-server --help", file=sys.stderr)
        return _BAD_USAGE
    try:
        return verb.run()
    except (
        AddressError,
        InvalidPolicyError,
        OptionError,
        SecurityError,
        TargetError,
        UsageError,
    ) as error:
        print(f"policy-server: {error}", file=sys.stderr)
        return _BAD_USAGE
