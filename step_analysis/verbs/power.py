"""`step-analysis power`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from step_analysis.usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Power:
    """Say what a test would do at given true rates: power, wrong verdicts, episodes, size.

    All are exact, but for SAVI beyond 9 episodes, which is simulated with a fixed seed.

    Example: step-analysis power --method step --n-max 200 --alpha 0.05 --p0 0.3 --p1 0.5
    """

    method: Literal["step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"] = "step"
    """Test; paired is the sequential one on shared seeds."""
    n_max: int
    """Budget: most episodes of each policy."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict."""
    p0: float
    """True success rate of the first policy."""
    p1: float
    """True success rate of the second policy."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together."""
    discordance: float | None = None
    """Chance that exactly one policy succeeds on a seed, for mcnemar and paired; independent
    policies if not given."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the chance of the right verdict, of a wrong one, and the expected episodes."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.methods import per_side
        from step_analysis.planning.characteristics import (
            TrueRates,
            characteristics,
            largest_size,
        )

        if self.discordance is not None and self.method not in ("mcnemar", "paired"):
            raise UsageError(
                f"--discordance is for the methods mcnemar and paired, got method {self.method}"
            )
        try:
            alpha_per_side = per_side(self.alpha, self.sides)
            rates = TrueRates(p0=self.p0, p1=self.p1, discordance=self.discordance)
            found = characteristics(self.method, self.n_max, alpha_per_side, rates)
            size = largest_size(self.method, self.n_max, alpha_per_side)
        except ValueError as error:
            raise UsageError(str(error)) from error
        either = found.arm1_better + found.arm0_better
        right = found.arm1_better if self.p1 > self.p0 else found.arm0_better
        result: dict[str, float | None] = {
            # Where the rates are equal there is no right verdict, and each is wrong.
            "power": None if self.p0 == self.p1 else right,
            "wrong": either if self.p0 == self.p1 else either - right,
            "expected_n": found.expected_n,
            "type1_sup": size if self.sides == "one" else 2.0 * size,
        }
        if found.standard_error is not None:
            result["standard_error"] = found.standard_error
        if self.json:
            print(json.dumps(result, allow_nan=False))
            return
        if result["power"] is not None:
            print(f"Right verdict: {right:.4f}")
        print(f"Wrong verdict: {result['wrong']:.4g}")
        print(f"Expected episodes of each policy: {found.expected_n:.1f} of {self.n_max}")
        together = "in one direction" if self.sides == "one" else "in either direction"
        print(f"Largest chance of a false verdict {together}: {result['type1_sup']:.5f}")
        if found.standard_error is not None:
            print(f"Simulated; standard error of the chances: {found.standard_error:.4f}")
