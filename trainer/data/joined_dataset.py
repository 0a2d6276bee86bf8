"""Several data sets as one, their episodes one after the other."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Dataset, Episode
from trainer.data.frame_workers import EpisodeFrames


class JoinedDataset(Dataset):
    format_name = "several"

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = tuple(datasets)
        self._starts = [0, *accumulate(len(each) for each in datasets)]
        self.where = ", ".join(each.where for each in datasets)
        self._frames: EpisodeFrames | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def episodes_of(self, dataset: int) -> range:
        """The numbers that one of the data sets' episodes have here."""
        return range(self._starts[dataset], self._starts[dataset + 1])

    def episode(self, index: int) -> Episode:
        dataset, own = self._locate(index)
        return self._datasets[dataset].episode(own)

    @property
    def digest(self) -> str:
        digests = "\n".join(each.digest for each in self._datasets)
        return hashlib.sha256(digests.encode()).hexdigest()

    def read_frames(
        self, index: int, steps: Sequence[int], out: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        if self._frames is None:
            self._frames = EpisodeFrames(self._datasets)
        self._frames.read(*self._locate(index), steps, out)

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"expected an episode from 0 to {len(self) - 1}, got {index}")
        dataset = bisect_right(self._starts, index) - 1
        return dataset, index - self._starts[dataset]

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay in their process."""
        return {**self.__dict__, "_frames": None}
