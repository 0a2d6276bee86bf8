"""Making a STEP boundary: when to stop comparing two policies, near-optimally.

STEP is by Snyder et al., "Is Your Imitation Learning Policy Better than Mine? Policy Comparison
with Near-Optimal Stopping", RSS 2025 (arXiv 2503.10966). A state is (t, x, y): time, successes of
arm 0, successes of arm 1. At every time a linear programme spends what has become available of
the type-1 budget, at control points p0 = p1 = p, on stopping as many states as it can.

Three choices differ from the paper's own procedure:
- Given the counts all orderings are equally likely, so the probability of being alive at
  (t, x, y) is M(t, x, y) b(x; t, p0) b(y; t, p1) with b the binomial law and M free of p. One
  recursion for M serves every p.
- Swapping success and failure maps the problem onto itself, so (x, y) and (t - y, t - x) stop
  together: half of the control points and of the states are enough.
- Weights are monotone (more evidence never stops less) and a fractional one becomes 0, so the
  test needs no random numbers. Only what is really spent is charged.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.special import gammaln, xlog1py, xlogy

from step_analysis.sequential.pairwise_test import check_design

ALGORITHM_VERSION = 1

_SELECTION_SLACK = 1e-5
_ROW_MARGIN = 1e-6
"""Share of a row's budget left unspent: covers HiGHS's tolerances (1e-7, on scaled rows)."""
_BUDGET_SHARE = 1.0 - 1e-4
"""Between control points the error overshoots by up to 5e-5 of alpha; this keeps it below."""
_NUM_BISECTIONS = 6
_MIN_CONTROL_SAMPLES = 10
_WHOLE_WEIGHT = 1.0 - 1e-6


@dataclass(frozen=True, kw_only=True)
class StepBoundary:
    """A deterministic mirrored boundary.

    `stop_at[t, x]` is the smallest y > x at which to stop for "arm 1 is better"; n_max + 1 where
    there is none. The other side is the mirror image. int16, shape (n_max + 1, n_max + 1).
    """

    n_max: int
    alpha_per_side: float
    stop_at: np.ndarray

    def __post_init__(self) -> None:
        size = self.n_max + 1
        if self.stop_at.shape != (size, size) or self.stop_at.dtype != np.int16:
            raise ValueError(
                f"a boundary of shape {(size, size)} and int16 expected, got "
                f"{self.stop_at.shape} and {self.stop_at.dtype}"
            )
        if not ((self.stop_at > np.arange(size)) & (self.stop_at <= size)).all():
            raise ValueError("a boundary must lie above the diagonal and within n_max + 1")


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Rates p <= 1/2 at which the type-1 error is controlled, then further ones to check."""

    rates: np.ndarray
    num_controlled: int


def synthesise(n_max: int, alpha_per_side: float) -> StepBoundary:
    """The boundary for at most `n_max` episodes of each arm.

    The type-1 error of each side is at most `alpha_per_side` at the control points, at the points
    halfway between them and towards 0 and 1, where it is computed exactly; should it exceed that
    between control points, the budget is cut until it does not.
    """
    check_design(n_max, alpha_per_side)
    budget = alpha_per_side * _BUDGET_SHARE
    while True:
        stop_at, worst = _synthesise(n_max, budget)
        if worst <= alpha_per_side:
            return StepBoundary(n_max=n_max, alpha_per_side=alpha_per_side, stop_at=stop_at)
        budget -= 2.0 * (worst - alpha_per_side)


def dead_time(n_max: int) -> int:
    """Episodes before the first look; the last one is always looked at."""
    return min(max(4, int(np.log2(n_max)) + 1), n_max - 1)


def _synthesise(n_max: int, budget: float) -> tuple[np.ndarray, float]:
    """The boundary, and the largest type-1 error over all points."""
    points = _points(n_max)
    first = dead_time(n_max)
    stop_at = np.full((n_max + 1, n_max + 1), n_max + 1, dtype=np.int16)
    spent = np.zeros(len(points.rates))
    alive = np.ones((1, 1))
    for t in range(1, n_max + 1):
        alive = _advance(alive, t)
        if t <= first:
            continue
        available = budget * (t - first + 1) / (n_max - first + 1)
        law = _binomial(t, points.rates)
        stops = _stops(t, alive, law, spent, available, points)
        spent += np.einsum("px,xy,py->p", law, alive * stops, law, optimize=True)
        _note_boundary(stop_at, t, stops)
        alive = alive * ~(stops | stops.T)
    return stop_at, float(spent.max())


