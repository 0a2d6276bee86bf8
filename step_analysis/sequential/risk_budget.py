"""How a sequential test spends its type-1 budget over time.

Nothing is available during the dead time, in which a handful of episodes can't prove anything;
from the first look after it a budget states which share of alpha may have been spent by each time.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from step_analysis.strict_json import read_bounded

_MIN_DEAD_TIME = 4


@dataclass(frozen=True, kw_only=True)
class LinearBudget:
    """The same share at each time."""


@dataclass(frozen=True, kw_only=True)
class ZetaBudget:
    """Increments proportional to k ** -exponent at the k-th look: early for exponents above 0."""

    exponent: float

    def __post_init__(self) -> None:
        _check_exponent(self.exponent)


@dataclass(frozen=True, kw_only=True)
class PNormBudget:
    """A cumulative share of (k / K) ** exp(exponent): late for exponents above 0."""

    exponent: float

    def __post_init__(self) -> None:
        _check_exponent(self.exponent)


@dataclass(frozen=True, kw_only=True)
class CustomBudget:
    """Any increments, for t = 1..n_max; scaled to sum to 1.

    What falls into the dead time becomes available at the first look.
    """

    increments: tuple[float, ...]

    def __post_init__(self) -> None:
        for t, increment in enumerate(self.increments, start=1):
            if not (math.isfinite(increment) and increment >= 0.0):
                raise ValueError(
                    f"increment {t} of a risk budget must be finite and not negative, "
                    f"got {increment}"
                )
        if not sum(self.increments) > 0.0:
            raise ValueError("a risk budget needs at least one increment above 0")


RiskBudget = LinearBudget | ZetaBudget | PNormBudget | CustomBudget


def dead_time(n_max: int) -> int:
    """Episodes before the first look; the last one is always looked at."""
    return min(max(_MIN_DEAD_TIME, int(math.log2(n_max)) + 1), n_max - 1)


def available_shares(budget: RiskBudget, n_max: int) -> np.ndarray:
    """The share of alpha that may have been spent by each time t = 0..n_max, shape (n_max + 1,).

    Two increments are available at the first look, as in the STEP paper's own code.

    Raises:
        ValueError: a custom budget without exactly n_max increments.
    """
    if isinstance(budget, CustomBudget) and len(budget.increments) != n_max:
        raise ValueError(
            f"a custom risk budget for n_max {n_max} needs {n_max} increments, one for each "
            f"t = 1..{n_max}; got {len(budget.increments)}"
        )
    first = dead_time(n_max)
    k = np.arange(1, n_max - first + 2)
    match budget:
        case LinearBudget():
            spendable = k / len(k)
        case ZetaBudget(exponent=exponent):
            spendable = np.cumsum(k ** -float(exponent))
        case PNormBudget(exponent=exponent):
            spendable = (k / len(k)) ** math.exp(exponent)
        case CustomBudget(increments=increments):
            spendable = np.concatenate([[0.0], np.cumsum(increments)])[first:]
    shares = np.zeros(n_max + 1)
    shares[first + 1 :] = spendable[1:] / spendable[-1]
    return shares


def budget_key(budget: RiskBudget) -> str:
    """A short name, fit for a file's name, that differs where the budget does."""
    match budget:
        case LinearBudget():
            return "linear"
        case ZetaBudget(exponent=exponent):
            return f"zeta{exponent:.12g}"
        case PNormBudget(exponent=exponent):
            return f"pnorm{exponent:.12g}"
        case CustomBudget(increments=increments):
            digest = hashlib.sha256(np.array(increments, dtype="<f8").tobytes()).hexdigest()
            return f"custom{digest[:16]}"


def budget_to_json(budget: RiskBudget) -> dict[str, Any]:
    """The budget as a JSON object, as `budget_from_json` reads it."""
    match budget:
        case LinearBudget():
            return {"kind": "linear"}
        case ZetaBudget(exponent=exponent):
            return {"kind": "zeta", "exponent": exponent}
        case PNormBudget(exponent=exponent):
            return {"kind": "pnorm", "exponent": exponent}
        case CustomBudget(increments=increments):
            return {"kind": "custom", "increments": list(increments)}


def budget_from_json(value: Mapping[str, Any]) -> RiskBudget:
    """Raises ValueError, KeyError or TypeError for anything but `budget_to_json`'s result."""
    match value["kind"]:
        case "linear":
            return LinearBudget()
        case "zeta":
            return ZetaBudget(exponent=float(value["exponent"]))
        case "pnorm":
            return PNormBudget(exponent=float(value["exponent"]))
        case "custom":
            return CustomBudget(increments=tuple(map(float, value["increments"])))
        case kind:
            raise ValueError(f"budget kind {kind!r} is none of linear, zeta, pnorm, custom")


def parse_risk_budget(text: str) -> RiskBudget:
    """A budget from `linear`, `zeta:EXPONENT`, `pnorm:EXPONENT` or a JSON file of increments.

    Raises:
        ValueError: anything else, with what was wrong.
    """
    if text == "linear":
        return LinearBudget()
    kind, colon, exponent = text.partition(":")
    if colon and kind in ("zeta", "pnorm"):
        try:
            value = float(exponent)
        except ValueError as error:
            raise ValueError(
                f"risk budget {text!r}: {exponent!r} is not a number; expected {kind}:EXPONENT"
            ) from error
        return ZetaBudget(exponent=value) if kind == "zeta" else PNormBudget(exponent=value)
    path = Path(text)
    if not path.is_file():
        raise ValueError(
            f"risk budget {text!r} is neither linear, zeta:EXPONENT, pnorm:EXPONENT nor a JSON "
            "file with a list of increments"
        )
    try:
        increments = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"risk budget {path} is not JSON: {error}") from error
    return CustomBudget(increments=_numbers(path, increments))


def _numbers(path: Path, values: Any) -> tuple[float, ...]:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or not all(isinstance(v, int | float) for v in values):
        raise ValueError(f"risk budget {path} must hold one JSON list of numbers")
    try:
        return tuple(map(float, values))
    except OverflowError as error:
        raise ValueError(f"risk budget {path} holds a number out of range") from error


def _check_exponent(exponent: float) -> None:
    if not -50.0 <= exponent <= 50.0:
        raise ValueError(f"a risk budget's exponent must lie within -50 and 50, got {exponent}")
