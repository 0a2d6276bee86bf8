"""What determines a STEP boundary."""

from dataclasses import dataclass, field
from typing import Literal

from step_analysis.sequential.pairwise_test import check_design
from step_analysis.sequential.risk_budget import (
    LinearBudget,
    RiskBudget,
    available_shares,
    budget_key,
)

StepForm = Literal["deterministic", "randomised"]

_ALPHA_DIGITS = 12
STEP_SIZE_LIMIT = 32_000
"""A boundary's entries are 16-bit integers."""


@dataclass(frozen=True, kw_only=True)
class StepDesign:
    """A boundary is a function of this and of the algorithm's version.

    `alpha_per_side` is rounded to 12 significant digits, so that 0.05 and 1 - 0.95 are one design.

    Raises:
        ValueError: n_max below 1 or above 32,000, alpha outside (0, 1/2), a budget that does not
            fit n_max, an unknown form.
    """

    n_max: int
    alpha_per_side: float
    budget: RiskBudget = field(default_factory=LinearBudget)
    form: StepForm = "deterministic"

    def __post_init__(self) -> None:
        check_design(self.n_max, self.alpha_per_side)
        if self.n_max > STEP_SIZE_LIMIT:
            raise ValueError(f"STEP's n_max must be at most {STEP_SIZE_LIMIT}, got {self.n_max}")
        if self.form not in ("deterministic", "randomised"):
            raise ValueError(
                f"STEP's form must be 'deterministic' or 'randomised', got {self.form!r}"
            )
        available_shares(self.budget, self.n_max)
        rounded = float(f"{self.alpha_per_side:.{_ALPHA_DIGITS}g}")
        object.__setattr__(self, "alpha_per_side", rounded)

    @property
    def key(self) -> str:
        """A name fit for a file; two designs share one only if they are equal."""
        return (
            f"{self.form}-n{self.n_max}-alpha{self.alpha_per_side:.{_ALPHA_DIGITS}g}"
            f"-{budget_key(self.budget)}"
        )
