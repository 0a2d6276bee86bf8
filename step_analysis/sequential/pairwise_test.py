"""What every sequential test of two policies has in common.

Two arms give one Bernoulli outcome each at every time t = 1, 2, ...; a mirrored test runs the two
one-sided tests "arm 1 is better" and "arm 0 is better" at once, each at its own level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, Protocol

import numpy as np

Decision = Literal[-1, 0, 1]


@dataclass(frozen=True)
class Verdict:
    """The end of a test: +1 arm 1 is better, -1 arm 0 is better, 0 undecided.

    `time` is the number of episodes of each arm that were looked at.
    """

    decision: Decision
    time: int


class PairwiseTest(Protocol):
    """A mirrored test.

    `alpha_per_side` bounds the chance of each wrong direction; a report that promises alpha for
    both together gives alpha / 2 here.
    """

    @property
    def name(self) -> str: ...

    @property
    def n_max(self) -> int:
        """The most episodes of each arm, fixed beforehand."""
        ...

    @property
    def alpha_per_side(self) -> float: ...

    @property
    def least_lead(self) -> int:
        """A lead, in successes, below which it never decides; 0 where none is known.

        A lead changes by one an episode at most, so who asks again after every episode need not
        ask before this can be reached.
        """
        ...

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        """The verdict on two sequences of 0 and 1, of one length up to `n_max`."""
        ...

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The leads, in successes, at which each time 1..len(arm0) would decide for arm 1, arm 0.

        Given the other counts as they were; NaN where no lead is enough. None for a test that
        does not decide by leads.
        """
        ...


def check_design(n_max: int, alpha_per_side: float) -> None:
    """Raises ValueError unless n_max is a whole number of at least 1 and alpha lies in (0, 1/2)."""
    if not isinstance(n_max, Integral) or n_max < 1:
        raise ValueError(f"n_max must be a whole number of at least 1, got {n_max}")
    if not 0.0 < alpha_per_side < 0.5:
        raise ValueError(f"alpha a side must lie strictly between 0 and 0.5, got {alpha_per_side}")


def outcome_arrays(
    arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray, n_max: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both arms as int64 arrays of one length.

    Raises:
        ValueError: unequal lengths, more than `n_max` episodes, or anything but 0 and 1 (or
            booleans), NaN among them.
    """
    x, y = _outcomes("arm 0", arm0), _outcomes("arm 1", arm1)
    if len(x) != len(y):
        raise ValueError(
            f"both arms need outcomes of one length, got {len(x)} of arm 0 and {len(y)} of arm 1"
        )
    if len(x) > n_max:
        raise ValueError(f"{len(x)} episodes are more than the {n_max} fixed beforehand")
    return x, y


def _outcomes(arm: str, values: Sequence[int] | np.ndarray) -> np.ndarray:
    given = np.asarray(values)
    if given.ndim != 1:
        raise ValueError(f"outcomes of {arm} must be one sequence, got shape {given.shape}")
    kind = given.dtype.kind
    if kind in "bui":
        outcomes = given.astype(np.int64, copy=False)
        # Any bit but the lowest, a sign among them, makes this larger than 1.
        if not np.bitwise_or.reduce(outcomes.view(np.uint64), initial=0) <= 1:
            wrong = given[(outcomes != 0) & (outcomes != 1)][0]
            raise ValueError(f"outcomes must be 0 or 1, got {wrong} in {arm}")
        return outcomes
    if kind == "f":
        wrong = given[(given != 0.0) & (given != 1.0)]
        if len(wrong):
            raise ValueError(f"outcomes must be 0 or 1, got {wrong[0]} in {arm}")
        return given.astype(np.int64)
    raise ValueError(f"outcomes must be 0 or 1, got {given.dtype} values in {arm}")
