"""Rollout records: what happened in one episode attempt, and the design of an evaluation.

Standard library only: the simulator's side writes these without the analysis dependencies.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Self

from step_analysis.policy_latency import PolicyLatency
from step_analysis.strict_json import (
    MAX_NUMBER,
    FormatError,
    JsonScalar,
    check_keys,
    check_version,
    parse_object,
    shown,
)

RECORD_VERSION = 2
"""2 added what a simulator knows beyond the outcome; lines of version 1 are still read."""
DESIGN_VERSION = 1
MAX_NAME_LENGTH = 200
MAX_EPISODES = 1_000_000
"""Of one task: a count beyond it is a mistake, and would fill the memory as a list."""

_TASK_PATTERN = re.compile(r"[A-Z][A-Za-z0-9]*")
_DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")


class Outcome(StrEnum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ERROR = "error"

    @property
    def counts(self) -> bool:
        """Whether the outcome says anything about the policy; an error is infrastructure."""
        return self is not _ERROR


# Looked up once: this is asked of every record, and an enumeration's class answers slowly.
_ERROR = Outcome.ERROR


class RolloutKey(NamedTuple):
    """What is evaluated exactly once: a policy on one scenario of one task."""

    policy: str
    task: str
    scenario_index: int

    def __str__(self) -> str:
        return f"policy {shown(self.policy)}, {self.task}, scenario {self.scenario_index}"


@dataclass(frozen=True, kw_only=True)
class RolloutRecord:
    """One attempt at one episode.

    `seed` and `started_at` are None only for records read from a foreign results.json, which
    does not keep them.

    Raises:
        FormatError: a field has the wrong type or a value out of range.
    """

    policy: str
    task: str
    """CamelCase in a ledger, e.g. 'PutMugOnSaucer'; another benchmark's records keep its names."""
    scenario_index: int
    seed: int | None
    outcome: Outcome
    duration_s: float | None = None
    """Simulated time until the episode ended."""
    num_control_steps: int | None = None
    message: str | None = None
    """Why the episode failed or could not be run."""
    attempt: int = 1
    """1 for the first try; a re-run after an error keeps the seed and counts on."""
    started_at: str | None = None
    """ISO 8601 in UTC."""
    wall_s: float | None = None
    """Real time that the attempt took."""
    detail: Mapping[str, JsonScalar] = field(default_factory=dict, hash=False)
    """Predicates and partial credit, by name."""
    progress: float | None = None
    """How far the task had come when the episode ended, in [0, 1]; 1 is done."""
    instruction: str | None = None
    """What the policy was told to do."""
    first_inference_s: float | None = None
    """Simulated time of the observation that the policy's first plan answers; of a server that
    does not say when it plans, of its first action that moves an arm, and None if none does."""
    policy_latency: PolicyLatency | None = None
    state_digest: str | None = None
    """SHA-256, in hexadecimal, of the simulated state at the end: equal where two episodes are."""

    def __post_init__(self) -> None:
        check_name(self.policy, "policy")
        check_name(self.task, "task")
        _check_integer(self.scenario_index, "scenario_index", minimum=0)
        if self.seed is not None:
            _check_integer(self.seed, "seed", minimum=0)
        if not isinstance(self.outcome, Outcome):
            raise FormatError(f"outcome: one of {_outcomes()} expected, got {shown(self.outcome)}")
        if self.duration_s is not None:
            _check_number(self.duration_s, "duration_s", minimum=0.0)
        if self.num_control_steps is not None:
            _check_integer(self.num_control_steps, "num_control_steps", minimum=0)
        if self.message is not None:
            _check_text(self.message, "message")
        _check_integer(self.attempt, "attempt", minimum=1)
        if self.started_at is not None:
            _check_utc(self.started_at, "started_at")
        if self.wall_s is not None:
            _check_number(self.wall_s, "wall_s", minimum=0.0)
        if self.progress is not None:
            _check_number(self.progress, "progress", minimum=0.0)
            if self.progress > 1.0:
                raise FormatError(f"progress: at most 1 expected, got {self.progress}")
        if self.instruction is not None:
            _check_text(self.instruction, "instruction")
        if self.first_inference_s is not None:
            _check_number(self.first_inference_s, "first_inference_s", minimum=0.0)
        if self.policy_latency is not None and not isinstance(self.policy_latency, PolicyLatency):
            raise FormatError(f"policy_latency: unexpected {shown(self.policy_latency)}")
        if self.state_digest is not None:
            _check_digest(self.state_digest)
        object.__setattr__(self, "detail", _checked_detail(self.detail))

    def of_episode(
        self,
        scenario_index: int,
        outcome: Outcome,
        *,
        duration_s: float | None,
        message: str | None,
    ) -> Self:
        """The same of another episode. Only what is given is checked: files hold thousands of
        records that share the rest."""
        _check_integer(scenario_index, "scenario_index", minimum=0)
        if duration_s is not None:
            _check_number(duration_s, "duration_s", minimum=0.0)
        if message is not None:
            _check_text(message, "message")
        values = self.__dict__.copy()
        values["scenario_index"] = scenario_index
        values["outcome"] = outcome
        values["duration_s"] = duration_s
        values["message"] = message
        record = object.__new__(type(self))
        object.__setattr__(record, "__dict__", values)
        return record

    @property
    def key(self) -> RolloutKey:
        return RolloutKey(self.policy, self.task, self.scenario_index)

    def to_json(self) -> str:
        """One line of ASCII JSON without a newline, as a ledger keeps it.

        Raises:
            FormatError: the task's name is not in CamelCase.
        """
        check_task_name(self.task, "task")
        value: dict[str, Any] = {"version": RECORD_VERSION}
        value |= {name: getattr(self, name) for name in _RECORD_FIELDS}
        value["outcome"] = self.outcome.value
        if self.policy_latency is not None:
            value["policy_latency"] = asdict(self.policy_latency)
        return json.dumps(value, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The record in one JSON object; every field of its version must be there and no other.

        Raises:
            FormatError: with what is wrong in one line.
        """
        what = "rollout record"
        value = parse_object(text, what)
        version = value.get("version")
        is_first = type(version) is int and version == 1
        if not is_first:
            check_version(value, RECORD_VERSION, what)
        del value["version"]
        check_keys(value, _FIRST_RECORD_FIELDS if is_first else _RECORD_FIELDS, what)
        value["outcome"] = _outcome(value["outcome"])
        try:
            if value.get("policy_latency") is not None:
                value["policy_latency"] = PolicyLatency.from_json_value(value["policy_latency"])
            check_task_name(value["task"], "task")
            return cls(**value)
        except FormatError as error:
            raise FormatError(f"{what}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class EvaluationDesign:
    """What an evaluation set out to do, fixed before its first episode.

    `max_sample_size` is the budget of episodes for each policy and task: a sequential test is
    valid only for a budget chosen beforehand, so a later extension within it is free and one
    beyond it is not.

    Raises:
        FormatError: a field has the wrong type or a value out of range.
    """

    policy: str
    policy_digest: str
    """Digest of the checkpoint's content."""
    tasks: tuple[str, ...]
    first_episode: int = 0
    num_episodes: int
    """Episodes for each task."""
    max_sample_size: int
    seed_range: str = "evaluation"
    station: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The station and its contract, as JSON."""
    software: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Versions by name."""

    def __post_init__(self) -> None:
        check_name(self.policy, "policy")
        _check_text(self.policy_digest, "policy_digest")
        if isinstance(self.tasks, str) or not isinstance(self.tasks, Iterable):
            raise FormatError(f"tasks: a list of names expected, got {shown(self.tasks)}")
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks:
            raise FormatError("tasks: at least one is needed")
        for task in self.tasks:
            check_task_name(task, "tasks")
        if len(set(self.tasks)) != len(self.tasks):
            raise FormatError(f"tasks: a name is there twice in {shown(list(self.tasks))}")
        _check_integer(self.first_episode, "first_episode", minimum=0)
        _check_integer(self.num_episodes, "num_episodes", minimum=1)
        _check_integer(self.max_sample_size, "max_sample_size", minimum=1)
        if self.max_sample_size > MAX_EPISODES:
            raise FormatError(
                f"max_sample_size: at most {MAX_EPISODES} episodes of a task expected, "
                f"got {self.max_sample_size}"
            )
        if self.num_episodes > self.max_sample_size:
            raise FormatError(
                f"num_episodes {self.num_episodes} is more than the budget fixed beforehand, "
                f"max_sample_size {self.max_sample_size}"
            )
        _check_text(self.seed_range, "seed_range")
        for name in ("station", "software"):
            if not isinstance(getattr(self, name), Mapping):
                raise FormatError(
                    f"{name}: a JSON object expected, got {shown(getattr(self, name))}"
                )
        object.__setattr__(self, "station", _normalised_json(self.station, "station"))
        object.__setattr__(self, "software", dict(self.software))
        for name, version in self.software.items():
            _check_text(name, "software")
            _check_text(version, f"software.{name}")

    def to_json(self) -> str:
        """Indented JSON, ending with a newline, for people to read too."""
        value: dict[str, Any] = {"version": DESIGN_VERSION}
        value |= {name: getattr(self, name) for name in _DESIGN_FIELDS}
        return json.dumps(value, allow_nan=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The design in one JSON object; every field must be there and no other."""
        what = "evaluation design"
        value = parse_object(text, what)
        check_version(value, DESIGN_VERSION, what)
        del value["version"]
        check_keys(value, _DESIGN_FIELDS, what)
        if not isinstance(value["tasks"], list):
            raise FormatError(
                f"{what}: tasks: a list of names expected, got {shown(value['tasks'])}"
            )
        try:
            return cls(**value)
        except FormatError as error:
            raise FormatError(f"{what}: {error}") from None

    def differences(self, other: "EvaluationDesign") -> list[str]:
        """One readable line for each thing that `other` has otherwise; empty if they agree."""
        here = {name: getattr(self, name) for name in _DESIGN_FIELDS}
        there = {name: getattr(other, name) for name in _DESIGN_FIELDS}
        return list(_json_differences(here, there, ""))


_RECORD_FIELDS = tuple(f.name for f in fields(RolloutRecord))
_SINCE_VERSION_2 = (
    "progress",
    "instruction",
    "first_inference_s",
    "policy_latency",
    "state_digest",
)
_FIRST_RECORD_FIELDS = tuple(name for name in _RECORD_FIELDS if name not in _SINCE_VERSION_2)
_DESIGN_FIELDS = tuple(f.name for f in fields(EvaluationDesign))


def check_name(value: object, what: str) -> str:
    """A policy's or a task's name: printable, on one line, without surrounding space, bounded."""
    if not isinstance(value, str) or not value or len(value) > MAX_NAME_LENGTH:
        raise FormatError(
            f"{what}: a name of 1 to {MAX_NAME_LENGTH} characters expected, got {shown(value)}"
        )
    if not _is_printable(value):
        raise FormatError(
            f"{what}: {shown(value)} has control characters or spaces at its ends; rename it"
        )
    return value


@lru_cache(maxsize=1024)
def _is_printable(name: str) -> bool:
    # Cached: thousands of records share a few names.
    return name.isprintable() and name == name.strip()


def check_task_name(value: object, what: str) -> str:
    """A task's name in CamelCase, e.g. 'PutMugOnSaucer'."""
    if (
        not isinstance(value, str)
        or len(value) > MAX_NAME_LENGTH
        or not _TASK_PATTERN.fullmatch(value)
    ):
        raise FormatError(
            f"{what}: a CamelCase name such as 'PutMugOnSaucer' expected, got {shown(value)}"
        )
    return value


def _outcomes() -> str:
    return ", ".join(outcome.value for outcome in Outcome)


def _outcome(value: object) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise FormatError(
            f"rollout record: outcome: one of {_outcomes()} expected, got {shown(value)}"
        ) from None


def _check_integer(value: object, what: str, *, minimum: int) -> None:
    if type(value) is not int or not minimum <= value < 2**63:
        raise FormatError(f"{what}: an integer of at least {minimum} expected, got {shown(value)}")


def _check_number(value: object, what: str, *, minimum: float) -> None:
    if type(value) not in (int, float) or not minimum <= value <= MAX_NUMBER:  # type: ignore[operator]
        raise FormatError(
            f"{what}: a finite number of at least {minimum:g} and at most {MAX_NUMBER:g} expected, "
            f"got {shown(value)}"
        )


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise FormatError(f"{what}: text expected, got {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(f"{what}: {shown(value)} holds half of a surrogate pair") from None


def _check_digest(value: object) -> None:
    if not isinstance(value, str) or not _DIGEST_PATTERN.fullmatch(value):
        raise FormatError(f"state_digest: 64 hexadecimal digits expected, got {shown(value)}")


def _check_utc(value: object, what: str) -> None:
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise FormatError(
            f"{what}: an ISO 8601 time in UTC such as '2026-01-31T12:00:00+00:00' expected, "
            f"got {shown(value)}"
        )


def _checked_detail(value: object) -> dict[str, JsonScalar]:
    # A dict first: asking whether something is a Mapping is slow, and most details are empty.
    if not isinstance(value, dict) and not isinstance(value, Mapping):
        raise FormatError(f"detail: a mapping expected, got {shown(value)}")
    for name, item in value.items():
        _check_text(name, "detail")
        if isinstance(item, str):
            _check_text(item, f"detail {shown(name)}")
        elif type(item) not in (bool, int, float) or not -MAX_NUMBER <= item <= MAX_NUMBER:
            raise FormatError(
                f"detail {shown(name)}: a finite number, a truth value or text expected, "
                f"a number of at most {MAX_NUMBER:g} either way, got {shown(item)}"
            )
    return dict(value)


def _normalised_json(value: object, what: str) -> Any:
    """A deep copy as JSON keeps it (tuples become lists), so that a round trip compares equal."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what}: can't be written as JSON: {error}") from None


def _json_differences(here: Any, there: Any, path: str) -> Iterable[str]:
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for name in sorted({*here, *there}):
            inner = f"{path}.{name}" if path else name
            if name not in there:
                yield f"{inner}: {shown(here[name])} here, absent there"
            elif name not in here:
                yield f"{inner}: absent here, {shown(there[name])} there"
            else:
                yield from _json_differences(here[name], there[name], inner)
    elif here != there:
        yield f"{path}: {shown(here)} here, {shown(there)} there"
