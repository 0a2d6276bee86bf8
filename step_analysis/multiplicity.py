"""Several hypotheses at once: Bonferroni, Holm, closed testing, Benjamini and Hochberg.

A hypothesis is given by its p-value, or by a function that says whether it is rejected at a
level: a sequential test makes a boundary for a level and has no p-value. Decisions at levels must
be nested for Holm and Benjamini-Hochberg: what is rejected at a level is rejected at each larger
one, and no later. `nested` makes any family of valid sequential tests so.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, Protocol

import numpy as np

Correction = Literal["bonferroni", "holm", "benjamini-hochberg"]
StudyCorrection = Literal[Correction, "arrival"]
"""Of a study, which may also spend alpha on policies as they come; see `StudyDesign.level`."""

LevelDecision = Callable[[float], bool]
"""Whether a hypothesis is rejected at a level in (0, 1)."""

LevelTime = Callable[[float], float]
"""When a hypothesis is rejected at a level, on a clock that all share; inf where it is not."""


class LocalTest(Protocol):
    """A test of the intersection of some hypotheses, by their indices, in increasing order."""

    def __call__(self, hypotheses: tuple[int, ...]) -> bool: ...


_MOST_CLOSED = 16
"""Closed testing looks at all 2^m - 1 intersections."""


def from_p_values(p_values: Sequence[float]) -> list[LevelDecision]:
    """The decision "p <= level" of each p-value; they are nested.

    Raises:
        ValueError: a p-value is outside [0, 1] or not a number.
    """
    for number, p in enumerate(p_values):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p-value {number} must lie within [0, 1], got {p}")
    return [lambda level, p=p: p <= level for p in p_values]


def nested(time: LevelTime, levels: Sequence[float]) -> LevelTime:
    """Rejects at a level once `time` has done so there and at each larger one of `levels`.

    Being more reluctant, it is as valid at each level as what `time` tells of.
    """

    def reluctant(level: float) -> float:
        latest = time(level)
        for larger in levels:
            if math.isinf(latest):
                break
            if larger > level:
                latest = max(latest, time(larger))
        return latest

    return reluctant


def bonferroni(decisions: Sequence[LevelDecision], alpha: float) -> list[bool]:
    """Each at alpha / m: any false rejection has a chance of at most alpha, whatever depends."""
    _check_alpha(alpha)
    return [decision(alpha / len(decisions)) for decision in decisions]


def holm(decisions: Sequence[LevelDecision], alpha: float) -> list[bool]:
    """Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979).

    At alpha / m, then those left at alpha / (m - rejected), until none falls. It rejects what
    Bonferroni does and possibly more, with the same guarantee under any dependence. Needs nested
    decisions; those asked for are at the levels `holm_levels`.
    """
    times = [lambda level, d=decision: 0.0 if d(level) else math.inf for decision in decisions]
    return [level is not None for level in holm_falls(times, alpha)]


def holm_falls(times: Sequence[LevelTime], alpha: float) -> list[float | None]:
    """The level at which each hypothesis falls in Holm's procedure, None for one that stands.

    Of those that would fall at a level the earliest does, of equally early ones the first, and the
    others are asked at the next level. In whichever order, the same ones fall; in this one, what
    was seen of each by the time at which it falls is enough for all of it. For less of the others
    makes no time earlier, so that each step finds the same earliest one again.

    Needs nested times: none is later at a larger level.
    """
    _check_alpha(alpha)
    fell: list[float | None] = [None] * len(times)
    for level in holm_levels(len(times), alpha):
        left = {i: times[i](level) for i, known in enumerate(fell) if known is None}
        first = min(left, key=left.__getitem__)
        if math.isinf(left[first]):
            break
        fell[first] = level
    return fell


def holm_levels(num_hypotheses: int, alpha: float) -> list[float]:
    """The levels at which `holm` may ask, smallest first."""
    _check_alpha(alpha)
    return [alpha / left for left in range(num_hypotheses, 0, -1)]


def benjamini_hochberg(decisions: Sequence[LevelDecision], alpha: float) -> list[bool]:
    """The step-up procedure for the false discovery rate (JRSS B 57, 1995).

    The largest k such that k hypotheses are rejected at alpha k / m; those are rejected. The
    expected share of false ones among the rejected is at most alpha if the p-values are
    independent or positively dependent (Benjamini and Yekutieli, Annals of Statistics 29, 2001).
    For all pairs of several policies this is not proved. Needs nested decisions.
    """
    _check_alpha(alpha)
    num = len(decisions)
    for k in range(num, 0, -1):
        rejected = [decision(alpha * k / num) for decision in decisions]
        if sum(rejected) >= k:
            return rejected
    return [False] * num


def closed_testing(
    num_hypotheses: int, local_test: LocalTest, *, most: int = _MOST_CLOSED
) -> list[bool]:
    """Reject a hypothesis if `local_test` rejects each intersection that it is part of.

    Marcus, Peritz and Gabriel, Biometrika 63 (1976). Any false rejection has a chance of at most
    alpha if `local_test` tests each intersection at level alpha. With Bonferroni's local test it
    is Holm's procedure.

    Raises:
        ValueError: more than `most` hypotheses, whose intersections would be too many.
    """
    if num_hypotheses > most:
        raise ValueError(
            f"closed testing of {num_hypotheses} hypotheses means {2**num_hypotheses - 1} "
            f"intersections; at most {most} are taken"
        )
    rejected = [True] * num_hypotheses
    for size in range(num_hypotheses, 0, -1):
        for members in combinations(range(num_hypotheses), size):
            if any(rejected[i] for i in members) and not local_test(members):
                for i in members:
                    rejected[i] = False
    return rejected


def bonferroni_local_test(p_values: Sequence[float], alpha: float) -> LocalTest:
    """Reject an intersection if its smallest p-value is at most alpha / its size."""
    _check_alpha(alpha)
    from_p_values(p_values)
    return lambda hypotheses: bool(min(p_values[i] for i in hypotheses) <= alpha / len(hypotheses))


def simes_local_test(p_values: Sequence[float], alpha: float) -> LocalTest:
    """Simes's test (Biometrika 73, 1986): valid under independence or positive dependence.

    Closed, it is Hommel's procedure, which rejects at least what Holm's does.
    """
    _check_alpha(alpha)
    from_p_values(p_values)

    def local_test(hypotheses: tuple[int, ...]) -> bool:
        ordered = np.sort([p_values[i] for i in hypotheses])
        size = len(ordered)
        return bool((ordered <= alpha * np.arange(1, size + 1) / size).any())

    return local_test


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha:g}")
