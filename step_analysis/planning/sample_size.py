"""The budget that a wished power needs, by exact calculation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from step_analysis.methods import STEP_MAX_SAMPLE_SIZE, TestName
from step_analysis.planning.characteristics import (
    LARGEST_BUDGET,
    Characteristics,
    TrueRates,
    characteristics,
)

PlanMethod = Literal["auto", "step", "lai", "paired", "mcnemar", "barnard", "fisher"]
"""All tests but SAVI, which has no exact power and needs no budget."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Episodes of each policy, fixed beforehand, and what they buy."""

    method: TestName
    n_max: int
    power: float
    wrong: float
    expected_n: float
    """With early stopping; n_max for a test that looks once."""


def needed_budget(
    rates: TrueRates,
    *,
    power: float,
    alpha_per_side: float,
    method: PlanMethod = "auto",
) -> Budget:
    """A budget with at least this chance of the right verdict, where one episode less has not.

    The power of a test of counts rises with n but for small teeth, so there may be a smaller one.

    Args:
        method: "auto" is STEP where that needs at most 500 episodes, otherwise Lai, as making
            STEP boundaries of all sizes on the way would take long.

    Raises:
        ValueError: equal rates, a power or alpha out of range, or a budget beyond 20,000.
    """
    if rates.p0 == rates.p1:
        raise ValueError(f"both rates are {rates.p0:g}: no budget tells equal rates apart")
    if not 0.0 < power < 1.0:
        raise ValueError(f"power must lie strictly between 0 and 1, got {power:g}")
    if method != "auto":
        return _search(rates, power, alpha_per_side, method)
    lai = _search(rates, power, alpha_per_side, "lai")
    if lai.n_max > STEP_MAX_SAMPLE_SIZE:
        return lai
    return _search(rates, power, alpha_per_side, "step", start=lai.n_max)


def rounded_up(budget: Budget, rates: TrueRates, *, alpha_per_side: float, step: int) -> Budget:
    """The budget as a multiple of `step`, such as the number of tasks."""
    n_max = math.ceil(budget.n_max / step) * step
    if n_max == budget.n_max:
        return budget
    found = characteristics(budget.method, n_max, alpha_per_side, rates)
    return _budget(budget.method, n_max, found, rates)


def _search(
    rates: TrueRates,
    power: float,
    alpha_per_side: float,
    method: TestName,
    start: int | None = None,
) -> Budget:
    known: dict[int, Characteristics] = {}

    def probit(n: int) -> float:
        if n not in known:
            known[n] = characteristics(method, n, alpha_per_side, rates)
        return float(ndtri(right(known[n], rates)))

    guess = _normal_guess(rates, power, alpha_per_side) if start is None else start
    n_max = _smallest(probit, float(ndtri(power)), float(ndtri(1.0 - alpha_per_side)), guess)
    if n_max is None:
        raise ValueError(
            f"a power of {power:g} for {rates.p0:g} against {rates.p1:g} needs more than "
            f"{LARGEST_BUDGET} episodes of each policy"
        )
    return _budget(method, n_max, known[n_max], rates)


def _budget(method: TestName, n_max: int, found: Characteristics, rates: TrueRates) -> Budget:
    return Budget(
        method=method,
        n_max=n_max,
        power=right(found, rates),
        wrong=found.arm1_better + found.arm0_better - right(found, rates),
        expected_n=found.expected_n,
    )


def right(found: Characteristics, rates: TrueRates) -> float:
    """The chance of the right verdict, where the rates differ."""
    return found.arm1_better if rates.p1 > rates.p0 else found.arm0_better


def _smallest(
    probit: Callable[[int], float], wished: float, quantile: float, guess: int
) -> int | None:
    """The n with probit(n) >= wished > probit(n - 1); None if that is beyond the largest budget.

    Power is about the normal probability of (slope sqrt(n) - quantile): few n need be tried.
    """
    too_small, enough = 0, LARGEST_BUDGET + 1
    reached = {too_small: -quantile}
    n, last_was_enough = min(max(guess, 1), LARGEST_BUDGET), None
    while True:
        reached[n] = probit(n)
        is_enough = reached[n] >= wished
        too_small, enough = (too_small, n) if is_enough else (n, enough)
        if enough - too_small <= 1:
            return enough if enough <= LARGEST_BUDGET else None
        above, below = reached.get(enough, math.inf), reached[too_small]
        if not math.isfinite(above) or not math.isfinite(below):
            # Only one side is known: go along the straight line through the other.
            ratio = (wished + quantile) / max(reached[n] + quantile, 0.1)
            proposed = n * min(max(ratio, 0.5), 2.0) ** 2
            proposed *= 1.02 if proposed > n else 0.98
        elif is_enough is last_was_enough:
            proposed = (too_small + enough) / 2.0
        else:
            share = (wished - below) / (above - below)
            proposed = ((1.0 - share) * too_small**0.5 + share * enough**0.5) ** 2
        last_was_enough = is_enough
        n = min(max(round(proposed), too_small + 1), enough - 1)


def _normal_guess(rates: TrueRates, power: float, alpha_per_side: float) -> int:
    variance = rates.p0 * (1.0 - rates.p0) + rates.p1 * (1.0 - rates.p1)
    z = float(ndtri(1.0 - alpha_per_side) + ndtri(max(power, 0.5)))
    return max(int(z * z * variance / (rates.p1 - rates.p0) ** 2), 4)
