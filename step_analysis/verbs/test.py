"""`step-analysis test`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from step_analysis.usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Test:
    """Compare two files of outcomes, 0 and 1 in the order of the episodes.

    Prints the decision, +1 if the second is better, -1 if the first is, 0 if it is open, and the
    episodes of each that were looked at.

    Example: step-analysis test --method step --n-max 200 old.txt new.txt
    """

    first: tyro.conf.Positional[Path]
    """Outcomes of the first policy."""
    second: tyro.conf.Positional[Path]
    """Outcomes of the second policy, on the same seeds for mcnemar and paired."""
    method: Literal["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"] = (
        "auto"
    )
    """Test; auto is STEP for budgets up to 1000 and designs whose table ships, otherwise Lai.
    McNemar, Barnard and Fisher look once, when all n-max episodes are there."""
    n_max: int | None = None
    """Budget fixed beforehand, in episodes of each policy; the length of the files unless given."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the verdict."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.methods import make_test, per_side
        from step_analysis.outcome_files import read_outcomes

        outcomes0, outcomes1 = read_outcomes(self.first), read_outcomes(self.second)
        if len(outcomes0) != len(outcomes1):
            raise UsageError(
                f"outcomes of one number expected, got {len(outcomes0)} in {self.first} and "
                f"{len(outcomes1)} in {self.second}"
            )
        n_max = len(outcomes0) if self.n_max is None else self.n_max
        try:
            test = make_test(self.method, n_max, per_side(self.alpha, self.sides))
            verdict = test.run(outcomes0, outcomes1)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if self.json:
            print(json.dumps({"decision": verdict.decision, "time": verdict.time}))
            return
        said = {1: f"{self.second} is better", -1: f"{self.first} is better", 0: "undecided"}
        looked_at = f"after {verdict.time} of {n_max} episodes of each"
        print(f"{test.name}: {said[verdict.decision]} {looked_at}")
