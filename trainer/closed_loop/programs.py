"""The programs that evaluate a policy: `policy-server` and `sim-client`.

They are started by their commands. The trainer knows neither's code, and loads none of what they
need: they may well be those of another installation.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_interface.companion import find_program, last_line
from trainer.configuration_json import did_you_mean
from trainer.requirements import ConfigurationError

# Each imports what it needs, from a cold disk too.
_ANSWERS_WITHIN_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where they are."""

    server: str
    simulator: str

    @staticmethod
    def find() -> Programs:
        """Raises ConfigurationError for one that is not installed."""
        return Programs(
            server=_path_of("policy-server", extra="serve"),
            simulator=_path_of("sim-client", extra="sim"),
        )

    def require_server(self) -> None:
        """Raises ConfigurationError where none can serve on this machine."""
        # Its input ends at once, so that it does too.
        _answer_of([self.server, "serve", "hold", *SERVED_HERE])

    def require_tasks(self, names: Sequence[str]) -> None:
        """Raises ConfigurationError for one that the simulation lacks."""
        listed = _answer_of([self.simulator, "tasks", "--json"])
        try:
            known = [str(task["name"]) for task in json.loads(listed)]
        except (ValueError, TypeError, LookupError) as error:
            raise ConfigurationError(
                f"evaluate: {self.simulator} tasks --json: expected a list of tasks, got "
                f"{listed!r:.80}"
            ) from error
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"evaluate.tasks: the simulation has no task {name!r}"
                    f"{did_you_mean(name, known)}; it has {', '.join(known)}"
                )


# On a free port that nobody else's machine can reach, for as long as whoever started it lives.
SERVED_HERE = ("--address", "127.0.0.1:0", "--while-input-open")


def _path_of(program: str, *, extra: str) -> str:
    found = find_program(program)
    if found is None:
        raise ConfigurationError(
            f"evaluate: {program} is not installed here: pip install '.[{extra}]' in Assay's "
            "checkout, or leave --evaluate.every out"
        )
    return found


def _answer_of(command: Sequence[str]) -> str:
    """Its standard output. Raises ConfigurationError with its own words where it fails."""
    asked = f"evaluate: {Path(command[0]).name} {command[1]}"
    try:
        done = subprocess.run(
            command,
            input=b"",
            capture_output=True,
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{asked}: {error}") from error
    if done.returncode:
        raise ConfigurationError(
            f"{asked} ended with exit code {done.returncode}: {last_line(done.stderr)}"
        )
    return done.stdout.decode("utf-8", "replace")
