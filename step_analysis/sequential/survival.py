"""The chance of being undecided given the counts, which no success rate enters.

Given (t, x, y) all orderings are equally likely whatever the rates, so the probability of an
undecided test at (t, x, y) is M(t, x, y) b(x; t, p0) b(y; t, p1), with b the binomial law and M
free of both rates. One recursion for M therefore serves every pair of rates. Where both are p,
b(x; t, p) b(y; t, p) is b(x + y; 2 t, p) times a chance free of p, so that states of one x + y
are alike but for a factor.

A mirrored test makes M symmetric in x and y, and only a band around x = y survives for long. So
M is kept for y >= x, in an array of shape (t + 1, width): row x, column y - x.
"""

import numpy as np

from step_analysis import special

_LOG_NEGLIGIBLE = -460.0
"""Probabilities below 1e-200 count as that: numbers near the smallest ones slow a processor."""


def start() -> np.ndarray:
    """M before the first episode."""
    return np.ones((1, 1))


def advance(going_on: np.ndarray, t: int) -> np.ndarray:
    """M at time t from the chance of going on after t - 1, one row and one column larger.

    The last episode of an arm with x successes of t was a success with chance x / t.
    """
    size, width = going_on.shape
    # Column d + 1 is y - x = d, so that column 0 is its mirror image: (x, x - 1) is (x - 1, x).
    last = np.zeros((size, width + 3))
    last[:, 1 : width + 1] = going_on
    if width > 1:
        last[1:, 0] = going_on[:-1, 1]
    success1 = np.add.outer(np.arange(size), np.arange(width + 2)) / t
    np.minimum(success1, 1.0, out=success1)
    arm1_known = last[:, :-1] - last[:, 1:]
    arm1_known *= success1
    arm1_known += last[:, 1:]
    x = np.arange(t + 1)[:, None]
    alive = np.zeros((t + 1, width + 1))
    np.multiply(arm1_known[:, :-1], 1.0 - x[:-1] / t, out=alive[:-1])
    arm1_known *= x[1:] / t
    alive[1:] += arm1_known[:, 1:]
    return alive


class BinomialLaws:
    """Binomial probabilities at fixed rates for any number of trials up to `max_trials`."""

    def __init__(self, rates: np.ndarray, max_trials: int) -> None:
        self._sure = [(i, rate) for i, rate in enumerate(rates) if rate in (0.0, 1.0)]
        inside = np.where((rates > 0.0) & (rates < 1.0), rates, 0.5)
        self._log_success, self._log_failure = np.log(inside), np.log1p(-inside)
        self._log_factorial = special.gammaln(np.arange(max_trials + 1) + 1.0)
        self._workspace = np.empty(0)

    def at(self, trials: int, successes: np.ndarray) -> np.ndarray:
        """Probabilities of these counts of successes, shape (len(successes), rates).

        The next call overwrites the array: fresh memory would cost more than the numbers in it.
        """
        size = len(successes) * len(self._log_success)
        if size > len(self._workspace):
            self._workspace = np.empty(size + size // 4)
        law = self._workspace[:size].reshape(len(successes), -1)
        np.multiply.outer(successes, self._log_success - self._log_failure, out=law)
        law += trials * self._log_failure
        law += self._log_orders(trials, successes)[:, None]
        np.maximum(law, _LOG_NEGLIGIBLE, out=law)
        np.exp(law, out=law)
        for i, rate in self._sure:
            law[:, i] = successes == (trials if rate else 0)
        return law

    def split(self, t: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Chance that x + y successes in 2 t trials of one rate, whatever it is, are x and y."""
        log_orders = self._log_orders
        return np.exp(log_orders(t, x) + log_orders(t, y) - log_orders(2 * t, x + y))

    def _log_orders(self, trials: int, successes: np.ndarray) -> np.ndarray:
        factorial = self._log_factorial
        return factorial[trials] - factorial[successes] - factorial[trials - successes]
