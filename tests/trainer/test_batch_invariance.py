"""Functions whose rows feel their batch, each in its own way, made to depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainer.batch_invariance import InvariantRows

# What a row may feel of its batch: its place and the batch's size. It adds to the row's result.
Disturbance = Callable[[Tensor, int], Tensor]


def disturbed(
    disturbance: Disturbance, sizes_seen: list[int]
) -> Callable[[Tensor, Tensor], Tensor]:
    def function(first: Tensor, second: Tensor) -> Tensor:
        size = len(first)
        sizes_seen.append(size)
        return (
            first * second.sum(dim=1, keepdim=True) + disturbance(torch.arange(size), size)[:, None]
        )

    return function


def nothing(place: Tensor, size: int) -> Tensor:
    return torch.zeros(size)


def small_sizes(place: Tensor, size: int) -> Tensor:
    return torch.full((size,), 1e-3 * max(4 - size, 0))


def sizes_that_no_four_divides(place: Tensor, size: int) -> Tensor:
    return torch.full((size,), 1e-3 * (size % 4))


def the_last_place_of_odd_sizes(place: Tensor, size: int) -> Tensor:
    return 1e-3 * ((place == size - 1) & (size % 2 == 1))


def every_place(place: Tensor, size: int) -> Tensor:
    return 1e-3 * place


def every_size(place: Tensor, size: int) -> Tensor:
    return torch.full((size,), 1e-3 * size)


def all_but_large_sizes(place: Tensor, size: int) -> Tensor:
    return torch.full((size,), 1e-3 * max(8 - size, 0))


@pytest.mark.parametrize(
    ("disturbance", "sizes"),
    [
        (nothing, tuple(range(1, 17))),
        (small_sizes, tuple(range(4, 17))),
        (sizes_that_no_four_divides, (4, 8, 12, 16)),
        (the_last_place_of_odd_sizes, tuple(range(2, 17, 2))),
        (every_place, (1,)),
        (every_size, (1,)),
        (all_but_large_sizes, (1,)),
    ],
)
def test_a_row_feels_nothing_of_its_batch(disturbance: Disturbance, sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn((40, 5), generator=generator)
    second = torch.randn((40, 3), generator=generator)
    sizes_seen: list[int] = []
    function = InvariantRows(disturbed(disturbance, sizes_seen))
    assert function.agreeing_sizes(first, second) == sizes
    sizes_seen.clear()
    alone = torch.cat([function(first[i : i + 1], second[i : i + 1]) for i in range(40)])
    for count in (1, 2, 3, 5, 7, 16, 17, 33, 40):
        rows = torch.randperm(40, generator=generator)[:count]
        assert torch.equal(function(first[rows], second[rows]), alone[rows])
    assert set(sizes_seen) <= set(sizes)


def test_batches_are_as_few_as_can_be() -> None:
    sizes_seen: list[int] = []
    function = InvariantRows(disturbed(nothing, sizes_seen))
    rows = torch.ones(40, 2)
    function.agreeing_sizes(rows, rows)
    sizes_seen.clear()
    function(rows, rows)
    assert sizes_seen == [14, 13, 13]


def test_another_number_of_threads_is_tried_out_anew() -> None:
    sizes_seen: list[int] = []
    threads = torch.get_num_threads()
    # As a matrix product might: with one thread every size agrees, with more none does.
    function = InvariantRows(
        disturbed(
            lambda place, size: torch.full((size,), 1e-3 * size * (torch.get_num_threads() - 1)),
            sizes_seen,
        )
    )
    rows = torch.ones(2, 2)
    try:
        torch.set_num_threads(1)
        assert function.agreeing_sizes(rows, rows)[-1] == 16
        torch.set_num_threads(2)
        assert function.agreeing_sizes(rows, rows) == (1,)
    finally:
        torch.set_num_threads(threads)
