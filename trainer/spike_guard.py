"""Which optimizer steps to leave out: those whose gradient is far longer than was usual.

A batch that is bad by itself, such as a broken video or a page of noise, can undo hours of training
in one step; what the norm of its gradient shows before the step is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor

# Norms whose median says what is usual, and how many of them make an opinion.
_WINDOW, _LEAST = 100, 20
_NORMS, _NUM_SKIPPED = "norms", "num_skipped"


class SpikeGuard:
    """factor: how many times the median norm is too long. num_skipped: steps left out so far."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._norms: deque[float] = deque(maxlen=_WINDOW)
        self.num_skipped = 0

    def is_spike(self, norm: float) -> bool:
        """Of the next step's gradient. It is remembered anyway: what lasts becomes usual."""
        enough = len(self._norms) >= _LEAST
        spike = enough and norm > self._factor * median(self._norms)
        self._norms.append(norm)
        self.num_skipped += spike
        return spike

    def state(self) -> dict[str, Tensor]:
        return {
            _NORMS: torch.tensor(list(self._norms), dtype=torch.float64),
            _NUM_SKIPPED: torch.tensor(self.num_skipped),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave."""
        self._norms = deque(state[_NORMS].tolist(), maxlen=_WINDOW)
        self.num_skipped = int(state[_NUM_SKIPPED])
