"""The options of a STEP design, which several verbs have."""

from step_analysis.methods import Sides, per_side
from step_analysis.sequential.risk_budget import parse_risk_budget
from step_analysis.sequential.step_design import StepDesign, StepForm
from step_analysis.usage import UsageError


def step_design(n_max: int, alpha: float, sides: Sides, budget: str, form: StepForm) -> StepDesign:
    """The design that options mean.

    Raises:
        UsageError: they mean none.
    """
    try:
        return StepDesign(
            n_max=n_max,
            alpha_per_side=per_side(alpha, sides),
            budget=parse_risk_budget(budget),
            form=form,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
