"""Published rollouts as examples: real data to try the tests and the report on."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.usage import UsageError

EXAMPLES: Mapping[str, str] = {"foundry": "foundry_cs.json"}
"""File of each example, by its name."""


def load_example(name: str) -> list[PolicyRollouts]:
    """The policies of a published evaluation, by name.

    'foundry' is the evaluation set CS of VLA Foundry (Toyota Research Institute 2026, MIT): twelve
    models, nineteen tasks, 200 rollouts each, 43,800 in all.

    Raises:
        UsageError: there is no example of this name.
    """
    if name not in EXAMPLES:
        raise UsageError(f"no example {name!r}; there is {', '.join(map(repr, EXAMPLES))}")
    file = resources.files("step_analysis.examples").joinpath(EXAMPLES[name])
    value = json.loads(file.read_text(encoding="utf-8"))
    # Named as published, and not by where this copy happens to lie.
    sources = (Path(value["source"]),)
    budget, first = value["max_sample_size"], value["first_scenario_index"]
    return [
        PolicyRollouts(
            policy=policy,
            tasks={
                task: _task(policy, task, format(int(bits, 16), f"0{budget}b"), first)
                for task, bits in tasks.items()
            },
            design=None,
            sources=sources,
        )
        for policy, tasks in value["results"].items()
    ]


def _task(policy: str, task: str, successes: str, first: int) -> TaskRollouts:
    outcomes = {
        index: RolloutRecord(
            policy=policy,
            task=task,
            scenario_index=index,
            seed=None,
            outcome=Outcome.SUCCESS if character == "1" else Outcome.FAILURE,
        )
        for index, character in enumerate(successes, start=first)
    }
    return TaskRollouts(
        task=task,
        outcomes=outcomes,
        requested=tuple(outcomes),
        max_sample_size=len(outcomes),
        budget_is_recorded=True,
    )
