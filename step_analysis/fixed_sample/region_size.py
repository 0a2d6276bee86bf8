"""The exact size of a rejection region: its largest chance where both arms have one rate."""

import numpy as np
from scipy.special import gammaln

_POINTS_PER_ROOT = 16
"""Points over the common rate for each sqrt(n); the size changes over 1 / sqrt(n)."""
_NUM_ZOOMS = 3
_ZOOM_POINTS = 17
_NEAR_THE_TOP = 0.99
_SMALLEST_ANGLE = 1e-9


class RegionSizes:
    """The largest chance, over the common rate, of regions for one number of episodes."""

    def __init__(self, num_episodes: int) -> None:
        self.num_episodes = num_episodes
        k = np.arange(num_episodes + 1)
        self._log_choose = (
            gammaln(num_episodes + 1) - gammaln(k + 1) - gammaln(num_episodes - k + 1)
        )
        num_points = 128 + int(_POINTS_PER_ROOT * num_episodes**0.5)
        # Equal arms and a statistic blind to swapping success and failure: rates up to 1/2 do.
        # At equal steps of this angle a binomial share has the same spread everywhere.
        self._angles = np.linspace(0.0, np.pi / 4.0, num_points + 1)[1:]
        self._laws = self._binomial(self._angles)

    def largest(self, first_y: np.ndarray) -> float:
        """For the staircase of `unpaired_test.Staircase`, one direction."""
        sizes = _size(first_y, *self._laws)
        best = float(sizes.max())
        step = self._angles[0]
        padded = np.concatenate([[0.0], sizes, [0.0]])
        tops = (sizes >= padded[:-2]) & (sizes >= padded[2:]) & (sizes >= _NEAR_THE_TOP * best)
        for angle in self._angles[tops]:
            width = step
            for _ in range(_NUM_ZOOMS):
                zoomed = np.clip(
                    np.linspace(angle - width, angle + width, _ZOOM_POINTS),
                    _SMALLEST_ANGLE,
                    np.pi / 4.0,
                )
                sizes = _size(first_y, *self._binomial(zoomed))
                best = max(best, float(sizes.max()))
                angle, width = zoomed[sizes.argmax()], 2.0 * width / (_ZOOM_POINTS - 1)
        return best

    def _binomial(self, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(X = k) and P(X >= k) at rates sin^2(angle), shapes (rates, n + 1) and (rates, n + 2)"""
        k = np.arange(self.num_episodes + 1)
        p = np.sin(angles)[:, None] ** 2
        law = np.exp(self._log_choose + k * np.log(p) + (self.num_episodes - k) * np.log1p(-p))
        tail = np.zeros((len(p), self.num_episodes + 2))
        tail[:, :-1] = np.cumsum(law[:, ::-1], axis=1)[:, ::-1]
        return law, tail


def _size(first_y: np.ndarray, law: np.ndarray, tail: np.ndarray) -> np.ndarray:
    return np.einsum("px,px->p", law, tail[:, first_y])
