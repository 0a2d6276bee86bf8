"""`step-analysis verify`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from step_analysis.usage import UsageError

_RELATIVE_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Prove the error of a STEP table again, from its boundary alone.

    Reads a table file, or the shipped or cached one of a design. Fails if the file was altered,
    or if what is computed differs from its certificate.

    Example: step-analysis verify --n-max 200 --alpha 0.05
    """

    path: tyro.conf.Positional[Path | None] = None
    """A table file; else give --n-max."""
    n_max: int | None = None
    """Budget of the design whose table to find."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict of that design."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together as in reports."""
    budget: str = "linear"
    """How alpha is spent over time: linear, zeta:EXPONENT, pnorm:EXPONENT, or a JSON file with a
    list of n_max increments."""
    form: Literal["deterministic", "randomised"] = "deterministic"
    """Form of the design's boundary."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the design and its exact error."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.sequential.certificate import certify
        from step_analysis.sequential.step_tables import TableError, read_table

        path = self._find()
        table = read_table(path)
        design, stated = table.design, table.certificate
        found = certify(table.boundary)
        for name in ("type1_sup", "both_directions_sup", "off_diagonal_sup"):
            was, now = getattr(stated, name), getattr(found, name)
            if abs(was - now) > _RELATIVE_TOLERANCE * design.alpha_per_side:
                raise TableError(f"STEP table {path} states {name} {was:.9g}, but it is {now:.9g}")
        result = {
            "path": str(path),
            "n_max": design.n_max,
            "alpha_per_side": design.alpha_per_side,
            "form": design.form,
            "type1_sup": found.type1_sup,
            "both_directions_sup": found.both_directions_sup,
            "off_diagonal_sup": found.off_diagonal_sup,
            "num_rates": found.num_rates,
            "num_off_diagonal": found.num_off_diagonal,
        }
        if self.json:
            print(json.dumps(result, allow_nan=False))
            return
        print(f"{path}: STEP for {design.n_max} episodes, {design.form}")
        print(
            f"Largest chance of a false verdict in one direction: {found.type1_sup:.6g}, "
            f"allowed {design.alpha_per_side:.6g}"
        )
        print(f"In either direction, where both rates are equal: {found.both_directions_sup:.6g}")
        print(f"On the grid where the other policy is better: {found.off_diagonal_sup:.6g}")

    def _find(self) -> Path:
        if (self.path is None) == (self.n_max is None):
            raise UsageError("name a table file, or give --n-max and --alpha; one of the two")
        if self.path is not None:
            return self.path
        assert self.n_max is not None

        from step_analysis.sequential.step_tables import existing_table
        from step_analysis.verbs.step_options import step_design

        design = step_design(self.n_max, self.alpha, self.sides, self.budget, self.form)
        found = existing_table(design)
        if found is None:
            raise UsageError(
                f"no table ships or is cached for {design.key}: make it with `step-analysis "
                f"synthesize --n-max {self.n_max} --alpha {self.alpha:g} --sides {self.sides}`"
            )
        return found
