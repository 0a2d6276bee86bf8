"""`step-analysis plan`."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from step_analysis.usage import UsageError

if TYPE_CHECKING:
    from step_analysis.planning.sample_size import Budget


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how many episodes it takes to tell two success rates apart.

    For one verdict over all tasks together, and for a verdict on each task by itself; exact but
    for the tasks' different difficulty, which only makes the overall verdict easier.

    Example: step-analysis plan --from 0.6 --to 0.7 --tasks 16 --power 0.8
    """

    from_rate: Annotated[float, tyro.conf.arg(name="from")]
    """Success rate of the first policy."""
    to_rate: Annotated[float, tyro.conf.arg(name="to")]
    """Success rate of the second policy."""
    tasks: int = 1
    """Number of tasks."""
    power: float = 0.8
    """Wished chance of the right verdict."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together."""
    method: Literal["auto", "step", "lai", "paired", "mcnemar", "barnard", "fisher"] = "auto"
    """Test; auto is STEP where that needs up to 1000 episodes, otherwise Lai."""
    discordance: float | None = None
    """Chance that exactly one policy succeeds on a seed, for mcnemar and paired; independent
    policies if not given."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the budgets."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.methods import per_side
        from step_analysis.planning.characteristics import TrueRates
        from step_analysis.planning.sample_size import needed_budget, rounded_up

        if self.tasks < 1:
            raise UsageError(f"--tasks must be at least 1, got {self.tasks}")
        for option, rate in (("--from", self.from_rate), ("--to", self.to_rate)):
            if not 0.0 <= rate <= 1.0:
                raise UsageError(f"{option} must lie within [0, 1], got {rate:g}")
        if self.discordance is not None and self.method not in ("mcnemar", "paired"):
            raise UsageError(
                f"--discordance is for the methods mcnemar and paired, got method {self.method}"
            )
        try:
            rates = TrueRates(p0=self.from_rate, p1=self.to_rate, discordance=self.discordance)
            alpha_per_side = per_side(self.alpha, self.sides)
            each = needed_budget(
                rates, power=self.power, alpha_per_side=alpha_per_side, method=self.method
            )
            overall = rounded_up(each, rates, alpha_per_side=alpha_per_side, step=self.tasks)
        except ValueError as error:
            raise UsageError(str(error)) from error
        result = dataclasses.asdict(overall) | {
            "episodes_per_task": overall.n_max // self.tasks,
            "rollouts": 2 * overall.n_max,
            "expected_rollouts": 2.0 * overall.expected_n,
            "each_task": dataclasses.asdict(each)
            | {
                "rollouts": 2 * each.n_max * self.tasks,
                "expected_rollouts": 2.0 * each.expected_n * self.tasks,
            },
        }
        if self.json:
            print(json.dumps(result, allow_nan=False))
            return
        print(
            _sentence(
                "On one task" if self.tasks == 1 else "On each task by itself", each, self.tasks
            )
        )
        if self.tasks > 1:
            print(_sentence(f"Over {self.tasks} tasks together", overall, 1))
            print(f"That is {overall.n_max // self.tasks} episodes of each task and policy.")


def _sentence(what: str, budget: "Budget", times: int) -> str:
    expected, most = 2.0 * budget.expected_n * times, 2 * budget.n_max * times
    return (
        f"{what}: {budget.n_max} episodes of each policy ({budget.method}, power "
        f"{budget.power:.3f}); expected {expected:.0f} of {most} rollouts in all."
    )
