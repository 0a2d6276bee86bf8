"""STEP boundaries as files: shipped with the package, or made once and kept in the user's cache.

A table file is one line with the SHA-256 of the rest, one line of JSON (design, certificate,
algorithm version) and the boundary's changes over time, compressed. It is data alone, nothing in
it is run, and a file whose content does not match its checksum, its design or its certificate is
refused by name.
"""

import dataclasses
import hashlib
import json
import logging
import math
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from step_analysis.atomic_file import write_atomically
from step_analysis.sequential.certificate import Certificate, certify
from step_analysis.sequential.risk_budget import budget_from_json, budget_to_json
from step_analysis.sequential.step_boundary import RandomisedBoundary, StepBoundary
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_synthesis import synthesise
from step_analysis.strict_json import FormatError, parse_object, read_bounded
from step_analysis.usage import UsageError

CACHE_FOLDER_VARIABLE = "ASSAY_CACHE_DIR"
ALGORITHM_VERSION = 2
"""Of the synthesis: a table of another version is never used."""

SHIPPED_TABLES = Path(__file__).parent / "tables"

_MAGIC = b"assay-step-table 1 "
_FIRST_BUDGET_SCALE = 1.0 - 1e-4
"""Between control points the error overshoots by up to 5e-5 of alpha; this keeps it below."""
_CERTIFIED_SHARE = 1.0 - 1e-9
"""Of alpha, which is rounded to 12 digits: a certified error is below the unrounded one too."""
_MAX_ATTEMPTS = 8
_CHANGE_TYPES = {1: "<i1", 2: "<i2"}

_log = logging.getLogger(__name__)


class TableError(UsageError):
    """A table file can't be trusted; the text names the file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """A boundary and the proof of its error.

    Raises:
        ValueError: the certified error exceeds the design's alpha.
    """

    boundary: StepBoundary | RandomisedBoundary
    certificate: Certificate

    def __post_init__(self) -> None:
        if not self.certificate.type1_sup <= self.design.alpha_per_side:
            raise ValueError(
                f"the type-1 error {self.certificate.type1_sup:.6g} exceeds alpha "
                f"{self.design.alpha_per_side:.6g} a side"
            )

    @property
    def design(self) -> StepDesign:
        return self.boundary.design


def make_table(design: StepDesign, on_time: Callable[[int], None] | None = None) -> StepTable:
    """Synthesise a boundary and certify it; where its error exceeds alpha, with a smaller budget.

    Args:
        on_time: called with each time t that is done.
    """
    scale = _FIRST_BUDGET_SCALE
    for _ in range(_MAX_ATTEMPTS):
        boundary = _synthesise(design, scale, on_time)
        certificate = certify(boundary)
        excess = certificate.type1_sup / design.alpha_per_side - _CERTIFIED_SHARE
        if excess <= 0.0:
            return StepTable(boundary=boundary, certificate=certificate)
        scale -= 2.0 * excess
    raise RuntimeError(f"no boundary for {design.key} keeps its error within alpha")


def _synthesise(
    design: StepDesign, scale: float, on_time: Callable[[int], None] | None
) -> StepBoundary | RandomisedBoundary:
    if design.form == "deterministic":
        return synthesise(design, scale, on_time)
    # Here, not above: the solver of linear programmes takes long to load, and few need it.
    from step_analysis.sequential.step_randomised import synthesise_randomised

    return synthesise_randomised(design, scale, on_time)


@lru_cache(maxsize=64)
def find_table(design: StepDesign) -> StepTable:
    """The shipped table, else that in the cache, else a new one, which is put there.

    Two processes may do this at once: both write the same file, each whole. A cache that can't be
    written costs time and says so in the log.

    Raises:
        TableError: the table found was altered.
    """
    try:
        if (path := existing_table(design)) is not None:
            return read_table(path, design)
    except OSError as error:
        _log.warning("STEP's table can't be read, %s; it is made anew", error)
    table = make_table(design)
    try:
        write_table(table_path(design), table)
    except OSError as error:
        _log.warning(
            "STEP's table can't be kept, %s; each process makes it anew: set %s to a folder that "
            "can be written",
            error,
            CACHE_FOLDER_VARIABLE,
        )
    return table


def existing_table(design: StepDesign) -> Path | None:
    """The shipped table's file, else the cache's.

    Raises:
        OSError: the cache can't be read.
    """
    shipped = SHIPPED_TABLES / table_name(design)
    if shipped.exists():
        return shipped
    cached = table_path(design)
    return cached if cached.exists() else None


def cache_folder() -> Path:
    """$ASSAY_CACHE_DIR, or the platform's cache folder for this project.

    Raises:
        FileNotFoundError: no such variable, and the user has no home folder.
    """
    if named := os.environ.get(CACHE_FOLDER_VARIABLE):
        return Path(named)
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache_home) / "assay"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(f"no home folder: set {CACHE_FOLDER_VARIABLE}") from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "assay"


def table_name(design: StepDesign) -> str:
    """The name of this design's file, by this version of the algorithm."""
    return f"step-v{ALGORITHM_VERSION}-{design.key}.table"


def table_path(design: StepDesign) -> Path:
    """Where the cache keeps this design's table; see `cache_folder`."""
    return cache_folder() / table_name(design)


