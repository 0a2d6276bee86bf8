"""Keys and values of positions already read, so that generation reads each once.

Axes: B sample, G key/value head, S position, d width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """Room for `capacity` positions of every layer, allocated once."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_samples: int,
        num_heads: int,
        head_width: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (2, num_layers, num_samples, num_heads, capacity, head_width)
        self._store = torch.empty(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.length = 0

    def extend(self, layer: int, key_BGSd: Tensor, value_BGSd: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer with these behind them; `advance` ends the pass."""
        end = self.length + key_BGSd.shape[2]
        if end > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity} positions; {end} were asked for: make it larger"
            )
        keys, values = self._store[0, layer], self._store[1, layer]
        keys[:, :, self.length : end] = key_BGSd
        values[:, :, self.length : end] = value_BGSd
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, num_positions: int) -> None:
        """After every layer has taken its keys and values."""
        self.length += num_positions
