"""Studies and records of them."""

from collections.abc import Callable
from typing import Any

import pytest

from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.study.design import StudyDesign, StudyPolicy

TASKS = ("PickAndPlaceBox", "PushCoasterToMug", "PutMugOnSaucer")
FIRST_SEED = 100_000_100


@pytest.fixture(scope="session")
def make_design() -> Callable[..., StudyDesign]:
    """make_design(2, 1, 30): policies p0, p1, ... on the first of the tasks."""

    def make(num_policies: int, num_tasks: int, max_episodes: int, **given: Any) -> StudyDesign:
        fields: dict[str, Any] = {
            "policies": tuple(
                StudyPolicy(name=f"p{i}", digest=f"sha256:{i}") for i in range(num_policies)
            ),
            "tasks": TASKS[:num_tasks],
            "max_episodes": max_episodes,
            "first_seed": FIRST_SEED,
            "alpha": 0.05,
        }
        return StudyDesign(**fields | given)

    return make


@pytest.fixture(scope="session")
def record_of() -> Callable[..., RolloutRecord]:
    """record_of("p0", task, 3, True): a record of a study; an outcome may be given instead."""

    def make(
        policy: str, task: str, index: int, outcome: bool | Outcome, **given: Any
    ) -> RolloutRecord:
        if not isinstance(outcome, Outcome):
            outcome = Outcome.SUCCESS if outcome else Outcome.FAILURE
        fields = {"seed": FIRST_SEED + index, "progress": None} | given
        return RolloutRecord(
            policy=policy, task=task, scenario_index=index, outcome=outcome, **fields
        )

    return make
