"""The pairwise tests by name, and which of them a budget gets unless one is chosen."""

from functools import lru_cache
from typing import Literal, get_args

from step_analysis.sequential.lai import LaiTest
from step_analysis.sequential.paired import SequentialMcNemarTest
from step_analysis.sequential.pairwise_test import PairwiseTest
from step_analysis.sequential.savi import SaviTest
from step_analysis.sequential.step import StepTest
from step_analysis.sequential.step_design import STEP_SIZE_LIMIT, StepDesign
from step_analysis.sequential.step_tables import SHIPPED_TABLES, table_name

TestName = Literal["step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"]
Method = Literal["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"]
Sides = Literal["one", "two"]
"""Whether alpha bounds each direction of a verdict by itself, or both together."""

TEST_NAMES: tuple[TestName, ...] = get_args(TestName)
STEP_MAX_SAMPLE_SIZE = 1000
"""Up to this budget `auto` is STEP; beyond it only where the table ships, as making one takes
minutes. The choice depends on the design alone, never on what a cache happens to hold."""


def resolve_method(method: Method, n_max: int, alpha_per_side: float) -> TestName:
    """The test that `method` means for this design."""
    if method != "auto":
        return method
    if n_max <= STEP_MAX_SAMPLE_SIZE or _ships(n_max, alpha_per_side):
        return "step"
    return "lai"


@lru_cache(maxsize=256)
def make_test(method: Method, n_max: int, alpha_per_side: float) -> PairwiseTest:
    """The test for a design; one object serves all pairs.

    Raises:
        ValueError: n_max below 1, or an alpha a side outside (0, 1/2).
    """
    match resolve_method(method, n_max, alpha_per_side):
        case "step":
            return StepTest(n_max, alpha_per_side)
        case "lai":
            return LaiTest(n_max, alpha_per_side)
        case "savi":
            return SaviTest(n_max, alpha_per_side)
        case "paired":
            return SequentialMcNemarTest(n_max, alpha_per_side)
        # The others stand on scipy.stats, which takes half a second to import.
        case "mcnemar":
            from step_analysis.fixed_sample.mcnemar import McNemarTest

            return McNemarTest(n_max, alpha_per_side)
        case "barnard":
            from step_analysis.fixed_sample.barnard import barnard_test

            return barnard_test(n_max, alpha_per_side)
        case "fisher":
            from step_analysis.fixed_sample.fisher import fisher_test

            return fisher_test(n_max, alpha_per_side)


def _ships(n_max: int, alpha_per_side: float) -> bool:
    if n_max > STEP_SIZE_LIMIT:
        return False
    design = StepDesign(n_max=n_max, alpha_per_side=alpha_per_side)
    return (SHIPPED_TABLES / table_name(design)).exists()


def per_side(alpha: float, sides: Sides) -> float:
    """The level of each direction.

    Raises:
        ValueError: alpha outside (0, 1), or of 1/2 and more for each direction by itself.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha:g}")
    if sides == "two":
        return alpha / 2.0
    if alpha >= 0.5:
        raise ValueError(f"alpha for each direction by itself must be below 0.5, got {alpha:g}")
    return alpha
