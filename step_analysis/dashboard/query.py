"""What a page shows, as its address says it: a link holds the view."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Self, get_args
from urllib.parse import urlencode

from step_analysis.comparison import DEFAULT_ALPHA, Correction
from step_analysis.intervals import DEFAULT_CONFIDENCE
from step_analysis.methods import Method, Sides
from step_analysis.strict_json import shown

MAX_NAMES = 200
_MAX_LENGTH = 400
_MAX_PAGE = 100_000
_OF_TESTS = ("alpha", "method", "sides", "correction")
SHOWN_EPISODES = ("failures", "only-first-fails", "only-second-fails", "both-fail", "all")


class QueryError(ValueError):
    """An address that asks for something impossible; the text says what, in one line."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Filters and options of a view; the defaults are not written into links."""

    policy: tuple[str, ...] = ()
    """Policies shown; all where empty."""
    task: tuple[str, ...] = ()
    """Tasks shown; all where empty."""
    condition: str = ""
    """Distribution shift and latency; the first where empty."""
    alpha: float = DEFAULT_ALPHA
    confidence: float = DEFAULT_CONFIDENCE
    method: Method = "auto"
    sides: Sides = "two"
    correction: Correction = "bonferroni"
    first: str = ""
    """One policy of a pair, where a view is about two; the best where empty."""
    second: str = ""
    one_task: str = ""
    """The task where a view is about one; all together, or the first, where empty."""
    episodes: str = "failures"
    """Which episodes a gallery shows."""
    page: int = 1

    @property
    def leaves_the_tests(self) -> bool:
        """Whether it asks for no test of its own: the verdicts of a study are then its own."""
        return all(getattr(self, name) == getattr(Query(), name) for name in _OF_TESTS)

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From an address's names and values.

        Raises:
            QueryError: an unknown name, a value out of range, or too many of them.
        """
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            if name not in _NAMES:
                close = get_close_matches(name, _NAMES, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise QueryError(f"{shown(name)} is not an option of the dashboard{hint}")
            if len(value) > _MAX_LENGTH:
                raise QueryError(f"{name}: at most {_MAX_LENGTH} characters expected")
            given.setdefault(name, []).append(value)
        values: dict[str, Any] = {}
        for name, texts in given.items():
            if name in ("policy", "task"):
                if len(texts) > MAX_NAMES:
                    raise QueryError(f"{name}: at most {MAX_NAMES} names expected")
                values[name] = tuple(dict.fromkeys(text for text in texts if text))
            elif texts[-1]:
                values[name] = _value(name, texts[-1])
        return cls(**values)

    def address(self, path: str, **changes: Any) -> str:
        """A link to `path` with this query, some of it changed."""
        changed = replace(self, **changes) if changes else self
        pairs = changed.pairs()
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def pairs(self, *, without: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Names and values, without those that are as by default."""
        pairs = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value == each.default or each.name in without:
                continue
            if isinstance(value, tuple):
                pairs += [(each.name, item) for item in value]
            else:
                pairs.append((each.name, f"{value:g}" if isinstance(value, float) else str(value)))
        return pairs


_NAMES = tuple(each.name for each in fields(Query))
_CHOICES: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "sides": get_args(Sides),
    "correction": get_args(Correction),
    "episodes": SHOWN_EPISODES,
}


def _value(name: str, text: str) -> Any:
    if name in _CHOICES:
        if text not in _CHOICES[name]:
            raise QueryError(
                f"{name}: one of {', '.join(_CHOICES[name])} expected, got {shown(text)}"
            )
        return text
    if name == "page":
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= _MAX_PAGE:
            raise QueryError(f"page: a number from 1 expected, got {shown(text)}")
        return int(text)
    if name in ("alpha", "confidence"):
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        low, high = (0.0001, 0.4) if name == "alpha" else (0.5, 0.9999)
        if not low <= number <= high:
            raise QueryError(
                f"{name}: a number from {low:g} to {high:g} expected, got {shown(text)}"
            )
        return number
    return text