def write_table(path: Path, table: StepTable) -> None:
    """Put the table there, whole or not at all; the folder is made.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _encoded(table))


def read_table(path: Path, design: StepDesign | None = None) -> StepTable:
    """The table in a file, which must be for `design` if one is given.

    Raises:
        TableError: the file is no table, was altered or truncated, or is of another design or
            another version.
        OSError: it can't be read.
    """
    try:
        first, _, content = read_bounded(path).partition(b"\n")
    except FormatError as error:
        raise TableError(f"{path} is not a STEP table: {error}") from error
    if not first.startswith(_MAGIC):
        raise TableError(f"{path} is not a STEP table: it does not begin with {_MAGIC.decode()!r}")
    checksum = hashlib.sha256(content).hexdigest()
    if first.removeprefix(_MAGIC).decode("ascii", "replace") != checksum:
        raise TableError(
            f"STEP table {path} was altered: its content has checksum {checksum[:12]}..., its "
            "first line states another; delete the file, it is made anew when needed"
        )
    try:
        table = _decoded(content)
    except KeyError as error:
        raise TableError(f"STEP table {path} is not valid: it has no {error}") from error
    except (ValueError, TypeError, OverflowError, zlib.error) as error:
        raise TableError(f"STEP table {path} is not valid: {error}") from error
    if design is not None and table.design != design:
        raise TableError(f"STEP table {path} is for {table.design.key}, not for {design.key}")
    return table


def _encoded(table: StepTable) -> bytes:
    design, boundary = table.design, table.boundary
    arrays = [boundary.stop_at]
    weights = b""
    if isinstance(boundary, RandomisedBoundary):
        arrays.append(boundary.listed_from)
        weights = boundary.weights.astype("<f8").tobytes()
    changes = [_changes(array) for array in arrays]
    small = all(np.abs(change).max() <= np.iinfo(np.int8).max for change in changes)
    header = {
        "algorithm_version": ALGORITHM_VERSION,
        "n_max": design.n_max,
        "alpha_per_side": design.alpha_per_side,
        "budget": budget_to_json(design.budget),
        "form": design.form,
        "bytes_per_change": 1 if small else 2,
        "certificate": dataclasses.asdict(table.certificate),
    }
    dtype = _CHANGE_TYPES[header["bytes_per_change"]]
    payload = b"".join(change.astype(dtype).tobytes() for change in changes) + weights
    content = json.dumps(header, allow_nan=False).encode() + b"\n" + zlib.compress(payload, 9)
    return _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _decoded(content: bytes) -> StepTable:
    head, _, compressed = content.partition(b"\n")
    header = parse_object(head, "header")
    if header["algorithm_version"] != ALGORITHM_VERSION:
        raise ValueError(
            f"algorithm_version is {header['algorithm_version']!r}, expected {ALGORITHM_VERSION}"
        )
    design = _design(header)
    certificate = _certificate(header["certificate"])
    num_bytes = header["bytes_per_change"]
    if num_bytes not in _CHANGE_TYPES:
        raise ValueError(f"bytes_per_change must be 1 or 2, got {num_bytes!r}")
    size = num_bytes * (design.n_max + 1) ** 2
    num_arrays = 2 if design.form == "randomised" else 1
    # A state lists one weight at most, so that no file can unpack into more than this.
    limit = size * num_arrays + (8 * (design.n_max + 1) ** 3 if num_arrays == 2 else 0)
    payload = zlib.decompressobj().decompress(compressed, limit + 1)
    if not size * num_arrays <= len(payload) <= limit:
        raise ValueError(f"its boundary has {len(payload)} bytes, expected {size * num_arrays}")
    changes = np.frombuffer(payload, _CHANGE_TYPES[num_bytes], num_arrays * (design.n_max + 1) ** 2)
    stop_at, *listed_from = (
        _from_changes(part) for part in changes.reshape(num_arrays, design.n_max + 1, -1)
    )
    boundary: StepBoundary | RandomisedBoundary
    if design.form == "randomised":
        boundary = RandomisedBoundary(
            design=design,
            stop_at=stop_at,
            listed_from=listed_from[0],
            weights=np.frombuffer(payload[size * num_arrays :], "<f8"),
        )
    else:
        boundary = StepBoundary(design=design, stop_at=stop_at)
    return StepTable(boundary=boundary, certificate=certificate)


def _design(header: Mapping[str, Any]) -> StepDesign:
    if not isinstance(header["n_max"], int):
        raise TypeError(f"n_max must be a whole number, got {header['n_max']!r}")
    return StepDesign(
        n_max=header["n_max"],
        alpha_per_side=_number("alpha_per_side", header["alpha_per_side"]),
        budget=budget_from_json(header["budget"]),
        form=header["form"],
    )


def _certificate(value: Mapping[str, Any]) -> Certificate:
    names = [field.name for field in dataclasses.fields(Certificate)]
    if not (isinstance(value, dict) and sorted(value) == sorted(names)):
        raise ValueError(f"certificate must be an object of {', '.join(names)}")
    for name, stated in value.items():
        if _number(f"certificate.{name}", stated) < 0.0:
            raise ValueError(f"certificate.{name} must not be negative, got {stated!r}")
    return Certificate(**value)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _changes(stop_at: np.ndarray) -> np.ndarray:
    """A boundary as its steps over time for each x: nearly all are alike, so it packs well."""
    t = np.arange(len(stop_at), dtype=np.int16)
    below_none = np.where(stop_at <= t[:, None], stop_at - (t + 1)[:, None], 0).T
    return np.diff(below_none, axis=1, prepend=0)


def _from_changes(changes: np.ndarray) -> np.ndarray:
    size = len(changes)
    stop_at = np.cumsum(changes, axis=1, dtype=np.int16)
    some = stop_at < 0
    stop_at += np.arange(1, size + 1, dtype=np.int16)
    stop_at[~some] = size
    return stop_at.T
