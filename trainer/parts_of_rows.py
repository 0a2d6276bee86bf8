"""A batch cut into parts, which memory and cores ask for."""

from __future__ import annotations

from itertools import pairwise


def parts_of_rows(num_rows: int, at_once: int, num_threads: int) -> list[slice]:
    """Parts of a batch, such that no more than `at_once` of its rows are computed at once."""
    micro_batches = -(-num_rows // at_once)
    count = min(num_rows, micro_batches * num_threads)
    edges = [num_rows * part // count for part in range(count + 1)]
    return [slice(*pair) for pair in pairwise(edges)]
