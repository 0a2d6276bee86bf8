"""The randomised form of STEP, as its authors' code makes it: an option, for comparisons.

At every time a linear programme maximises the number of states that stop, in fractions, within the
type-1 budget at the control points; see section 2 of the paper (arXiv 2503.10966) and its code's
defaults. Stopping in a state with a fractional weight needs a random number. Nothing makes the
weights monotone, so that a single success can win where two can't: prefer the deterministic form.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog

from step_analysis.sequential.risk_budget import available_shares, dead_time
from step_analysis.sequential.step_boundary import RandomisedBoundary
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_synthesis import control_points, paired_law
from step_analysis.sequential.survival import BinomialLaws, advance, start

_SELECTION_SLACK = 1e-5
_ROW_MARGIN = 1e-6
"""Share of a row's budget left unspent: covers HiGHS's tolerances (1e-7, on scaled rows)."""
_WEIGHT_TOLERANCE = 1e-6


def synthesise_randomised(
    design: StepDesign, budget_scale: float = 1.0, on_time: Callable[[int], None] | None = None
) -> RandomisedBoundary:
    """As `step_synthesis.synthesise`, with one linear programme a time."""
    n_max = design.n_max
    rates = control_points(n_max)
    laws = BinomialLaws(rates, 2 * n_max)
    available = design.alpha_per_side * budget_scale * available_shares(design.budget, n_max)
    first = dead_time(n_max)
    spent = np.zeros(len(rates))
    listed_from = np.full((n_max + 1, n_max + 1), n_max + 1, dtype=np.int16)
    stop_at = listed_from.copy()
    weights: list[np.ndarray] = []
    alive = start()
    for t in range(1, n_max + 1):
        alive = advance(alive, t)
        if t > first:
            stops = _stop_weights(t, alive, laws, spent, available[t], rates)
            for x in range(t):
                row = stops[x, 1 : t - x + 1]
                (positive,) = np.nonzero(row > 0.0)
                if len(positive) == 0:
                    continue
                (partial,) = np.nonzero(row < 1.0)
                begin = int(positive[0])
                end = max(int(partial[-1]) + 1, begin) if len(partial) else begin
                listed_from[t, x] = x + 1 + begin
                if end < len(row):
                    stop_at[t, x] = x + 1 + end
                weights.append(row[begin:end])
            alive = alive * (1.0 - stops[:, : alive.shape[1]])
            alive = alive[:, : int(np.flatnonzero(alive.any(axis=0))[-1]) + 1]
        if on_time is not None:
            on_time(t)
    return RandomisedBoundary(
        design=design,
        listed_from=listed_from,
        stop_at=stop_at,
        weights=np.concatenate([np.empty(0), *weights]),
    )


def _stop_weights(
    t: int,
    alive: np.ndarray,
    laws: BinomialLaws,
    spent: np.ndarray,
    available: float,
    rates: np.ndarray,
) -> np.ndarray:
    """Chance to stop at (x, x + d), shape (t + 1, t + 1); what it spends is added to `spent`."""
    stops = np.zeros((t + 1, t + 1))
    x, d = np.indices(stops.shape)
    reached = np.zeros(stops.shape, dtype=bool)
    reached[:, : alive.shape[1]] = alive > 0.0
    stops[(d > 0) & (x + d <= t) & ~reached] = 1.0
    states, masses = _candidates(t, alive, reached, laws, spent, available, rates)
    room = available * (1.0 - _ROW_MARGIN) - spent
    used = masses.any(axis=1)
    if len(states) == 0 or (room[used] <= 0.0).any():
        return stops
    pair_size = np.where(states.sum(axis=1) == t, 1.0, 2.0)
    result = linprog(
        -pair_size,
        A_ub=masses[used] / room[used, None],
        b_ub=np.ones(int(used.sum())),
        bounds=(0.0, 1.0),
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"the linear programme at t={t} was not solved: {result.message}")
    weight = np.where(result.x <= _WEIGHT_TOLERANCE, 0.0, result.x)
    weight = np.where(weight >= 1.0 - _WEIGHT_TOLERANCE, 1.0, weight)
    spent += masses @ weight
    x0, y0 = states.T
    stops[x0, y0 - x0] = weight
    stops[t - y0, y0 - x0] = weight
    return stops


def _candidates(
    t: int,
    alive: np.ndarray,
    reached: np.ndarray,
    laws: BinomialLaws,
    spent: np.ndarray,
    available: float,
    rates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """States that may stop, one of each mirrored pair, and their probability at each rate.

    Walks from the strongest evidence (large d = y - x) to the weakest. Once a rate's budget is
    overdrawn, states that this rate makes likely are passed over, but never the two ends.

    Returns:
        Shapes (states, 2), as (x, y), and (rates, states).
    """
    paired = paired_law(t, laws)
    total = spent.copy()
    states = [np.empty((0, 2), dtype=int)]
    masses = [np.empty((len(rates), 0))]
    for d in range(t, 0, -1):
        num_states = t - d + 1
        x = np.arange((num_states + 1) // 2)
        overdrawn = rates[total >= available + _SELECTION_SLACK]
        if len(overdrawn):
            x = x[(x == 0) | (x / num_states <= overdrawn.min())]
        x = x[reached[x, d]]
        if len(x) == 0:
            continue
        mass = (paired[2 * x + d] * (alive[x, d] * laws.split(t, x, x + d))[:, None]).T
        total += mass.sum(axis=1)
        states.append(np.stack([x, x + d], axis=1))
        masses.append(mass)
    return np.concatenate(states), np.concatenate(masses, axis=1)
