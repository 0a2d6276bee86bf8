"""The `sim-client` program: `compare`, `demos`, `evaluate`, `league`, `tasks`, `watch` and others.

Each verb's modules are imported when it is asked for, so that `--help` is there at once.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from policy_interface.usage import UsageError, parse_or_say_why

_Config = TypeVar("_Config")

_WORK_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """List the tasks: name, arms, time limit and instruction; with --json also what success is."""

    json: bool = False
    """As a JSON list, for programs."""
    simulator: Literal["drake", "lbm-eval"] = "drake"
    """Whose tasks."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """summary: its line in the overview. run: from its own arguments to an exit code."""

    summary: str
    run: Callable[[Sequence[str]], int]


def _demos(arguments: Sequence[str]) -> int:
    from sim_client.recording import RecordingConfig, record_demonstrations

    config = _parsed(
        RecordingConfig,
        "demos",
        arguments,
        example="sim-client demos --task PickAndPlaceBox --num 100 --output demonstrations",
    )
    return record_demonstrations(config)


def _captions(arguments: Sequence[str]) -> int:
    from sim_client.captions.run import CaptionsConfig, run

    return run(
        _parsed(
            CaptionsConfig,
            "captions",
            arguments,
            example="sim-client captions --tasks one-arm --scenes 200 --output scenes",
        )
    )


def _compare(arguments: Sequence[str]) -> int:
    from sim_client.compare.config import CompareConfig

    config = _parsed(
        CompareConfig,
        "compare",
        arguments,
        example=(
            "sim-client compare --tasks PickAndPlaceBox --max-episodes 200 --output study "
            "runs/pick/checkpoints/step_000100 runs/pick/checkpoints/final"
        ),
    )
    from sim_client.compare.runner import run

    return run(config)


def _evaluate(arguments: Sequence[str]) -> int:
    from sim_client.evaluation.config import EvaluationConfig

    config = _parsed(
        EvaluationConfig,
        "evaluate",
        arguments,
        example=(
            "sim-client evaluate --tasks PickAndPlaceBox --episodes 0:50 "
            "--address 127.0.0.1:50051 --workers 2 --output rollouts"
        ),
    )
    from sim_client.evaluation.runner import run

    return run(config)


def _sweep(arguments: Sequence[str]) -> int:
    from sim_client.evaluation.sweep import SweepConfig

    config = _parsed(
        SweepConfig,
        "sweep",
        arguments,
        example=(
            "sim-client sweep --latencies-ms 0,50,100,200,400 --tasks PickAndPlaceBox "
            "--episodes 0:50 --output latency"
        ),
    )
    from sim_client.evaluation.sweep import run

    return run(config)


def _league(arguments: Sequence[str]) -> int:
    from sim_client.league.config import LeagueConfig

    config = _parsed(
        LeagueConfig,
        "league",
        arguments,
        example=(
            "sim-client league --tasks PickAndPlaceBox --alpha 0.05 --output league "
            "runs/pick/checkpoints"
        ),
    )
    from sim_client.league.run import run

    return run(config)


def _plan(arguments: Sequence[str]) -> int:
    from sim_client.capacity.config import CapacityConfig

    config = _parsed(
        CapacityConfig,
        "plan",
        arguments,
        example=(
            "sim-client plan --measured rollouts --server-metrics 127.0.0.1:9464 "
            "--cpu-hour 0.04 --gpu-hour 2.5 --episodes 2000 --within-h 8"
        ),
    )
    from sim_client.capacity.run import run

    return run(config)


def _tasks(arguments: Sequence[str]) -> int:
    config = _parsed(TasksConfig, "tasks", arguments, example="sim-client tasks --json")
    if config.simulator == "lbm-eval":
        from sim_client.lbm_eval import skills

        print(skills.as_json() if config.json else skills.as_text())
        return 0
    from sim_client.tasks import listing
    from sim_client.tasks.catalog import TASKS

    print((listing.as_json if config.json else listing.as_text)(TASKS.values()))
    return 0


def _replay(arguments: Sequence[str]) -> int:
    from sim_client.replay.run import ReplayConfig, run

    return run(
        _parsed(
            ReplayConfig,
            "replay",
            arguments,
            example="sim-client replay --video episode.mp4 rollouts/quickstart PickAndPlaceBox 7",
        )
    )


def _watch(arguments: Sequence[str]) -> int:
    from sim_client.watch.run import WatchConfig, run

    return run(
        _parsed(
            WatchConfig,
            "watch",
            arguments,
            example="sim-client watch --interval 5 rollouts/quickstart",
        )
    )


VERBS: Mapping[str, Verb] = {
    "captions": Verb(summary="draw scenes and say what is to be seen", run=_captions),
    "compare": Verb(summary="compare policies until a valid test has decided", run=_compare),
    "demos": Verb(summary="record demonstrations by a scripted expert", run=_demos),
    "evaluate": Verb(summary="evaluate a served policy closed loop", run=_evaluate),
    "league": Verb(summary="rank checkpoints as they arrive", run=_league),
    "plan": Verb(summary="say how many simulators a policy server feeds", run=_plan),
    "replay": Verb(summary="simulate an evaluated episode again, and compare", run=_replay),
    "sweep": Verb(summary="success as a function of latency or shift", run=_sweep),
    "tasks": Verb(summary="list the tasks", run=_tasks),
    "watch": Verb(summary="watch a running evaluation", run=_watch),
}


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit code: 0, 1 (the work failed), 2 (bad usage) or 130."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else _BAD_USAGE
    verb = VERBS.get(arguments[0])
    if verb is None:
        close = difflib.get_close_matches(arguments[0], VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return _complain(
            f"unknown verb {arguments[0]!r}: expected one of {', '.join(VERBS)}.{hint}", _BAD_USAGE
        )
    try:
        return verb.run(arguments[1:])
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; Python's own flush would complain too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _WORK_FAILED
    except UsageError as error:
        return _complain(f"{error}; see sim-client {arguments[0]} --help", _BAD_USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", _INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("sim_client", "step_analysis"):
            raise
        return _complain(
            f"the module {error.name!r} is missing; install the simulator: "
            "pip install '.[sim]' in Assay's checkout",
            _BAD_USAGE,
        )


def _parsed(
    config_type: type[_Config], verb: str, arguments: Sequence[str], *, example: str
) -> _Config:
    import tyro

    return parse_or_say_why(
        lambda: tyro.cli(
            config_type,
            prog=f"sim-client {verb}",
            description=f"{inspect.getdoc(config_type)}\n\nExample:\n  {example}",
            args=list(arguments),
        )
    )


def _overview() -> str:
    width = max(len(name) for name in VERBS)
    lines = [f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: sim-client VERB [OPTIONS]",
            "",
            "Simulate a two-arm station: record demonstrations, evaluate a served policy.",
            "",
            *lines,
            "",
            "Options of a verb: sim-client VERB --help",
            "Example: sim-client evaluate --tasks PickAndPlaceBox --episodes 0:50",
        ]
    )


def _complain(line: str, exit_code: int) -> int:
    print(f"sim-client: {line}", file=sys.stderr)
    return exit_code
