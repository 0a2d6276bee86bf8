"""The same bits for a row whatever else is in its batch.

In which order a matrix product adds depends on the shapes of its operands, so one row alone and
the same row among others differ in their last bits. Within some shapes it does not: Intel's MKL,
for one, was seen to treat 4 rows of a chunk and more alike, 1 and 2 each in its own way. Which
sizes are alike depends on the processor, the number of threads, the network and the precision, so
it is found out where it is needed: random rows are computed in batches of every size, each row at
other places, and compared bit for bit. How a kernel adds does not depend on what it adds, so sizes
that agree there agree everywhere. A smaller batch is padded, a larger one cut; where even small
sizes disagree, each row is computed by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RowFunction = Callable[..., Tensor]

_MAX_SIZE = 16

# More padding than this costs more than it saves: measured, four chunks take 1.05 times one's time.
_MAX_PADDED_SIZE = 4

# Has no divisor in common with the maximum: place p of one batch is compared with place p + 5 of
# another, and so, through the others, with every place.
_PLACES_APART = 5

_PROBE_SEED = 0

_Key = tuple[int, tuple[tuple[torch.Size, torch.dtype], ...]]


class InvariantRows:
    """A function of tensors by rows, each row's result depending on that row alone, bit for bit.

    Called with tensors of as many rows; their number does not matter, and neither does which.
    The function is tried out at the first call, and again where the number of threads changes.
    """

    def __init__(self, function: RowFunction) -> None:
        self._function = function
        self._smallest_sizes: dict[_Key, int | None] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        smallest = self.smallest_size(*inputs)
        num_pieces = -(-len(inputs[0]) // (_MAX_SIZE if smallest else 1))
        pieces = zip(*(each.tensor_split(num_pieces) for each in inputs), strict=True)
        return torch.cat([self._padded(piece, smallest or 1) for piece in pieces])

    def smallest_size(self, *inputs: Tensor) -> int | None:
        """From this size on batches agree; None where rows are computed one by one."""
        key = (torch.get_num_threads(), tuple((each.shape[1:], each.dtype) for each in inputs))
        if key not in self._smallest_sizes:
            self._smallest_sizes[key] = self._find_smallest_size(inputs)
        return self._smallest_sizes[key]

    def _padded(self, rows: tuple[Tensor, ...], size: int) -> Tensor:
        count = len(rows[0])
        places = torch.arange(max(count, size), device=rows[0].device).clamp(max=count - 1)
        # A copy even where nothing is padded: fresh memory begins at a multiple of 64 bytes.
        return self._function(*(each.index_select(0, places) for each in rows))[:count]

    def _find_smallest_size(self, inputs: tuple[Tensor, ...]) -> int | None:
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        rows = [
            torch.rand((_MAX_SIZE, *each.shape[1:]), generator=generator).to(each)
            for each in inputs
        ]
        expected = self._function(*rows)
        smallest = None
        for size in range(_MAX_SIZE, 0, -1):
            places = (torch.arange(size) + _PLACES_APART) % _MAX_SIZE
            places = places.to(expected.device)
            result = self._function(*(each.index_select(0, places) for each in rows))
            if not torch.equal(result, expected.index_select(0, places)):
                break
            smallest = size
        return smallest if smallest is not None and smallest <= _MAX_PADDED_SIZE else None
