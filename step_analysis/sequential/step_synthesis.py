"""Making a STEP boundary: when to stop comparing two policies, near-optimally.

STEP is by Snyder et al., "Is Your Imitation Learning Policy Better than Mine? Policy Comparison
with Near-Optimal Stopping", RSS 2025 (arXiv 2503.10966). A state is (t, x, y): time, successes of
arm 0, successes of arm 1. At every time the type-1 budget that has become available, at control
points p0 = p1 = p, is spent on stopping as many states as it allows.

Four choices differ from the paper's own procedure, `step_randomised`:
- The chance of being undecided factorises (see `survival`), so that one recursion serves every p.
- Swapping success and failure maps the problem onto itself, so (x, y) and (t - y, t - x) stop
  together: half of the control points and of the states are enough.
- The boundary is monotone: more evidence never stops less. A state either stops or does not, so
  the test needs no random numbers, and only what is really spent is charged.
- Instead of a linear programme that fills the budget with fractions of states, states are taken
  whole, in order of their evidence, each if it still fits at every control point. What one state
  is too large for is left to weaker ones elsewhere and to later times. The power is that of the
  linear programme within 0.005 (docs/statistics.md), in a twentieth of its time.
"""

import math
from collections.abc import Callable

import numpy as np

from step_analysis import special
from step_analysis.sequential.risk_budget import available_shares, dead_time
from step_analysis.sequential.step_boundary import StepBoundary
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.survival import BinomialLaws, advance, start

_MIN_CONTROL_SAMPLES = 10
_MIN_BISECTIONS = 6
_NO_ROOM = 1e-300
_POINT_SPACING = 0.6
"""Largest distance of control points, in standard deviations of arcsin(sqrt(rate)) at n_max."""


def synthesise(
    design: StepDesign, budget_scale: float = 1.0, on_time: Callable[[int], None] | None = None
) -> StepBoundary:
    """The boundary whose error at the control points is at most `budget_scale` times alpha.

    Args:
        on_time: called with each time t that is done.
    """
    n_max = design.n_max
    rates = control_points(n_max)
    laws = BinomialLaws(rates, 2 * n_max)
    available = design.alpha_per_side * budget_scale * available_shares(design.budget, n_max)
    first = dead_time(n_max)
    spent = np.zeros(len(rates))
    alive = start()
    # The smallest y that stops, for each x; t + 1 stands for none.
    stop_at_now = np.array([1])
    stop_at = np.full((n_max + 1, n_max + 1), n_max + 1, dtype=np.int16)
    for t in range(1, n_max + 1):
        alive = advance(alive, t)
        # From one time to the next y grows by one at most, so that at first only this can stop.
        stop_at_now = np.append(np.minimum(stop_at_now + 1, t + 1), t + 1)
        if t > first:
            spent += _stop_what_fits(t, alive, laws, available[t] - spent, stop_at_now)
        found = stop_at_now <= t
        stop_at[t, : t + 1][found] = stop_at_now[found]
        lead = stop_at_now - np.arange(t + 1)
        alive = alive[:, : int(lead.max())]
        alive[np.arange(alive.shape[1]) >= lead[:, None]] = 0.0
        if on_time is not None:
            on_time(t)
    return StepBoundary(design=design, stop_at=stop_at)


