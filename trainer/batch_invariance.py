"""The same bits for a row whatever else is in its batch.

In which order a matrix product adds depends on the shapes of its operands, so one row alone and
the same row among others differ in their last bits. Within some shapes it does not: Intel's MKL,
for one, was seen to treat 4 rows of a chunk and more alike, 1 and 2 each in its own way. Which
sizes are alike depends on the processor, the number of threads, the network and the precision, so
it is found out where it is needed: random rows are computed in batches of every size, each row at
other places, and compared bit for bit. How a kernel adds does not depend on what it adds, so sizes
that agree there agree everywhere. A batch of another size is padded to one of these, or cut; where
small sizes disagree with large ones, each row is computed by itself.
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

    def __init__(self, function: RowFunction, *, tried: RowFunction | None = None) -> None:
        """tried: what is tried out in the function's place, where random rows would not make it do
        all that it may do."""
        self._function = function
        self._tried = function if tried is None else tried
        self._sizes: dict[_Key, tuple[int, ...]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        sizes = self.agreeing_sizes(*inputs)
        num_pieces = -(-len(inputs[0]) // sizes[-1])
        pieces = zip(*(each.tensor_split(num_pieces) for each in inputs), strict=True)
        return torch.cat([self._padded(piece, sizes) for piece in pieces])

    def agreeing_sizes(self, *inputs: Tensor) -> tuple[int, ...]:
        """The sizes of batches that are used for such rows, ascending; (1,) is one by one."""
        key = (torch.get_num_threads(), tuple((each.shape[1:], each.dtype) for each in inputs))
        if key not in self._sizes:
            self._sizes[key] = self._find_sizes(inputs)
        return self._sizes[key]

    def _padded(self, rows: tuple[Tensor, ...], sizes: tuple[int, ...]) -> Tensor:
        count = len(rows[0])
        size = next(each for each in sizes if each >= count)
        places = torch.arange(size, device=rows[0].device).clamp(max=count - 1)
        # A copy even where nothing is padded: fresh memory begins at a multiple of 64 bytes.
        return self._function(*(each.index_select(0, places) for each in rows))[:count]

    def _find_sizes(self, inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        rows = [
            torch.rand((_MAX_SIZE, *each.shape[1:]), generator=generator).to(each)
            for each in inputs
        ]
        expected = self._tried(*rows)

        def agrees(size: int) -> bool:
            places = (torch.arange(size, device=expected.device) + _PLACES_APART) % _MAX_SIZE
            result = self._tried(*(each.index_select(0, places) for each in rows))
            return torch.equal(result, expected.index_select(0, places))

        if not agrees(_MAX_SIZE):
            return (1,)
        sizes = (*(size for size in range(1, _MAX_SIZE) if agrees(size)), _MAX_SIZE)
        return sizes if sizes[0] <= _MAX_PADDED_SIZE else (1,)
