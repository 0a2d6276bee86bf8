"""Which rank is told to be slow; that of real ranks is in test_distributed."""

from __future__ import annotations

import pytest

from trainer.distributed import World
from trainer.stragglers import OwnWork, find_straggler


@pytest.mark.parametrize(
    ("own_s", "step_s"),
    [
        ([1.0, 1.1, 0.9, 1.4], 1.5),
        ([1.0], 1.0),
        # Most of a step is exchange, as where a network is cut.
        ([0.001, 0.001, 0.003], 0.5),
        ([0.0, 0.0], 0.0),
    ],
)
def test_no_rank_is_slow(own_s: list[float], step_s: float) -> None:
    assert find_straggler(own_s, step_s) is None


def test_the_slowest_rank_is_told_with_its_distance_from_the_median() -> None:
    found = find_straggler([0.4, 0.5, 1.2, 0.9], 1.3)
    assert found is not None
    assert str(found) == "rank 2 slow: 1.2 s a step by itself, 2.4 times the median"
    assert found.numbers == {"slowest_rank": 2, "slowest_rank_times_the_median": 2.4}


def test_one_of_two_is_measured_by_the_other() -> None:
    found = find_straggler([0.9, 0.3], 1.0)
    assert found is not None
    assert (found.rank, found.times_the_median) == (0, pytest.approx(3.0))


class _Others(World):
    """This rank is the second of three; the others tell what is given."""

    def __init__(self, others_s: tuple[float, float]) -> None:
        super().__init__(1, 3)
        self._others_s = others_s

    def each(self, number: float) -> list[float]:
        return [self._others_s[0], number, self._others_s[1]]


def test_means_are_since_the_last_time_without_exchanges_and_the_first_step() -> None:
    work = OwnWork(_Others((0.1, 0.1)))
    work.add(50.0, 1.0)
    assert work.straggler() is None
    work.add(1.0, 0.9)
    work.add(1.2, 1.1)
    assert work.straggler() is None
    work.add(1.0, 0.8)
    work.add(1.0, 0.4)
    found = work.straggler()
    assert found is not None
    assert (found.rank, found.own_s) == (1, pytest.approx(0.4))


def test_a_process_alone_is_never_slow() -> None:
    work = OwnWork(World())
    work.add(1.0, 0.0)
    work.add(9.0, 0.0)
    assert work.straggler() is None
