"""What SAVI does at given rates: by enumeration for a few episodes, by seeded simulation for more.

The wealth depends on the order of the outcomes, so no lattice of counts carries it. All runs
advance together, as arrays; the test itself goes one pair at a time.
"""

import math
from dataclasses import dataclass

import numpy as np

_MOST_ENUMERATED = 9
"""Episodes of each arm: 4^9 sequences."""
_NUM_RUNS = 50_000
_NUM_SIZE_RUNS = 10_000
_SIZE_RATES = (0.5, 0.3, 0.15, 0.05)
"""Equal rates at which the size is looked at; the test is symmetric about 1/2."""
_OUTCOMES_AT_ONCE = 1_000_000
_SEED = 20250613


@dataclass(frozen=True, kw_only=True)
class SaviCharacteristics:
    """`standard_error` is the larger one of the two probabilities'; None if they are exact."""

    arm1_better: float
    arm0_better: float
    expected_n: float
    standard_error: float | None


def savi_characteristics(
    n_max: int, alpha_per_side: float, p0: float, p1: float, *, num_runs: int = _NUM_RUNS
) -> SaviCharacteristics:
    """The chance of each verdict within `n_max` episodes, and the expected episodes."""
    if n_max <= _MOST_ENUMERATED:
        return _enumerated(n_max, alpha_per_side, p0, p1)
    rng = np.random.default_rng(_SEED)
    up = down = total_time = 0
    at_once = max(_OUTCOMES_AT_ONCE // n_max, 1)
    for begin in range(0, num_runs, at_once):
        shape = (min(at_once, num_runs - begin), n_max)
        decisions, times = savi_decisions(
            rng.random(shape) < p0, rng.random(shape) < p1, alpha_per_side
        )
        up += int((decisions == 1).sum())
        down += int((decisions == -1).sum())
        total_time += int(times.sum())
    shares = up / num_runs, down / num_runs
    return SaviCharacteristics(
        arm1_better=shares[0],
        arm0_better=shares[1],
        expected_n=total_time / num_runs,
        standard_error=max(math.sqrt(share * (1.0 - share) / num_runs) for share in shares),
    )


def savi_size(n_max: int, alpha_per_side: float) -> float:
    """The largest chance of a false verdict in one direction among some equal rates."""
    sizes = [
        savi_characteristics(n_max, alpha_per_side, p, p, num_runs=_NUM_SIZE_RUNS)
        for p in _SIZE_RATES
    ]
    return max((size.arm1_better + size.arm0_better) / 2.0 for size in sizes)


def savi_decisions(
    arm0: np.ndarray, arm1: np.ndarray, alpha_per_side: float
) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts and times of `sequential.savi.SaviTest` on many runs.

    Args:
        arm0, arm1: outcomes, boolean, shape (runs, episodes).
    """
    up = _stops(arm0, arm1, alpha_per_side)
    down = _stops(arm1, arm0, alpha_per_side)
    n = arm0.shape[1]
    first_up = np.where(up.any(axis=1), up.argmax(axis=1), n)
    first_down = np.where(down.any(axis=1), down.argmax(axis=1), n)
    decisions = np.sign(first_down - first_up)
    return decisions, np.minimum(np.minimum(first_up, first_down) + 1, n)


def _stops(worse: np.ndarray, better: np.ndarray, alpha: float) -> np.ndarray:
    """Where the wealth of the bet that `better` succeeds more often has reached 1 / alpha."""
    seen = np.arange(worse.shape[1])
    # Counts before each pair, with the priors Beta(1, 2) and Beta(2, 1).
    q_worse = (np.cumsum(worse, axis=1) - worse + 1.0) / (seen + 3.0)
    q_better = (np.cumsum(better, axis=1) - better + 2.0) / (seen + 3.0)
    q_null = (q_worse + q_better) / 2.0
    bet = np.where(worse, q_worse, 1.0 - q_worse) * np.where(better, q_better, 1.0 - q_better)
    fair = np.where(worse, q_null, 1.0 - q_null) * np.where(better, q_null, 1.0 - q_null)
    factor = np.where(q_worse < q_better, bet / fair, 1.0)
    return np.cumsum(np.log(factor), axis=1) >= -math.log(alpha)


def _enumerated(n_max: int, alpha_per_side: float, p0: float, p1: float) -> SaviCharacteristics:
    sequences = (np.arange(2**n_max)[:, None] >> np.arange(n_max)) & 1 == 1
    first, second = (i.ravel() for i in np.indices((len(sequences), len(sequences))))
    decisions, times = savi_decisions(sequences[first], sequences[second], alpha_per_side)
    successes = sequences.sum(axis=1)
    chance = (p0**successes * (1.0 - p0) ** (n_max - successes))[first] * (
        p1**successes * (1.0 - p1) ** (n_max - successes)
    )[second]
    return SaviCharacteristics(
        arm1_better=float(chance[decisions == 1].sum()),
        arm0_better=float(chance[decisions == -1].sum()),
        expected_n=float(chance @ times),
        standard_error=None,
    )