def _points(n_max: int) -> _Points:
    """65 control points from 1/n to 1/2, equally hard to tell apart, then those to check."""
    rates = np.array([1.0 / max(n_max, _MIN_CONTROL_SAMPLES), 0.5])
    for _ in range(_NUM_BISECTIONS):
        rates = np.sort(np.concatenate([rates, _between(rates[:-1], rates[1:])]))
    checked = np.concatenate(
        [_between(rates[:-1], rates[1:]), np.geomspace(rates[0] / 1000.0, rates[0], 24)[:-1]]
    )
    return _Points(rates=np.concatenate([rates, checked]), num_controlled=len(rates))


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rate m with KL(m || a) = KL(m || b) for Bernoulli laws, in closed form."""
    u = np.log((1.0 - a) / (1.0 - b))
    v = np.log(b / a)
    return u / (u + v)


def _binomial(t: int, rates: np.ndarray) -> np.ndarray:
    """Binomial probabilities of 0..t successes, shape (len(rates), t + 1)."""
    k = np.arange(t + 1)
    log_choose = gammaln(t + 1) - gammaln(k + 1) - gammaln(t - k + 1)
    p = rates[:, None]
    return np.exp(log_choose + xlogy(k, p) + xlog1py(t - k, -p))


def _advance(alive: np.ndarray, t: int) -> np.ndarray:
    """M at time t from the probability of going on at t - 1, both given the counts."""
    grown = np.zeros((t + 1, t + 1))
    success = np.arange(1, t + 1) / t
    failure = 1.0 - np.arange(t) / t
    last = np.zeros((t + 1, t))
    last[1:] += success[:, None] * alive
    last[:-1] += failure[:, None] * alive
    grown[:, 1:] += last * success
    grown[:, :-1] += last * failure
    return grown


def _stops(
    t: int,
    alive: np.ndarray,
    law: np.ndarray,
    spent: np.ndarray,
    available: float,
    points: _Points,
) -> np.ndarray:
    """Where to stop at time t for "arm 1 is better", as a boolean (t + 1, t + 1) array."""
    num = points.num_controlled
    room = np.maximum(available - spent[:num], 0.0)
    states, columns = _candidates(
        t, alive, law[:num], spent[:num], room, available, points.rates[:num]
    )
    x, y = np.indices(alive.shape)
    stops = (alive == 0.0) & (y > x)
    if len(states) == 0:
        return stops
    chosen = states[_solve(t, states, columns, room)]
    stops[chosen[:, 0], chosen[:, 1]] = True
    stops[t - chosen[:, 1], t - chosen[:, 0]] = True
    return stops


def _candidates(
    t: int,
    alive: np.ndarray,
    law: np.ndarray,
    spent: np.ndarray,
    room: np.ndarray,
    available: float,
    rates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """States that may stop, one of each mirrored pair, and their probability at each rate.

    Walks from the strongest evidence (large d = y - x) to the weakest. Where a rate's budget is
    overdrawn already, states that this rate makes likely are passed over. A state is passed over
    too if it alone exceeds the budget or if a stronger neighbour, (x, y + 1) or (x - 1, y), was:
    a monotone boundary can't hold it.

    Returns:
        Shapes (states, 2), as (x, y), and (rates, states).
    """
    may_stop = alive == 0.0
    total = spent.copy()
    states: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    limit = room * (1.0 - _ROW_MARGIN)
    for d in range(t, 0, -1):
        num_states = t - d + 1
        x = np.arange((num_states + 1) // 2)
        reached = alive[x, x + d] > 0.0
        if d < t:
            stronger = np.where(x + d < t, may_stop[x, np.minimum(x + d + 1, t)], True)
            stronger &= np.where(x > 0, may_stop[np.maximum(x - 1, 0), x + d], True)
            reached &= stronger
        overdrawn = rates[total >= available + _SELECTION_SLACK]
        if len(overdrawn) and num_states > 1:
            # x / (num_states - 1) runs from 0 to 1: about the rate at which a state is likely.
            reached &= x / (num_states - 1) <= overdrawn.min()
        x = x[reached]
        if len(x) == 0:
            if d < t and not may_stop[np.arange(num_states), np.arange(num_states) + d].any():
                break
            continue
        mirrored = t - d - x
        mass = alive[x, x + d] * law[:, x] * law[:, x + d]
        mass += (
            (mirrored != x)
            * alive[mirrored, mirrored + d]
            * (law[:, mirrored] * law[:, mirrored + d])
        )
        # A law over p > 1/2 is that over 1 - p mirrored, so both ends of a pair are charged to
        # each rate, and only one half of the rates needs a row.
        fits = (mass <= limit[:, None]).all(axis=0)
        x, mirrored, mass = x[fits], mirrored[fits], mass[:, fits]
        may_stop[x, x + d] = may_stop[mirrored, mirrored + d] = True
        total += mass.sum(axis=1)
        states.append(np.stack([x, x + d], axis=1))
        columns.append(mass)
    if not states:
        return np.empty((0, 2), dtype=int), np.empty((len(rates), 0))
    return np.concatenate(states), np.concatenate(columns, axis=1)


def _solve(t: int, states: np.ndarray, columns: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Which candidates stop: the whole weights of the linear programme, as a boolean array."""
    number = {(int(x), int(y)): i for i, (x, y) in enumerate(states)}
    number |= {(t - y, t - x): i for (x, y), i in number.items()}
    weaker, stronger = [], []
    for i, (x, y) in enumerate(states.tolist()):
        for neighbour in ((x, y + 1), (x - 1, y)):
            j = number.get(neighbour)
            if j is not None and j != i:
                weaker.append(i)
                stronger.append(j)
    num_orders = len(weaker)
    rows = np.tile(np.arange(num_orders), 2)
    values = np.repeat([1.0, -1.0], num_orders)
    order = sparse.csr_array((values, (rows, weaker + stronger)), shape=(num_orders, len(states)))
    used = columns.any(axis=1)
    scaled = columns[used] / room[used, None]
    pair_size = np.where(states.sum(axis=1) == t, 1.0, 2.0)
    result = linprog(
        -pair_size,
        A_ub=sparse.vstack([sparse.csr_array(scaled), order]),
        b_ub=np.concatenate([np.full(len(scaled), 1.0 - _ROW_MARGIN), np.zeros(num_orders)]),
        bounds=(0.0, 1.0),
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"the linear programme at t={t} was not solved: {result.message}")
    return result.x >= _WHOLE_WEIGHT


def _note_boundary(stop_at: np.ndarray, t: int, stops: np.ndarray) -> None:
    """Keep, for each x, the smallest y that stops; stops are upward closed among live states."""
    found = stops.any(axis=1)
    stop_at[t, : t + 1][found] = stops.argmax(axis=1)[found]
