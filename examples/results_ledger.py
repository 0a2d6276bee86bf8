"""What a run came to, in a few kilobytes: the files in docs/results/ that docs/results.md is drawn
from. One file a trained policy, with every evaluation of it that counts as a result."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from results_choices import ERROR, MEANT, NEITHER, OTHER, choices
from stages import PROJECT

from sim_client.tasks.catalog import TASKS
from step_analysis.atomic_file import write_atomically
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    latest_outcomes,
    read_design,
    read_ledger,
)
from step_analysis.rollouts import Outcome
from step_analysis.strict_json import FormatError, check_keys, parse_object, read_bounded

LEDGERS = PROJECT / "docs" / "results"
SCHEMA = "assay.result/1"
# Groups of policies for all tasks: that which ships, and those before it or tried after it.
TOGETHER, OTHERS = "all_tasks", "all_tasks_others"
# Kinds of trainings, each of which another may begin with, as `Training.seconds` names them.
CHAIN: Sequence[str] = ("language", "vision_language", "vision_language_action")
LETTERS = {
    Outcome.SUCCESS: "S",
    Outcome.FAILURE: "F",
    Outcome.TIMEOUT: "T",
    Outcome.ERROR: ERROR,
}
# What a server says of itself that changes what a policy does.
_SERVING = ("execution", "open_loop_steps", "planned_latency_steps", "num_flow_steps")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a policy came to be.

    task: several are separated by commas. training_s: of all optimizer steps, however often the
    run was stopped. curve: held-out action error in millimetres by optimizer step. seconds: of each
    stage of the run, `wall_s` and `cpu_s`; what a machine shared with other work took. Of the
    trainings that its weights come from, by their kind, `wall_s` of their steps.
    """

    recipe: str
    task: str
    num_demonstrations: int
    num_frames: int
    data_sha256: str
    num_steps: int
    batch_size: int
    num_threads: int
    seed: int
    training_s: float
    curve: Mapping[str, float]
    seconds: Mapping[str, Mapping[str, float]]
    git_sha: str
    versions: Mapping[str, str]

    @property
    def points(self) -> list[tuple[int, float]]:
        """The curve, by ascending step."""
        return sorted((int(step), error_mm) for step, error_mm in self.curve.items())

    @property
    def last_error_mm(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """outcomes: a letter an episode, from first_episode on: Success, Failure, Timeout, Error.

    serving: how the policy was run, as the server said. success_s: the median simulated time of
    successes. choices: a letter an episode for what was moved first (see results_choices), where
    another object could have been meant.
    """

    task: str
    first_episode: int
    outcomes: str
    shift: str
    latency_ms: float
    serving: Mapping[str, str]
    success_s: float | None
    policy_digest: str
    choices: str = ""

    def __post_init__(self) -> None:
        if not self.outcomes or set(self.outcomes) - set(LETTERS.values()):
            raise FormatError(f"outcomes: letters of SFTE expected, got {self.outcomes!r}")
        is_whole = len(self.choices) in (0, len(self.outcomes))
        if not is_whole or set(self.choices) - {MEANT, OTHER, NEITHER, ERROR}:
            raise FormatError(
                f"choices: one of the letters MONE an episode expected, got {self.choices!r}"
            )

    @property
    def successes(self) -> list[int]:
        """0 or 1 an episode. An error here would be a hole: run it again first."""
        return [int(letter == LETTERS[Outcome.SUCCESS]) for letter in self.outcomes]

    @property
    def num_counted(self) -> int:
        return len(self.outcomes) - self.outcomes.count(LETTERS[Outcome.ERROR])

    @property
    def num_successes(self) -> int:
        return self.outcomes.count(LETTERS[Outcome.SUCCESS])

    @property
    def execution(self) -> str:
        return self.serving.get("execution", "receding")

    @property
    def planned_steps(self) -> int:
        """Control steps that each plan was made ahead."""
        return int(self.serving.get("planned_latency_steps", "0"))

    @property
    def episodes(self) -> str:
        return f"{self.first_episode}:{self.first_episode + len(self.outcomes)}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """name: the policy's. evaluations: held-out ones, and those that a setting was chosen by."""

    name: str
    training: Training | None
    evaluations: list[Evaluated] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Result:
        """Raises FormatError for a field too many, too few or out of range."""
        value = parse_object(text, "result")
        check_keys(value, ("schema", *names_of(cls)), "result")
        if value["schema"] != SCHEMA:
            raise FormatError(f"result: schema {SCHEMA!r} expected, got {value['schema']!r}")
        training = value["training"]
        return cls(
            name=value["name"],
            training=None if training is None else made(Training, training),
            evaluations=[made(Evaluated, each) for each in value["evaluations"]],
        )


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


_Fields = TypeVar("_Fields", bound=_Dataclass)


def made(kind: type[_Fields], value: dict[str, Any]) -> _Fields:
    """A dataclass of a JSON object. Raises FormatError for a field too many or too few."""
    # A field that came later has a default, for the files that are older.
    later = [each.name for each in fields(kind) if each.default is not MISSING]
    required = [name for name in names_of(kind) if name not in later]
    check_keys(value, required, kind.__name__.lower(), optional=later)
    return kind(**value)


def names_of(kind: type) -> tuple[str, ...]:
    """Of a dataclass's fields."""
    return tuple(each.name for each in fields(kind))


_Kept = TypeVar("_Kept")


def read_kept(folder: Path, parse: Callable[[bytes], _Kept]) -> list[_Kept]:
    """Those of a folder, by the names of their files. Raises FormatError, naming the file."""
    kept = []
    for path in sorted(folder.glob("*.json")):
        try:
            kept.append(parse(read_bounded(path)))
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from None
    return kept


def read_results(folder: Path) -> list[Result]:
    return read_kept(folder, Result.from_json)


class Kept(Protocol):
    """What is kept of a run. name: of its file."""

    @property
    def name(self) -> str: ...

    def to_json(self) -> str: ...


def write_result(folder: Path, result: Kept) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    write_atomically(path, result.to_json())
    return path


def read_evaluations(folder: Path) -> Iterator[Evaluated]:
    """Of every whole ledger in the folder and below it, in the order of their paths.

    One whose evaluation is not at its end is left out.
    """
    for path in sorted(folder.rglob(LEDGER_FILE_NAME)):
        design = read_design(path.parent / DESIGN_FILE_NAME)
        latest = latest_outcomes(read_ledger(path))
        for task in design.tasks:
            records = sorted(
                (each for each in latest.values() if each.task == task),
                key=lambda record: record.scenario_index,
            )
            if len(records) < design.num_episodes:
                continue
            times_s = [
                each.duration_s
                for each in records
                if each.outcome is Outcome.SUCCESS and each.duration_s is not None
            ]
            yield Evaluated(
                task=task,
                first_episode=design.first_episode,
                outcomes="".join(LETTERS[each.outcome] for each in records),
                shift=design.station.get("shift", ""),
                latency_ms=design.station.get("latency_ms", 0.0),
                serving={
                    name: design.software[f"assay.{name}"]
                    for name in _SERVING
                    if f"assay.{name}" in design.software
                },
                success_s=round(statistics.median(times_s), 2) if times_s else None,
                policy_digest=design.policy_digest,
                choices=choices(TASKS[task], records) if task in TASKS else "",
            )
