"""Studies that stop when a test has decided: how often they are wrong, and what they save.

    python benchmarks/studies.py errors --studies 2000
    python benchmarks/studies.py savings

Prints JSON. `errors` runs whole studies of policies between which nothing differs, by the same
decision and the same choice of the next rollout that `sim-client compare` uses, on a station that
has no physics and a clock of its own: failures take three times as long as successes, workers
finish out of order, attempts end in errors and are made again, and the whole runner is killed now
and then and goes on from its records. Everything is looked at after every attempt. `savings` is
exact: the rollouts that a sequential test is expected to take, against the fewest that a test which
looks once needs for the same power.
"""

import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from step_analysis.methods import TestName
from step_analysis.planning.characteristics import TrueRates, characteristics
from step_analysis.rollouts import Outcome, RolloutKey, RolloutRecord
from step_analysis.study.allocation import next_rollout
from step_analysis.study.comparisons import Stage
from step_analysis.study.design import StudyDesign, StudyPolicy
from step_analysis.study.study import Standing, Study

_FIRST_SEED = 100_000_100
_MAX_ATTEMPTS = 3
_TASKS = ("PickAndPlaceBox", "PutMugOnSaucer", "PushCoasterToMug")


@dataclass(frozen=True, kw_only=True)
class Unreliability:
    """What goes wrong on the way.

    error: the chance that an attempt ends in an error. kill: that the runner is killed at an
    attempt's end, and with it all that is running.
    """

    error: float = 0.05
    kill: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A study that was run to its end. `ever` are the verdicts (panel, winner, loser) that were
    there at any look."""

    standing: Standing
    num_rollouts: int
    ever: frozenset[tuple[tuple[str, ...], str, str]]


def simulate(
    design: StudyDesign,
    outcomes: dict[tuple[str, str], np.ndarray],
    *,
    workers: int,
    unreliability: Unreliability,
    rng: np.random.Generator,
) -> Simulated:
    """Run a study whose outcomes, by policy and task, are known to the station alone.

    outcomes: scores in [0, 1], of which 1 is a success; or True and False.
    """
    study = Study(design)
    records: list[RolloutRecord] = []
    running: list[tuple[float, RolloutKey]] = []
    attempts: Counter[RolloutKey] = Counter()
    given_up: set[RolloutKey] = set()
    ever: set[tuple[tuple[str, ...], str, str]] = set()
    last: Standing | None = None
    clock_s = 0.0
    while True:
        while len(running) < workers:
            busy = [key for _, key in running]
            key = next_rollout(study, busy=busy, given_up=given_up)
            if key is None:
                break
            success = outcomes[key.policy, key.task][key.scenario_index] == 1
            heapq.heappush(running, (clock_s + rng.exponential(1.0 if success else 3.0), key))
        if not running or study.standing().is_finished:
            break
        clock_s, key = heapq.heappop(running)
        attempts[key] += 1
        failed = attempts[key] < _MAX_ATTEMPTS and rng.random() < unreliability.error
        record = _record(key, outcomes, Outcome.ERROR if failed else None)
        records.append(record)
        study.add(record)
        if study.standing() is not last:
            last = study.standing()
            for each in last.comparisons:
                if each.winner is not None and each.loser is not None:
                    ever.add((each.tasks, each.winner, each.loser))
        if rng.random() < unreliability.kill:
            running.clear()
            attempts.clear()
            study = Study(design, records)
    return Simulated(
        standing=study.standing(),
        num_rollouts=sum(record.outcome.counts for record in records),
        ever=frozenset(ever),
    )


def _record(
    key: RolloutKey, outcomes: dict[tuple[str, str], np.ndarray], given: Outcome | None
) -> RolloutRecord:
    score = float(outcomes[key.policy, key.task][key.scenario_index])
    return RolloutRecord(
        policy=key.policy,
        task=key.task,
        scenario_index=key.scenario_index,
        seed=_FIRST_SEED + key.scenario_index,
        outcome=given or (Outcome.SUCCESS if score == 1.0 else Outcome.FAILURE),
        progress=None if given else score,
    )


def make_design(
    num_policies: int, num_tasks: int, max_episodes: int, alpha: float, **choices: Any
) -> StudyDesign:
    return StudyDesign(
        policies=tuple(StudyPolicy(name=f"p{i}", digest=str(i)) for i in range(num_policies)),
        tasks=_TASKS[:num_tasks],
        max_episodes=max_episodes,
        first_seed=_FIRST_SEED,
        alpha=alpha,
        **choices,
    )


def alike(
    design: StudyDesign, rates: Sequence[float], sharing: float, rng: np.random.Generator
) -> dict[tuple[str, str], np.ndarray]:
    """Outcomes of policies that are equally good on each task.

    sharing: the chance that a scenario's outcome is the scenario's own, the same for every policy.

    Where progress is measured, a failure has come through none to three of four stages, each as
    likely.
    """

    def scored(successes: np.ndarray) -> np.ndarray:
        if design.measure == "success":
            return successes
        return np.where(successes, 1.0, rng.integers(4, size=len(successes)) / 4.0)

    outcomes = {}
    for task, rate in zip(design.tasks, rates, strict=True):
        own = scored(rng.random(design.max_episodes) < rate)
        shared = rng.random(design.max_episodes) < sharing
        for policy in design.policies:
            drawn = scored(rng.random(design.max_episodes) < rate)
            outcomes[policy.name, task] = np.where(shared, own, drawn)
    return outcomes


@dataclass(frozen=True, kw_only=True)
class ErrorsArguments:
    """How often a study is wrong where nothing differs."""

    studies: int = 2000
    """Of each kind."""
    workers: tuple[int, ...] = (1, 8, 32)
    """Episodes at a time."""
    alpha: float = 0.1
    """Larger than anybody would take, so that wrong verdicts are there to be counted."""
    seed: int = 1
    """Of all draws."""
    only: str = ""
    """Of the kinds, those alone whose name has this in it."""


_KINDS: dict[str, dict[str, Any]] = {
    "two policies, one task": {"policies": 2, "tasks": 1, "episodes": 60},
    "two policies, two tasks and both together": {"policies": 2, "tasks": 2, "episodes": 40},
    "three policies, two tasks and both together": {"policies": 3, "tasks": 2, "episodes": 30},
    "the same, Holm": {"policies": 3, "tasks": 2, "episodes": 30, "correction": "holm"},
    "the same, who is best": {"policies": 3, "tasks": 2, "episodes": 30, "question": "best"},
    "three policies, one task, STEP": {"policies": 3, "tasks": 1, "episodes": 50, "test": "step"},
    "three policies, one task, betting": {
        "policies": 3,
        "tasks": 1,
        "episodes": 50,
        "test": "betting",
    },
    "two policies, one task, progress": {
        "policies": 2,
        "tasks": 1,
        "episodes": 100,
        "test": "betting",
        "measure": "progress",
    },
    "three policies, two tasks and both together, progress": {
        "policies": 3,
        "tasks": 2,
        "episodes": 30,
        "test": "betting",
        "measure": "progress",
    },
}
_RATES = (0.3, 0.5, 0.8)


def errors(arguments: ErrorsArguments) -> list[dict[str, Any]]:
    return [
        _errors_of(name, dict(kind), workers, arguments)
        for name, kind in _KINDS.items()
        if arguments.only in name
        for workers in arguments.workers
    ]


def _errors_of(
    name: str, kind: dict[str, Any], workers: int, arguments: ErrorsArguments
) -> dict[str, Any]:
    # The same studies for each number of workers: only what happens on the way differs.
    world = np.random.default_rng(arguments.seed)
    way = np.random.default_rng((arguments.seed, workers))
    num_tasks = kind.pop("tasks")
    design = make_design(
        kind.pop("policies"), num_tasks, kind.pop("episodes"), arguments.alpha, **kind
    )
    wrong = num_rollouts = num_used = 0
    by_panel: Counter[int] = Counter()
    for _ in range(arguments.studies):
        rates = world.choice(_RATES, size=num_tasks)
        # Independent arms err most often: where they share much, little is left to differ in.
        sharing = float(world.choice((0.0, 0.0, 0.5)))
        outcomes = alike(design, rates.tolist(), sharing, world)
        ended = simulate(design, outcomes, workers=workers, unreliability=Unreliability(), rng=way)
        wrong += bool(ended.ever)
        for tasks in {tasks for tasks, _, _ in ended.ever}:
            by_panel[len(tasks)] += 1
        num_rollouts += ended.num_rollouts
        num_used += ended.standing.num_rollouts_used
    share = wrong / arguments.studies
    return {
        "kind": name,
        "workers": workers,
        "studies": arguments.studies,
        "alpha": arguments.alpha,
        "wrong": wrong,
        "share_wrong": share,
        "standard_error": round((share * (1.0 - share) / arguments.studies) ** 0.5, 4),
        "holds": share <= arguments.alpha,
        "rollouts_a_study": round(num_rollouts / arguments.studies, 1),
        "of_which_read": round(num_used / arguments.studies, 1),
        "budget": design.num_rollouts,
    }


@dataclass(frozen=True, kw_only=True)
class SavingsArguments:
    """What stopping early saves."""

    max_episodes: int = 200
    """Budget of the sequential tests."""
    alpha: float = 0.05
    """For both directions together."""
    workers: int = 8
    """Episodes at a time in the simulated studies, whose surplus is then known."""
    studies: int = 200
    """Simulated studies a row; 0 leaves them out."""
    seed: int = 1
    """Of all draws."""


_GRID = (
    (0.5, 0.5),
    (0.5, 0.55),
    (0.5, 0.6),
    (0.5, 0.7),
    (0.5, 0.8),
    (0.5, 0.9),
    (0.3, 0.5),
    (0.1, 0.3),
    (0.8, 0.9),
    (0.9, 0.98),
    (0.05, 0.95),
)
_ARMS = (("independent", 1.0), ("half of the excess", 0.5), ("least", 0.0))


def savings(arguments: SavingsArguments) -> list[dict[str, Any]]:
    return [
        _savings_at(p0, p1, arms, excess, arguments)
        for p0, p1 in _GRID
        for arms, excess in _ARMS
        if p0 != p1 or excess
    ]


def _savings_at(
    p0: float, p1: float, arms: str, excess: float, arguments: SavingsArguments
) -> dict[str, Any]:
    """excess: the share, of the discordance of independent arms, above the least possible."""
    least, independent = abs(p1 - p0), p0 * (1.0 - p1) + p1 * (1.0 - p0)
    rates = TrueRates(p0=p0, p1=p1, discordance=least + excess * (independent - least))
    n_max, level = arguments.max_episodes, arguments.alpha / 2.0
    row: dict[str, Any] = {
        "rates": (p0, p1),
        "arms": arms,
        "discordance": round(least + excess * (independent - least), 4),
        "budget": 2 * n_max,
    }
    for method in ("paired", "step"):
        found = characteristics(method, n_max, level, rates)
        power = found.arm1_better
        row[method] = {
            "power": round(power, 4),
            "expected_rollouts": round(2.0 * found.expected_n, 1),
        }
        if p0 == p1:
            continue
        fixed_method: TestName = "mcnemar" if method == "paired" else "barnard"
        fixed = _fewest(fixed_method, min(power, 0.9999), level, rates)
        row[method] |= {
            f"fixed_rollouts_of_equal_power_{fixed_method}": 2 * fixed,
            "saved": round(1.0 - found.expected_n / fixed, 3),
        }
    if arguments.studies and p0 != p1:
        row["run_with_workers"] = _run(rates, arguments)
    return row


def _fewest(method: TestName, power: float, level: float, rates: TrueRates) -> int:
    """Episodes with which a test that looks once has this power, up to its small teeth."""
    too_few, enough = 0, 4
    while characteristics(method, enough, level, rates).arm1_better < power:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if characteristics(method, middle, level, rates).arm1_better < power:
            too_few = middle
        else:
            enough = middle
    return enough


def _run(rates: TrueRates, arguments: SavingsArguments) -> dict[str, Any]:
    """What is really run, with what is in flight when the test decides."""
    design = make_design(2, 1, arguments.max_episodes, arguments.alpha)
    world = np.random.default_rng(arguments.seed)
    way = np.random.default_rng((arguments.seed, arguments.workers))
    run = used = right = 0
    for _ in range(arguments.studies):
        draw = world.random(design.max_episodes)
        only0, only1 = (
            draw < rates.only0,
            (draw >= rates.only0) & (draw < rates.only0 + rates.only1),
        )
        both = draw >= 1.0 - (rates.p0 - rates.only0)
        outcomes = {("p0", _TASKS[0]): only0 | both, ("p1", _TASKS[0]): only1 | both}
        ended = simulate(
            design,
            outcomes,
            workers=arguments.workers,
            unreliability=Unreliability(error=0.0, kill=0.0),
            rng=way,
        )
        (verdict,) = ended.standing.comparisons
        right += verdict.stage is Stage.DECIDED and verdict.winner == "p1"
        run += ended.num_rollouts
        used += ended.standing.num_rollouts_used
    return {
        "workers": arguments.workers,
        "studies": arguments.studies,
        "right": right / arguments.studies,
        "rollouts_read": round(used / arguments.studies, 1),
        "rollouts_run": round(run / arguments.studies, 1),
    }


def main() -> None:
    arguments = tyro.extras.subcommand_cli_from_dict(
        {"errors": ErrorsArguments, "savings": SavingsArguments}, description=__doc__
    )
    rows = errors(arguments) if isinstance(arguments, ErrorsArguments) else savings(arguments)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
