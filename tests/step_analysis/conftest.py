"""Records and evaluations that several tests need."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, Ledger, write_design
from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.sequential.step_tables import CACHE_FOLDER_VARIABLE

DATA = Path(__file__).parent / "data"
TASK = "PickAndPlaceBox"

_OUTCOMES = {"1": Outcome.SUCCESS, "0": Outcome.FAILURE, "t": Outcome.TIMEOUT, "e": Outcome.ERROR}

MakeRecord = Callable[..., RolloutRecord]
MakeEvaluation = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def step_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Boundaries made once a run, by whichever worker needs one first; not in the user's cache."""
    base = tmp_path_factory.getbasetemp()
    # Each of several workers has a folder of its own below that of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "boundaries"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_FOLDER_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """The numbers in data/<name>.json."""

    def read(name: str) -> Any:
        return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """A record with something in every field; any of them can be given."""

    def make(**given: Any) -> RolloutRecord:
        fields: dict[str, Any] = {
            "policy": "trained",
            "task": TASK,
            "scenario_index": 3,
            "seed": 100_000_103,
            "outcome": Outcome.SUCCESS,
            "duration_s": 9.5,
            "num_control_steps": 95,
            "message": None,
            "attempt": 1,
            "started_at": "2026-01-31T12:00:00+00:00",
            "wall_s": 4.25,
            "detail": {"on_target": True, "distance_m": 0.0125, "region": "tray"},
            "progress": 1.0,
            "instruction": "Put the mug on the saucer.",
            "first_inference_s": 0.0,
            "policy_latency": PolicyLatency(num_steps=95, p50_ms=1.5, p95_ms=20.25, max_ms=31.0),
            "state_digest": "0123456789abcdef" * 4,
        }
        return RolloutRecord(**fields | given)

    return make


@pytest.fixture(scope="session")
def evaluation_in(make_record: MakeRecord) -> MakeEvaluation:
    """An evaluation's output: evaluation_in(root, "trained", "11t0e"), or {task: "110"}.

    A character an episode: 1 success, 0 failure, t timeout, e error, - not run.
    """

    def make(
        root: Path,
        policy: str,
        outcomes: str | Mapping[str, str],
        *,
        budget: int | None = None,
        folder: str | None = None,
        order: Sequence[int] | None = None,
        message: str | None = None,
    ) -> Path:
        by_task = {TASK: outcomes} if isinstance(outcomes, str) else outcomes
        num_episodes = max(map(len, by_task.values()))
        place = root / (folder or policy)
        place.mkdir(parents=True)
        design = EvaluationDesign(
            policy=policy,
            policy_digest=f"sha256:{policy}",
            tasks=tuple(by_task),
            num_episodes=num_episodes,
            max_sample_size=budget or num_episodes,
            station={"name": "two-arm", "control_rate_hz": 10},
            software={"assay": "0.1.0"},
        )
        write_design(place / DESIGN_FILE_NAME, design)
        with Ledger(place / LEDGER_FILE_NAME) as ledger:
            for task, codes in by_task.items():
                for index in order or range(len(codes)):
                    if codes[index] != "-":
                        record = make_record(
                            policy=policy,
                            task=task,
                            scenario_index=index,
                            outcome=_OUTCOMES[codes[index]],
                            message=message or ("server gone" if codes[index] == "e" else None),
                        )
                        ledger.append(record)
        return root

    return make


@pytest.fixture
def make_evaluation(tmp_path: Path, evaluation_in: MakeEvaluation) -> MakeEvaluation:
    """The same below the test's own folder: make_evaluation("trained", "11t0e")."""

    def make(policy: str, outcomes: str | Mapping[str, str], **options: Any) -> Path:
        return evaluation_in(
            options.pop("root", tmp_path / "rollouts"), policy, outcomes, **options
        )

    return make


@pytest.fixture(scope="session")
def write_results_json() -> Callable[..., Path]:
    """A results file as LBM Eval writes it: write_results_json(path, "put_mug", "110-", budget=9).

    A character an episode: 1 success, 0 failure, e an exception scored as failure, x a crash,
    - pending.
    """

    def write(
        path: Path,
        skill_type: str,
        outcomes: str,
        *,
        first: int = 0,
        budget: int | None = None,
        total_time: float | Mapping[int, float] = 12.5,
        message: str = "Traceback (most recent call last):\n ...\nSimFailure: no convergence",
    ) -> Path:
        evaluations = []
        for index, code in enumerate(outcomes, start=first):
            time_s = total_time.get(index, 12.5) if isinstance(total_time, Mapping) else total_time
            evaluations.append(
                {
                    "skill_type": skill_type,
                    "scenario_index": index,
                    "is_pending": code == "-",
                    "total_time": time_s if code in "10" else None,
                    "is_success": {"1": True, "0": False, "e": False}.get(code),
                    "failure_message": message if code in "ex" else None,
                }
            )
        document: dict[str, Any] = {"num_processes": 1, "evaluations": evaluations}
        if budget is not None:
            document["max_sample_size_per_model"] = budget
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write
