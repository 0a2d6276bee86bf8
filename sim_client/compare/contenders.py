"""The policies of a comparison: where each is served, and what it is called."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim_client.compare.config import CompareConfig
from sim_client.compare.own_server import LOG_FILE_NAME, own_server, served_name
from sim_client.evaluation.errors import UsageError

_SERVED = re.compile(r"(?P<address>[^/\s]+:[0-9]{1,5})(?:/(?P<policy>\S.*))?")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """policy: which of the policies at the address; None for its first. name: in the results; None
    for the one that the server states."""

    address: str
    policy: str | None
    name: str | None


@contextlib.contextmanager
def served_contenders(config: CompareConfig) -> Iterator[tuple[Contender, ...]]:
    """While entered, all policies are served; a server of our own is ended at the end.

    Raises UsageError for what is neither a folder nor an address, and as `own_server`.
    """
    checkpoints = [Path(text) for text in config.policies if Path(text).is_dir()]
    names = config.names or _default_names(config.policies)
    with contextlib.ExitStack() as servers:
        addresses = {text: _address(text) for text in config.policies if not Path(text).is_dir()}
        own = _own_servers(config, checkpoints, servers)
        contenders = []
        for text, name in zip(config.policies, names, strict=True):
            if text in addresses:
                address, policy = addresses[text]
            else:
                address, policy = own[checkpoints.index(Path(text))]
            contenders.append(Contender(address=address, policy=policy, name=name))
        yield tuple(contenders)


def _own_servers(
    config: CompareConfig, checkpoints: Sequence[Path], servers: contextlib.ExitStack
) -> list[tuple[str, str | None]]:
    """The address of each checkpoint, and what it is called there."""
    options = shlex.split(config.server_options)
    if config.simulator == "lbm-eval":
        # Its client knows no names: it gets the first policy of a server.
        logs = [config.output / f"policy_server_{i}.log" for i in range(len(checkpoints))]
        return [
            (servers.enter_context(own_server([path], options=options, log=log)), None)
            for path, log in zip(checkpoints, logs, strict=True)
        ]
    if not checkpoints:
        return []
    log = config.output / LOG_FILE_NAME
    address = servers.enter_context(own_server(checkpoints, options=options, log=log))
    return [(address, served_name(place)) for place in range(len(checkpoints))]


def _address(text: str) -> tuple[str, str | None]:
    if text.startswith("unix:"):
        return text, None
    match = _SERVED.fullmatch(text)
    if match is None:
        raise UsageError(
            f"policy {text!r}: neither a checkpoint's folder nor HOST:PORT, such as 127.0.0.1:50051"
        )
    return match["address"], match["policy"]


def _default_names(policies: Sequence[str]) -> list[str | None]:
    """A checkpoint by as much of its path's end as tells it from the others."""
    paths = {text: Path(text).absolute() for text in policies if Path(text).is_dir()}
    names: list[str | None] = []
    for text in policies:
        if text not in paths:
            names.append(None)
            continue
        parts = paths[text].parts
        length = 1
        while length < len(parts) and any(
            other.parts[-length:] == parts[-length:]
            for which, other in paths.items()
            if which != text
        ):
            length += 1
        names.append("/".join(parts[-length:]))
    return names
