"""The STEP test, with its boundaries kept in the user's cache folder."""

import io
import logging
import os
import sys
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from step_analysis.atomic_file import write_atomically
from step_analysis.sequential.pairwise_test import Verdict, check_design, outcome_arrays
from step_analysis.sequential.step_synthesis import ALGORITHM_VERSION, StepBoundary, synthesise

CACHE_FOLDER_VARIABLE = "ASSAY_CACHE_DIR"

_log = logging.getLogger(__name__)


class StepTest:
    """STEP for at most `n_max` episodes of each arm; see `step_synthesis` for the source.

    The first use for a given (n_max, alpha) takes 0.3 s for 50 episodes, 3 s for 200 and 15 s for
    500; later ones read the boundary from the cache.
    """

    name = "STEP"

    def __init__(self, n_max: int, alpha_per_side: float) -> None:
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side
        self.boundary = cached_boundary(n_max, alpha_per_side)

    def run(self, arm0: Sequence[int], arm1: Sequence[int]) -> Verdict:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        x, y = np.cumsum(outcomes0), np.cumsum(outcomes1)
        t = np.arange(1, len(x) + 1)
        stops = np.maximum(x, y) >= self.boundary.stop_at[t, np.minimum(x, y)]
        if not stops.any():
            return Verdict(0, len(x))
        first = int(stops.argmax())
        return Verdict(1 if y[first] > x[first] else -1, first + 1)

    def leads_to_stop(
        self, arm0: Sequence[int], arm1: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        return self._lead(np.cumsum(outcomes0)), self._lead(np.cumsum(outcomes1))

    def _lead(self, trailing: np.ndarray) -> np.ndarray:
        t = np.arange(1, len(trailing) + 1)
        stop_at = self.boundary.stop_at[t, trailing].astype(float)
        return np.where(stop_at <= t, stop_at - trailing, np.nan)


def cache_folder() -> Path:
    """$ASSAY_CACHE_DIR, or the platform's cache folder for this project."""
    if named := os.environ.get(CACHE_FOLDER_VARIABLE):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "assay"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"


@lru_cache(maxsize=64)
def cached_boundary(n_max: int, alpha_per_side: float) -> StepBoundary:
    """The boundary from the cache, or synthesised and put there.

    Two processes may do this at once: both write the same file, each whole. A cache that can't
    be read or written costs time, nothing else.
    """
    path = cache_folder() / (f"step-v{ALGORITHM_VERSION}-n{n_max}-alpha{alpha_per_side:.12g}.npz")
    boundary = _load(path, n_max, alpha_per_side)
    if boundary is None:
        boundary = synthesise(n_max, alpha_per_side)
        _store(path, boundary)
    return boundary


def _load(path: Path, n_max: int, alpha_per_side: float) -> StepBoundary | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return StepBoundary(
                n_max=n_max, alpha_per_side=alpha_per_side, stop_at=arrays["stop_at"]
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        _log.warning("cached STEP boundary %s is unusable and made anew: %s", path, error)
        return None


def _store(path: Path, boundary: StepBoundary) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, stop_at=boundary.stop_at)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        _log.info("STEP boundary not cached: %s", error)