def control_points(n_max: int) -> np.ndarray:
    """Rates from 1/n_max to 1/2 at which the error is controlled, equally hard to tell apart.

    65 for budgets up to 240 episodes as in the paper's code, then more: the error between two
    points stays below alpha only while n_max episodes can't tell them apart.
    """
    quarter_turn = math.pi / 4.0
    spacing = _POINT_SPACING / (2.0 * math.sqrt(2.0 * n_max))
    num_bisections = max(_MIN_BISECTIONS, math.ceil(math.log2(quarter_turn / spacing)))
    rates = np.array([1.0 / max(n_max, _MIN_CONTROL_SAMPLES), 0.5])
    for _ in range(num_bisections):
        rates = np.sort(np.concatenate([rates, between(rates[:-1], rates[1:])]))
    return rates


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rate m with KL(m || a) = KL(m || b) for Bernoulli laws, in closed form."""
    u = np.log((1.0 - a) / (1.0 - b))
    v = np.log(b / a)
    return u / (u + v)


def _stop_what_fits(
    t: int, alive: np.ndarray, laws: BinomialLaws, room: np.ndarray, stop_at: np.ndarray
) -> np.ndarray:
    """Stop each candidate at time t, strongest evidence first, that leaves no rate overdrawn.

    Args:
        alive: M, shape (t + 1, width); see `survival`.
        laws: at the control points, up to 2 t trials.
        room: what each rate may still spend, shape (rates,).
        stop_at: the smallest y that stops for each x, shape (t + 1,); it is updated.

    Returns:
        What is spent at each rate.
    """
    law = paired_law(t, laws)
    share_of_room = law / np.maximum(room, _NO_ROOM)
    x, y, factor = _candidates(t, alive, laws, share_of_room, stop_at)
    masses = law[x + y]
    masses *= factor[:, None]
    total = np.cumsum(masses, axis=0)
    overdrawn = (total > room).any(axis=1)
    # Up to there no state needs to be asked whether it fits.
    num_sure = int(overdrawn.argmax()) if overdrawn.any() else len(masses)
    left = room - total[num_sure - 1] if num_sure else room.copy()
    now = stop_at.tolist()
    for i, (x0, y0) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if i >= num_sure:
            stronger_stop = now[x0] == y0 + 1 and (x0 == 0 or now[x0 - 1] <= y0)
            if not stronger_stop or (masses[i] > left).any():
                continue
            left -= masses[i]
        now[x0] = y0
        now[t - y0] = t - x0
    stop_at[:] = now
    return room - left


def _candidates(
    t: int,
    alive: np.ndarray,
    laws: BinomialLaws,
    share_of_room: np.ndarray,
    stop_at: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States that could stop, strongest evidence first.

    One of each mirrored pair, (x, y) with x + y <= t, stands for both. They are collected in
    layers, each one success further from what stops already. A state is left out if, at the
    control point where it takes the largest share of the room, it exceeds the room together with
    those of its row that have to stop before it, or if a stronger one, (x, y + 1) or (x - 1, y),
    was left out: a monotone boundary can't hold it.

    Args:
        share_of_room: `paired_law` divided by the room, (t + 1, rates).

    Returns:
        x, y, and the factor to `paired_law` at x + y that gives the pair's probability.
    """
    rows = np.arange(t + 1)
    tightest = share_of_room.argmax(axis=1)
    reach = stop_at.copy()
    too_large = np.zeros(t + 1, dtype=bool)
    layers: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows_of_layers: list[tuple[np.ndarray, np.ndarray]] = []
    while True:
        y = reach - 1
        stronger_stop = np.concatenate([[0], reach[:-1]]) <= y
        (x0,) = np.nonzero((y > rows) & (rows + y <= t) & stronger_stop & ~too_large)
        if len(x0) == 0:
            break
        y0 = y[x0]
        factor = alive[x0, y0 - x0] * laws.split(t, x0, y0)
        rate = tightest[x0 + y0]
        share = factor * share_of_room[x0 + y0, rate]
        for sums, factors in rows_of_layers:
            share += factors[x0] * share_of_room[sums[x0], rate]
        fits = share <= 1.0
        too_large[x0[~fits]] = True
        x0, y0, factor = x0[fits], y0[fits], factor[fits]
        reach[x0] = y0
        reach[t - y0] = np.minimum(reach[t - y0], t - x0)
        layers.append((x0, y0, factor))
        rows_of_layers.append((np.zeros(t + 1, dtype=int), np.zeros(t + 1)))
        for of_rows, values in zip(rows_of_layers[-1], (x0 + y0, factor), strict=True):
            of_rows[x0] = values
    if not layers:
        return rows[:0], rows[:0], np.empty(0)
    x, y, factor = map(np.concatenate, zip(*layers, strict=True))
    order = np.argsort(-_evidence(t, x, y), kind="stable")
    return x[order], y[order], factor[order]


def paired_law(t: int, laws: BinomialLaws) -> np.ndarray:
    """Probability of s = 0..t successes in 2 t trials or of as many failures, (t + 1, rates).

    A law over p > 1/2 is that over 1 - p mirrored, so both ends of a pair are charged to each
    rate, and only one half of the rates needs a column. `laws` overwrites it when next asked.
    """
    law = laws.at(2 * t, np.arange(2 * t + 1))
    paired = law[: t + 1]
    paired[:t] += law[:t:-1]
    return paired


def _evidence(t: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log of the generalised likelihood ratio of two rates against one."""
    pooled = (x + y) / (2 * t)
    return (
        special.xlogy(x, x / t)
        + special.xlog1py(t - x, -x / t)
        + special.xlogy(y, y / t)
        + special.xlog1py(t - y, -y / t)
        - 2 * t * (special.xlogy(pooled, pooled) + special.xlog1py(1.0 - pooled, -pooled))
    )
