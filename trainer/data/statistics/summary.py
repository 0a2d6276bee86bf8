"""What is kept of the numbers of many columns: moments, exactly, and quantiles by t-digest.

Axes: C column, N number.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.errors import DataError
from trainer.data.statistics.tdigest import NUM_CLUSTERS, Digests

PERCENTILES = (1, 2, 5, 95, 98, 99)

# Columns are sorted a few at a time, so many that they stay in a core's cache: 2 MB.
_NUMBERS_IN_CACHE = 2**18


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary:
    """count: (C,) finite numbers. num_not_finite: (C,) NaN and infinities, otherwise left out.

    mean, mean_rest: (C,), whose unevaluated sum is the mean to twice a float's precision, so that
        numbers far from zero merge as exactly as others. squares: (C,) sum of squared deviations
        from it. Where count is 0, all three are 0, minimum infinity and maximum minus infinity.
    """

    count: FloatArray
    num_not_finite: FloatArray
    mean: FloatArray
    mean_rest: FloatArray
    squares: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    digests: Digests

    @property
    def num_columns(self) -> int:
        return len(self.count)

    @property
    def std(self) -> FloatArray:
        """(C,), of the population."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    def quantiles(self, probabilities: Sequence[float]) -> FloatArray:
        """(len(probabilities), C), NaN for an empty column."""
        return self.digests.quantiles(probabilities, self.minimum, self.maximum)

    @staticmethod
    def of(rows_NC: npt.NDArray[Any]) -> Summary:
        """Of numbers of any real dtype."""
        # A copy, with each column in one piece.
        return Summary.of_columns(np.array(rows_NC.T, dtype=np.float64, order="C"))

    @staticmethod
    def of_columns(columns_CN: FloatArray) -> Summary:
        """Of columns that each lie in one piece; they are sorted in place."""
        width = max(1, _NUMBERS_IN_CACHE // max(1, columns_CN.shape[1]))
        if len(columns_CN) > width:
            starts = range(0, len(columns_CN), width)
            return Summary._beside([Summary.of_columns(columns_CN[a : a + width]) for a in starts])
        num_columns, total = columns_CN.shape
        # Finite means are of finite numbers: a NaN makes one, and so do infinities.
        with np.errstate(over="ignore", invalid="ignore"):
            rough = columns_CN.sum(axis=1) / max(total, 1)
        if total and np.isfinite(rough).all():
            mean, mean_rest, squares = _moments(columns_CN, rough, total)
            columns_CN.sort(axis=1)
            return Summary(
                count=np.full(num_columns, float(total)),
                num_not_finite=np.zeros(num_columns),
                mean=mean,
                mean_rest=mean_rest,
                squares=squares,
                minimum=columns_CN[:, 0].copy(),
                maximum=columns_CN[:, -1].copy(),
                digests=Digests.of_sorted(columns_CN),
            )
        finite = np.isfinite(columns_CN)
        count = finite.sum(axis=1).astype(np.float64)
        rough = np.where(finite, columns_CN, 0.0).sum(axis=1) / np.maximum(count, 1)
        # Where a number is missing, the mean stands in: it deviates from nothing.
        known = np.where(finite, columns_CN, rough[:, None])
        mean, mean_rest, squares = _moments(known, rough, np.maximum(count, 1))
        return Summary(
            count=count,
            num_not_finite=total - count,
            mean=mean,
            mean_rest=mean_rest,
            squares=squares,
            minimum=np.where(finite, columns_CN, np.inf).min(axis=1, initial=np.inf),
            maximum=np.where(finite, columns_CN, -np.inf).max(axis=1, initial=-np.inf),
            digests=Digests.of_weighted(known, finite.astype(np.float64)),
        )

    @staticmethod
    def merged(parts: Sequence[Summary]) -> Summary:
        """Of all their numbers. Moments as Chan, Golub and LeVeque (1979) combine them."""
        if len(parts) == 1:
            return parts[0]
        counts = np.stack([part.count for part in parts])
        count = counts.sum(axis=0)
        most = np.argmax(counts, axis=0), np.arange(counts.shape[1])
        means = np.stack([part.mean for part in parts])
        rests = np.stack([part.mean_rest for part in parts])
        # All is told as deviations from the mean of the largest part, which are small and exact.
        deviations = (means - means[most]) + (rests - rests[most])
        shift = (counts * deviations).sum(axis=0) / np.maximum(count, 1)
        mean, mean_rest = _two_sum(means[most], rests[most] + shift)
        between = (counts * (deviations - shift) ** 2).sum(axis=0)
        return Summary(
            count=count,
            num_not_finite=np.sum([part.num_not_finite for part in parts], axis=0),
            mean=mean,
            mean_rest=mean_rest,
            squares=np.sum([part.squares for part in parts], axis=0) + between,
            minimum=np.min([part.minimum for part in parts], axis=0),
            maximum=np.max([part.maximum for part in parts], axis=0),
            digests=Digests.merged([part.digests for part in parts]),
        )

    @staticmethod
    def _beside(parts: Sequence[Summary]) -> Summary:
        """The columns of all parts."""

        def joined(name: str) -> FloatArray:
            return np.concatenate([getattr(part, name) for part in parts])

        return Summary(
            count=joined("count"),
            num_not_finite=joined("num_not_finite"),
            mean=joined("mean"),
            mean_rest=joined("mean_rest"),
            squares=joined("squares"),
            minimum=joined("minimum"),
            maximum=joined("maximum"),
            digests=Digests(
                means=np.concatenate([part.digests.means for part in parts]),
                weights=np.concatenate([part.digests.weights for part in parts]),
            ),
        )

    def columns(self, chosen: slice) -> Summary:
        """Some of its columns."""
        return Summary(
            count=self.count[chosen],
            num_not_finite=self.num_not_finite[chosen],
            mean=self.mean[chosen],
            mean_rest=self.mean_rest[chosen],
            squares=self.squares[chosen],
            minimum=self.minimum[chosen],
            maximum=self.maximum[chosen],
            digests=Digests(means=self.digests.means[chosen], weights=self.digests.weights[chosen]),
        )

    def to_fields(self) -> dict[str, Any]:
        """For JSON: numbers to read, and `digest`, which merging needs. None: no number."""
        percentiles = self.quantiles([p / 100 for p in PERCENTILES])
        clusters = np.stack([self.digests.means, self.digests.weights])
        used = self.digests.num_used
        packed = zlib.compress(np.ascontiguousarray(clusters[:, :, :used]).astype("<f8").tobytes())
        empty = self.count == 0
        return {
            "count": [int(n) for n in self.count],
            "num_not_finite": [int(n) for n in self.num_not_finite],
            "mean": _numbers(self.mean, empty),
            "std": _numbers(self.std, empty),
            "min": _numbers(self.minimum, empty),
            "max": _numbers(self.maximum, empty),
            **{
                f"percentile_{p}": _numbers(row, empty)
                for p, row in zip(PERCENTILES, percentiles, strict=True)
            },
            "mean_rest": self.mean_rest.tolist(),
            "squared_deviations": self.squares.tolist(),
            "digest": {"num_clusters": used, "zlib_base64": base64.b64encode(packed).decode()},
        }

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> Summary:
        """Raises DataError for anything but what `to_fields` gives."""
        try:
            count = np.array(fields["count"], dtype=np.float64)
            used = int(fields["digest"]["num_clusters"])
            packed = base64.b64decode(fields["digest"]["zlib_base64"], validate=True)
            # No more than is claimed: a few packed bytes can unpack to more than there is memory.
            num_bytes = 2 * len(count) * min(max(used, 0), NUM_CLUSTERS) * 8
            unpacked = zlib.decompressobj().decompress(packed, num_bytes + 1)
            clusters = np.frombuffer(unpacked, dtype="<f8")
            clusters = clusters.reshape(2, len(count), used).astype(np.float64)
            space = ((0, 0), (0, NUM_CLUSTERS - used))
            return Summary(
                count=count,
                num_not_finite=np.array(fields["num_not_finite"], dtype=np.float64),
                mean=_array(fields["mean"], 0.0),
                mean_rest=_array(fields["mean_rest"], 0.0),
                squares=_array(fields["squared_deviations"], 0.0),
                minimum=_array(fields["min"], np.inf),
                maximum=_array(fields["max"], -np.inf),
                digests=Digests(
                    means=np.pad(clusters[0], space), weights=np.pad(clusters[1], space)
                ),
            )
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise DataError(f"malformed statistics: {error!r}") from error


def _moments(
    columns_CN: FloatArray, rough_C: FloatArray, count: FloatArray | int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, what it lacks, and squared deviations, from a mean that is near enough."""
    deviations = columns_CN - rough_C[:, None]
    shift = deviations.sum(axis=1) / count
    squares = np.einsum("cn,cn->c", deviations, deviations) - count * shift**2
    mean, mean_rest = _two_sum(rough_C, shift)
    return mean, mean_rest, np.maximum(squares, 0.0)


def _two_sum(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The rounded sum and what rounding took away (Knuth)."""
    total = first + second
    part = total - first
    return total, (first - (total - part)) + (second - part)


def _numbers(values: FloatArray, empty: npt.NDArray[np.bool_]) -> list[float | None]:
    return [None if e else float(v) for v, e in zip(values, empty, strict=True)]


def _array(values: Sequence[float | None], nothing: float) -> FloatArray:
    return np.array([nothing if value is None else value for value in values], dtype=np.float64)
