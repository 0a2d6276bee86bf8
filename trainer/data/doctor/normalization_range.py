"""Numbers whose usual range is next to nothing: normalisation divides by it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import BoolArray, ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.episode import Field

# Metres, radians, or a part of 0 to 1: less is what sensors and solvers jitter by.
_TINY = 1e-4
# A normalised value beyond this, and the loss is about it alone.
_BLOWN_UP = 20.0
# Of the rows of one field that are kept; then every second is let go.
_MOST_ROWS = 20_000


class NormalizationRange(Check):
    """Looks at percentiles 1 and 99, by which policies are commonly normalised.

    Only what changes at all: constant columns are another check's matter.
    """

    name: ClassVar[str] = "normalization-range"

    def __init__(self) -> None:
        self._fields: dict[str, Field] = {}
        self._samples: dict[str, _Thinned] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        for name in episode.names("observed", "action"):
            field = episode.description.fields[name]
            values = episode.arrays[name].reshape(episode.description.num_steps, -1)
            if self._fields.setdefault(name, field).size != values.shape[1]:
                continue
            self._samples.setdefault(name, _Thinned()).add(values)

    def findings(self) -> list[Finding]:
        findings = []
        for name, sample in self._samples.items():
            low, usual_low, usual_high, high = sample.ranges()
            usual, whole = usual_high - usual_low, high - low
            changes = whole > 1e-9
            blown = changes & (usual < _TINY) & (whole > _BLOWN_UP * np.maximum(usual, 1e-12))
            tiny = changes & (usual < _TINY) & ~blown & (whole < 10 * _TINY)
            if blown.any():
                findings.append(self._blown(name, blown, usual, whole))
            if tiny.any():
                findings.append(self._tiny(name, tiny, usual))
        return findings

    def _blown(self, name: str, which: BoolArray, usual: FloatArray, whole: FloatArray) -> Finding:
        worst = int(np.argmax(np.where(which, whole / np.maximum(usual, 1e-12), 0)))
        return Finding(
            check=self.name,
            severity=Severity.ERROR,
            subject=name,
            measured=f"{self._columns(name, which)}: percentiles 1 and 99 are {usual[worst]:.3g} "
            f"apart, but the extremes {whole[worst]:.3g}",
            numbers={"percentile_range": float(usual[worst]), "range": float(whole[worst])},
            cost="normalised by percentiles, rare values become huge and rule the loss",
            remedy="normalise it by its extremes or with an epsilon of 1e-2, or leave it out",
        )

    def _tiny(self, name: str, which: BoolArray, usual: FloatArray) -> Finding:
        worst = int(np.argmin(np.where(which, usual, np.inf)))
        return Finding(
            check=self.name,
            severity=Severity.NOTE,
            subject=name,
            measured=f"{self._columns(name, which)}: percentiles 1 and 99 are only "
            f"{usual[worst]:.3g} apart",
            numbers={"percentile_range": float(usual[worst])},
            cost="a normalisation without an epsilon blows its noise up to full range",
            remedy="keep an epsilon of 1e-2 in the normalisation, or leave it out",
        )

    def _columns(self, name: str, which: BoolArray) -> str:
        field = self._fields[name]
        (columns,) = np.nonzero(which)
        told = [field.names[column] if field.names else str(column) for column in columns]
        word = "number" if len(told) == 1 else "numbers"
        return f"{word} {', '.join(told[:6])}" + (", …" if len(told) > 6 else "")


class _Thinned:
    """Every n-th row, n doubling whenever there are too many; the extremes exactly."""

    def __init__(self) -> None:
        self._rows: list[FloatArray] = []
        self._stride, self._seen, self._kept = 1, 0, 0
        self._low: FloatArray | None = None
        self._high: FloatArray | None = None

    def add(self, values: FloatArray) -> None:
        values = values[np.isfinite(values).all(axis=1)]
        if not len(values):
            return
        low, high = values.min(axis=0), values.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        first = -self._seen % self._stride
        self._seen += len(values)
        self._rows.append(values[first :: self._stride])
        self._kept += len(self._rows[-1])
        if self._kept > _MOST_ROWS:
            self._rows = [np.concatenate(self._rows)[::2]]
            self._kept, self._stride = len(self._rows[0]), 2 * self._stride

    def ranges(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Least, percentile 1, percentile 99 and greatest of each number."""
        if self._low is None or self._high is None:
            nothing = np.zeros(0)
            return nothing, nothing, nothing, nothing
        usual_low, usual_high = np.percentile(np.concatenate(self._rows), (1, 99), axis=0)
        return self._low, usual_low, usual_high, self._high
