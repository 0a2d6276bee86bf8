"""How fast a run goes, and how much of the hardware it uses."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import torch

from trainer.models.language.configuration import LanguageConfig

# Dense bfloat16 products a second, by the makers' data sheets. A name is matched by its beginning;
# the PCIe card comes before the others of its family.
_PEAK_FLOPS: Mapping[str, float] = MappingProxyType(
    {
        "NVIDIA B200": 2.25e15,
        "NVIDIA H200": 989e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA H100": 989e12,
        "NVIDIA A100": 312e12,
        "NVIDIA L40S": 362e12,
    }
)
_GIB = 2**30


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Of a whole device in bfloat16; None where it is not known."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for card, peak in _PEAK_FLOPS.items() if name.startswith(card)), None)


def training_flops_per_token(config: LanguageConfig) -> float:
    """Forward and backward, by PaLM's count (Chowdhery et al. 2022, appendix B), but causal.

    Six for each weight that multiplies; twelve for each number of a head and position that it
    reads, which on average is half of the sequence. Document masks take nothing more off.
    """
    shape = config.transformer
    heads = (shape.num_heads + 2 * shape.num_groups) * shape.width_of_head
    read = shape.num_heads * shape.width_of_head
    hidden = (3 if shape.feed_forward == "swiglu" else 2) * shape.hidden_width
    block = shape.width * (heads + read + hidden)
    weights = shape.depth * block + config.vocabulary_size * shape.width
    return 6 * weights + 6 * shape.depth * read * config.context_length


def memory_gib(device: torch.device) -> float:
    """The most that was held so far: of the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    # In bytes on a Mac, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


class Pace:
    """Means over the steps since it was last asked."""

    def __init__(self, peak: float | None) -> None:
        self._peak = peak
        self._counts: Counter[str] = Counter()
        self._flops = self._elapsed_s = 0.0

    def add(self, counts: Mapping[str, int], flops: float, elapsed_s: float) -> None:
        self._counts.update(counts)
        self._flops += flops
        self._elapsed_s += elapsed_s

    def take(self) -> dict[str, float]:
        """`samples_per_s` and the like, and `mfu` where the hardware's peak is known."""
        rates = {f"{name}_per_s": n / self._elapsed_s for name, n in self._counts.items()}
        if self._peak is not None and self._flops:
            rates["mfu"] = self._flops / self._elapsed_s / self._peak
        self._counts.clear()
        self._flops = self._elapsed_s = 0.0
        return rates
