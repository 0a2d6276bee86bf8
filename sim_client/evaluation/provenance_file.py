"""OUT/<policy>/provenance.json: written when an evaluation begins, and when a simulator is new."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sim_client.evaluation.config import EvaluationConfig, evaluation_seed
from sim_client.evaluation.episode import EpisodeReport
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.handshake import ServedPolicy
from sim_client.evaluation.likeness import differences, refusal
from sim_client.evaluation.output_folder import folder_name
from sim_client.evaluation.plan import Plan
from sim_client.evaluation.simulator_facts import machine_facts
from sim_client.evaluation.worker import LikeSimulators, WorkerSettings
from step_analysis.atomic_file import write_atomically
from step_analysis.provenance import PROVENANCE_FILE_NAME, Facts, Provenance, read_provenance
from step_analysis.rollouts import EvaluationDesign
from step_analysis.strict_json import FormatError

_LOCK_FILE_NAME = ".provenance.lock"
# Each simulator tells these of itself; others, such as LBM Eval's, are told by the design alone.
_TOLD_BY_SIMULATORS = ("assay", "drake")


def provenance_of(design: EvaluationDesign, policy: ServedPolicy) -> Provenance:
    """All that is known before a simulator has started."""
    software = {
        name: version
        for name, version in design.software.items()
        if name not in policy.serving and name not in _TOLD_BY_SIMULATORS
    }
    return Provenance(
        policy={"name": policy.name, "checkpoint": policy.digest, **policy.serving},
        servers=(dict(policy.host),),
        protocol={**design.station, **({"software": software} if software else {})},
        seeds={
            "range": design.seed_range,
            "first_seed": evaluation_seed(0),
            "first_episode": design.first_episode,
            "num_episodes": design.num_episodes,
            "tasks": list(design.tasks),
        },
    )


def held_to_like(config: EvaluationConfig, plan: Plan, now: Provenance) -> Plan:
    """The plan, on simulators like those of --like; as it is where nothing was named.

    All is compared that can be before a simulator has started; what is only noted is printed.
    Raises UsageError with each difference that matters in a line.
    """
    if config.like is None:
        return plan
    path = config.like
    if path.is_dir():
        path = path / folder_name(plan.design.policy) / PROVENANCE_FILE_NAME
    try:
        like = read_provenance(path)
    except FormatError as error:
        raise UsageError(f"--like: {error}") from error
    except OSError as error:
        raise UsageError(f"--like: can't read {path}: {error.strerror}") from error
    now = replace(now, simulators=_own_simulator_facts(config))
    matters, noted = differences(like, now, allowed=config.allow_different)
    if matters:
        raise UsageError(refusal(str(path), matters, policy=plan.design.policy))
    for line in noted:
        print(f"not quite like {path}, as may be: {line}", flush=True)
    if not isinstance(plan.settings, WorkerSettings):
        return plan
    simulators = LikeSimulators(
        source=str(path), simulators=like.simulators, allowed=config.allow_different
    )
    return replace(plan, settings=replace(plan.settings, like=simulators))


def _own_simulator_facts(config: EvaluationConfig) -> tuple[Facts, ...]:
    """What can be told of simulators before one has started, where they are made of what this
    process is."""
    is_ours = config.executor == "local" and config.simulator == "drake"
    return (machine_facts(),) if is_ours else ()


class ProvenanceFile:
    """The file of an evaluation, which other processes may add to as well."""

    def __init__(self, folder: Path, provenance: Provenance, *, executor: str) -> None:
        self._folder = folder
        self._provenance = provenance
        self._executor = executor

    def begin(self) -> None:
        """Write what is known. Raises UsageError for a file there that is none, and OSError."""
        self._write(())

    def note(self, report: EpisodeReport) -> None:
        """Add the simulator of an episode, if there was none like it."""
        if not report.simulator:
            return
        facts = {"executor": self._executor, **report.simulator}
        if facts not in self._provenance.simulators:
            self._write((facts,))

    def _write(self, simulators: Sequence[Facts]) -> None:
        path = self._folder / PROVENANCE_FILE_NAME
        with _locked(self._folder / _LOCK_FILE_NAME):
            earlier = self._earlier(path)
            known = self._provenance
            self._provenance = replace(
                known,
                servers=_distinct([*earlier.servers, *known.servers]),
                simulators=_distinct([*earlier.simulators, *known.simulators, *simulators]),
            )
            if self._provenance != earlier:
                write_atomically(path, self._provenance.to_json())

    def _earlier(self, path: Path) -> Provenance:
        if not path.exists():
            return Provenance(policy={})
        try:
            return read_provenance(path)
        except FormatError as error:
            raise UsageError(f"{error}; mend it, or move it away") from error


def _distinct(machines: Sequence[Facts]) -> tuple[Facts, ...]:
    found: list[Facts] = []
    for facts in machines:
        if facts not in found:
            found.append(facts)
    return tuple(found)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """While entered, no other process is. The lock ends with the process."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
