"""What an evaluation's numbers came from: `provenance.json` beside its ledger.

    policy       its name, the digest of its checkpoint, and how its server executes it
    servers      what the policy ran on: versions, platform, device; several after a change
    simulators   what the episodes ran on: versions, platform, OpenGL, the image of a container
    protocol     the station and its settings
    seeds        which scenarios of which tasks

Standard library only, as all that reads ledgers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from step_analysis.strict_json import (
    FormatError,
    check_keys,
    check_version,
    parse_object,
    read_bounded,
    shown,
)

PROVENANCE_FILE_NAME = "provenance.json"
PROVENANCE_VERSION = 1

Facts = Mapping[str, str]
"""By name, such as {'torch': '2.13.0'}."""

_WHAT = "provenance"
_MAX_BYTES = 4 * 2**20
# Of different kinds; a cluster of more is no longer told apart by anybody.
_MAX_MACHINES = 1000


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """See the file's own description above.

    Raises:
        FormatError: a field is not what it should be.
    """

    policy: Facts
    servers: tuple[Facts, ...] = ()
    simulators: tuple[Facts, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_facts(self.policy, "policy")
        for name in ("servers", "simulators"):
            machines = getattr(self, name)
            if not isinstance(machines, list | tuple) or len(machines) > _MAX_MACHINES:
                raise FormatError(f"{name}: a list of objects expected, got {shown(machines)}")
            for i, facts in enumerate(machines):
                _check_facts(facts, f"{name}[{i}]")
            object.__setattr__(self, name, tuple(machines))
        for name in ("protocol", "seeds"):
            if not isinstance(getattr(self, name), Mapping):
                raise FormatError(
                    f"{name}: a JSON object expected, got {shown(getattr(self, name))}"
                )

    def to_json(self) -> str:
        """Indented JSON, ending with a newline, for people to read too."""
        value: dict[str, Any] = {"version": PROVENANCE_VERSION}
        value |= {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(value, allow_nan=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Every field must be there and no other."""
        value = parse_object(text, _WHAT)
        check_version(value, PROVENANCE_VERSION, _WHAT)
        del value["version"]
        check_keys(value, [each.name for each in fields(cls)], _WHAT)
        try:
            return cls(**value)
        except FormatError as error:
            raise FormatError(f"{_WHAT}: {error}") from None


def read_provenance(path: Path) -> Provenance:
    """Raises FormatError, with the path, for a file that is none, and OSError."""
    try:
        return Provenance.from_json(read_bounded(path, _MAX_BYTES))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _check_facts(value: object, what: str) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(fact, str) for name, fact in value.items()
    ):
        raise FormatError(f"{what}: an object of texts expected, got {shown(value)}")
