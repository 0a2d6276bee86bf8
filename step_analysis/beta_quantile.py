"""The Beta law's quantiles and its normalisation, without SciPy for any usual number of episodes.

Every interval of a success rate stands on them. SciPy has them too, but importing its special
functions takes as long as reading a hundred files of results.
"""

import math
from functools import lru_cache
from statistics import NormalDist

from step_analysis import special

_EPSILON = 2.0**-52
_SMALLEST = 0.5
"""Jeffreys' prior; below it a quantile may be too small to be found by halving."""
_TOO_MANY_TERMS = 4e6
_LAST_STEP = 1e-6
"""Relative: each step of Halley's leaves about the cube of the error before it."""
_CONVERGED = 4.0 * _EPSILON
"""Products that are one but for rounding need not come nearer."""
_TINIEST = 1e-300
"""In place of 0 in a denominator of the continued fraction."""
_LARGE = 10.0
# Of 1/x, in powers of 1/x^2, the last first: DLMF 5.11.1.
_STIRLING_SERIES = (
    -691.0 / 360360.0, 1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0, 1.0 / 12.0,
)  # fmt: skip
_MAX_STEPS = 200
"""More than bisection alone would take; three to five are usual."""


@lru_cache(maxsize=4096)
def beta_quantile(a: float, b: float, probability: float) -> float:
    """The x in [0, 1] that a Beta(a, b) variable lies below with `probability`.

    Raises:
        ValueError: a or b not positive and finite, or a probability outside [0, 1].
    """
    if not (0.0 < a < math.inf and 0.0 < b < math.inf):
        raise ValueError(f"a and b must be positive and finite, got {a:g} and {b:g}")
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"the probability must lie within 0 to 1, got {probability:g}")
    if probability in (0.0, 1.0):
        return probability
    if min(a, b) < _SMALLEST or a + b > _TOO_MANY_TERMS:
        return float(special.betaincinv(a, b, probability))
    log_normaliser = log_beta(a, b)
    below, above = 0.0, 1.0
    x = _first_guess(a, b, probability)
    for _ in range(_MAX_STEPS):
        excess = _probability_below(x, a, b, log_normaliser) - probability
        if excess > 0.0:
            above = x
        else:
            below = x
        log_density = (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x) - log_normaliser
        # Halley's step; where it leads out of what is known to hold the root, a bisection.
        newton = excess * math.exp(min(-log_density, 700.0))
        bend = newton * ((a - 1.0) / x - (b - 1.0) / (1.0 - x))
        step = newton / (1.0 - 0.5 * max(min(bend, 1.0), -1.0))
        if below < x - step < above:
            is_settled = abs(step) <= _LAST_STEP * min(x, 1.0 - x)
            x -= step
        else:
            middle = (below + above) / 2.0
            is_settled = not below < middle < above or abs(step) <= _EPSILON * x
            x = x if is_settled else middle
        if is_settled:
            break
    return x


def log_beta(a: float, b: float) -> float:
    """The logarithm of the Beta function, without the cancellation of large terms.

    Source: DiDonato and Morris, ACM TOMS 18 (1992), algorithm 708.
    """
    small, large = min(a, b), max(a, b)
    if large < _LARGE:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    share, both = small / (a + b), a + b
    if small < _LARGE:
        ratio = (large - 0.5) * math.log1p(-share) - small * math.log(both) + small
        return math.lgamma(small) + ratio + _beyond_stirling(large) - _beyond_stirling(both)
    beyond = _beyond_stirling(small) + _beyond_stirling(large) - _beyond_stirling(both)
    stirling = (small - 0.5) * math.log(share) + large * math.log1p(-share)
    return stirling + 0.5 * math.log(2.0 * math.pi / large) + beyond


def _beyond_stirling(x: float) -> float:
    """What Stirling's formula lacks of the logarithm of the Gamma function, for large x."""
    square = 1.0 / (x * x)
    value = 0.0
    for coefficient in _STIRLING_SERIES:
        value = value * square + coefficient
    return value / x


def _first_guess(a: float, b: float, probability: float) -> float:
    """Abramowitz and Stegun 26.5.22; the mean where that is no help."""
    mean = a / (a + b)
    if a < 1.0 or b < 1.0:
        return mean
    z = NormalDist().inv_cdf(probability)
    inverse_a, inverse_b = 1.0 / max(2.0 * a - 1.0, 1.0), 1.0 / max(2.0 * b - 1.0, 1.0)
    harmonic = 2.0 / (inverse_a + inverse_b)
    shift = (z * z - 3.0) / 6.0
    w = -z * math.sqrt(max(harmonic + shift, 0.0)) / harmonic
    w -= (inverse_b - inverse_a) * (shift + 5.0 / 6.0 - 2.0 / (3.0 * harmonic))
    guess = a / (a + b * math.exp(max(min(2.0 * w, 600.0), -600.0)))
    # A guess that rounds to an end would stay there.
    return guess if 0.0 < guess < 1.0 else mean


def _probability_below(x: float, a: float, b: float, log_normaliser: float) -> float:
    """The regularised incomplete Beta function at x in (0, 1)."""
    log_front = a * math.log(x) + b * math.log1p(-x) - log_normaliser
    # The fraction converges fast on this side of the mean.
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(1.0 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """DLMF 8.17.22, by Lentz's method. It takes some square root of a or b terms."""
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or _TINIEST)
    value = d
    m = 0
    while True:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 / (1.0 + even * d or _TINIEST)
        c = 1.0 + even / c or _TINIEST
        value *= c * d
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 / (1.0 + odd * d or _TINIEST)
        c = 1.0 + odd / c or _TINIEST
        value *= c * d
        if abs(c * d - 1.0) <= _CONVERGED:
            return value
