"""Power, wrong verdicts, expected episodes and size of every test, exactly where that is possible.

SAVI depends on the order of the outcomes: it is enumerated for a few episodes and simulated,
seeded, for more; its standard error then comes with it.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from step_analysis.fixed_sample.barnard import barnard_region
from step_analysis.fixed_sample.fisher import fisher_region
from step_analysis.fixed_sample.mcnemar import majorities
from step_analysis.fixed_sample.region_size import RegionSizes
from step_analysis.fixed_sample.unpaired_test import Staircase
from step_analysis.methods import TestName
from step_analysis.planning.savi_simulation import savi_characteristics, savi_size
from step_analysis.sequential.lai import lai_characteristics, solve_c
from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.paired import paired_boundary, paired_characteristics
from step_analysis.sequential.pairwise_test import check_design
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_tables import find_table

LARGEST_BUDGET = 20_000
"""Exact characteristics beyond would take hours; some tests have limits of their own below."""

_NUM_DISCORDANCES = 401


@dataclass(frozen=True, kw_only=True)
class TrueRates:
    """What the policies really do.

    `discordance` is the chance that exactly one of them succeeds in a pair on one seed; None
    means independent arms. Only the paired tests depend on it.

    Raises:
        ValueError: a rate outside [0, 1], or a discordance that these rates can't have.
    """

    p0: float
    p1: float
    discordance: float | None = None

    def __post_init__(self) -> None:
        for name in ("p0", "p1"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie within [0, 1], got {getattr(self, name):g}")
        if self.discordance is not None:
            least = abs(self.p1 - self.p0)
            most = min(self.p0 + self.p1, 2.0 - self.p0 - self.p1)
            if not least - 1e-12 <= self.discordance <= most + 1e-12:
                raise ValueError(
                    f"with rates {self.p0:g} and {self.p1:g} the discordance must lie within "
                    f"[{least:g}, {most:g}], got {self.discordance:g}"
                )

    @property
    def only0(self) -> float:
        """The chance that only arm 0 succeeds."""
        return max(self._discordance - (self.p1 - self.p0), 0.0) / 2.0

    @property
    def only1(self) -> float:
        """The chance that only arm 1 succeeds."""
        return max(self._discordance + (self.p1 - self.p0), 0.0) / 2.0

    @property
    def _discordance(self) -> float:
        if self.discordance is not None:
            return self.discordance
        return self.p0 * (1.0 - self.p1) + self.p1 * (1.0 - self.p0)


@dataclass(frozen=True, kw_only=True)
class Characteristics:
    """What a mirrored test does at given true rates."""

    arm1_better: float
    arm0_better: float
    expected_n: float
    """Episodes of each arm."""
    standard_error: float | None = None
    """Of the probabilities if they were simulated; None if they are exact."""


def characteristics(
    method: TestName, n_max: int, alpha_per_side: float, rates: TrueRates
) -> Characteristics:
    """The chance of each verdict and the expected episodes.

    Raises:
        ValueError: n_max below 1 or above 20,000, or an alpha a side outside (0, 1/2).
    """
    _check(n_max, alpha_per_side)
    found = _characteristics(method, n_max, alpha_per_side, rates)
    # Sums of all but certain chances end a rounding above 1, which is no probability.
    return replace(
        found,
        arm1_better=min(found.arm1_better, 1.0),
        arm0_better=min(found.arm0_better, 1.0),
    )


def _characteristics(
    method: TestName, n_max: int, alpha_per_side: float, rates: TrueRates
) -> Characteristics:
    p0, p1 = rates.p0, rates.p1
    if method == "step":
        boundary = find_table(StepDesign(n_max=n_max, alpha_per_side=alpha_per_side)).boundary
        step = operating_characteristics(boundary, p0, p1)
        return Characteristics(
            arm1_better=float(step.arm1_better),
            arm0_better=float(step.arm0_better),
            expected_n=float(step.expected_time),
        )
    if method == "lai":
        lai = lai_characteristics(n_max, solve_c(n_max, alpha_per_side), p0, p1)
        return Characteristics(
            arm1_better=lai.arm1_better,
            arm0_better=lai.arm0_better,
            expected_n=lai.expected_time,
        )
    if method == "savi":
        savi = savi_characteristics(n_max, alpha_per_side, p0, p1)
        return Characteristics(
            arm1_better=savi.arm1_better,
            arm0_better=savi.arm0_better,
            expected_n=savi.expected_n,
            standard_error=savi.standard_error,
        )
    if method == "paired":
        walk = paired_characteristics(
            paired_boundary(n_max, alpha_per_side), rates.only0, rates.only1
        )
        return Characteristics(
            arm1_better=walk.arm1_better,
            arm0_better=walk.arm0_better,
            expected_n=walk.expected_time,
        )
    if method == "mcnemar":
        better, worse = _mcnemar(n_max, alpha_per_side, rates)
    else:
        region = _region(method, n_max, alpha_per_side)
        better, worse = _reach(region, p0, p1), _reach(region, p1, p0)
    return Characteristics(arm1_better=better, arm0_better=worse, expected_n=float(n_max))


def largest_size(method: TestName, n_max: int, alpha_per_side: float) -> float:
    """The largest chance of a false verdict in one direction, over all equal rates.

    By symmetry the largest chance of either verdict is twice that. For the paired tests it is
    over all discordances, too.

    Raises:
        ValueError: n_max below 1 or above 20,000, or an alpha a side outside (0, 1/2).
    """
    _check(n_max, alpha_per_side)
    if method == "step":
        table = find_table(StepDesign(n_max=n_max, alpha_per_side=alpha_per_side))
        return table.certificate.type1_sup
    if method == "lai":
        c = solve_c(n_max, alpha_per_side)
        return lai_characteristics(n_max, c, 0.5, 0.5).arm1_better
    if method == "savi":
        return savi_size(n_max, alpha_per_side)
    if method == "paired":
        return paired_boundary(n_max, alpha_per_side).largest_size()
    if method == "mcnemar":
        discordances = np.sin(np.linspace(0.0, np.pi / 2.0, _NUM_DISCORDANCES)) ** 2
        m = np.arange(n_max + 1)
        tails = binom.sf(majorities(n_max, alpha_per_side) - 1, m, 0.5)
        return float((binom.pmf(m, n_max, discordances[:, None]) @ tails).max())
    return RegionSizes(n_max).largest(_region(method, n_max, alpha_per_side).first_y)


def _check(n_max: int, alpha_per_side: float) -> None:
    check_design(n_max, alpha_per_side)
    if n_max > LARGEST_BUDGET:
        raise ValueError(f"n_max must be at most {LARGEST_BUDGET} here, got {n_max}")


def _region(method: TestName, n_max: int, alpha_per_side: float) -> Staircase:
    return (barnard_region if method == "barnard" else fisher_region)(n_max, alpha_per_side)


def _reach(region: Staircase, p_worse: float, p_better: float) -> float:
    n = region.num_episodes
    law = binom.pmf(np.arange(n + 1), n, p_worse)
    return float(law @ binom.sf(region.first_y - 1, n, p_better))


def _mcnemar(n_max: int, alpha_per_side: float, rates: TrueRates) -> tuple[float, float]:
    """The chance of either verdict: the discordant pairs are binomial, and so is their split."""
    discordant = rates.only0 + rates.only1
    if discordant == 0.0:
        return 0.0, 0.0
    m = np.arange(n_max + 1)
    law = binom.pmf(m, n_max, discordant)
    most = majorities(n_max, alpha_per_side) - 1
    share = rates.only1 / discordant
    return float(law @ binom.sf(most, m, share)), float(law @ binom.sf(most, m, 1.0 - share))
