"""`step-analysis synthesize`."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from step_analysis.usage import UsageError

_SECONDS_BETWEEN_LINES = 10.0
_COST_GROWTH = 2.5
"""Of the work up to time t: the states that are undecided at t grow with t ** 1.5."""


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Make the table of a STEP test, prove its error, and keep it in the cache.

    Tests do this on their own when they first need a table; it pays to do it beforehand for
    budgets of thousands of episodes, which take minutes. A table that exists is made anew.

    Example: step-analysis synthesize --n-max 1000 --alpha 0.05
    """

    n_max: int
    """Budget: most episodes of each policy."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together as in reports."""
    budget: str = "linear"
    """How alpha is spent over time: linear, zeta:EXPONENT, pnorm:EXPONENT, or a JSON file with a
    list of n_max increments."""
    form: Literal["deterministic", "randomised"] = "deterministic"
    """randomised: as STEP's authors published it, with random numbers; slow beyond 500 episodes."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print how long it took, the largest chance of a false verdict, and where the table is."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.sequential.step_tables import make_table, table_path, write_table
        from step_analysis.verbs.step_options import step_design

        design = step_design(self.n_max, self.alpha, self.sides, self.budget, self.form)
        path = table_path(design)
        _check_writable(path.parent)
        progress = _Progress(self.n_max)
        begin = time.perf_counter()
        table = make_table(design, on_time=progress.tell)
        seconds = time.perf_counter() - begin
        write_table(path, table)
        certificate = table.certificate
        type1_sup = (
            certificate.type1_sup if self.sides == "one" else certificate.both_directions_sup
        )
        if self.json:
            print(json.dumps({"seconds": seconds, "type1_sup": type1_sup, "path": str(path)}))
            return
        print(f"Table: {path}")
        print(f"Largest chance of a false verdict: {type1_sup:.6g}, at most {self.alpha:g} asked")
        print(f"Made and proved in {seconds:.1f} s")


def _check_writable(folder: Path) -> None:
    """Raises UsageError now, not after minutes of work, where the table could not be kept."""
    from step_analysis.sequential.step_tables import CACHE_FOLDER_VARIABLE

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} can't be written ({error.strerror}): set "
            f"{CACHE_FOLDER_VARIABLE} to one that can"
        ) from error


class _Progress:
    """A line on stderr now and then."""

    def __init__(self, n_max: int) -> None:
        self._n_max = n_max
        self._begin = self._told = time.monotonic()

    def tell(self, t: int) -> None:
        now = time.monotonic()
        if now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        share = (t / self._n_max) ** _COST_GROWTH
        left_s = (now - self._begin) * (1.0 - share) / share
        print(f"{t} of {self._n_max} episodes done, about {left_s:.0f} s left", file=sys.stderr)
