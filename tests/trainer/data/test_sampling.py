"""Sampling: weights are honoured, orders are permutations, and no split of the work loses one."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.counter_random import normal, uniform
from trainer.data.errors import DataError
from trainer.data.sampling import Mixture, Source, permuted

seeds = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 3000), seed=seeds, epoch=st.integers(0, 2**40))
def test_an_order_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    order = permuted(np.arange(size), size, seed, epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_orders_look_random() -> None:
    size, count = 7, 20_000
    orders = permuted(np.arange(size), size, 0, np.arange(count)[:, None])
    # Each number is at each place in a seventh of the orders.
    shares = np.stack([(orders == n).mean(axis=0) for n in range(size)])
    assert np.abs(shares - 1 / size).max() < 4 * np.sqrt(1 / size / count)
    # And so is each pair of neighbours.
    pairs = Counter(zip(orders[:, 2].tolist(), orders[:, 3].tolist(), strict=True))
    assert len(pairs) == size * (size - 1)
    most = max(abs(n / count - 1 / 42) for n in pairs.values())
    assert most < 5 * np.sqrt(1 / 42 / count)


def test_a_large_data_set_is_shuffled_as_a_whole_without_an_array() -> None:
    size = 10**13
    order = permuted(np.arange(1000), size, 3)
    assert len(set(order.tolist())) == 1000
    assert np.histogram(order / size, bins=4, range=(0, 1))[0].min() > 190


def numbers_of(mixture: Mixture, start: int, stop: int) -> list[tuple[int, int]]:
    samples = mixture.samples(np.arange(start, stop))
    return list(zip(samples.source.tolist(), samples.index.tolist(), strict=True))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 40), seed=seeds)
def test_every_sample_comes_once_an_epoch_in_a_new_order(size: int, seed: int) -> None:
    mixture = Mixture([Source(name="only", num_samples=size)], seed)
    epochs = np.array(numbers_of(mixture, 0, 3 * size))[:, 1].reshape(3, size)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(size))
    if size > 12:
        assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


@settings(deadline=None, max_examples=5)
@given(seed=seeds, weight=st.floats(0.1, 10))
def test_every_sample_of_a_mixture_comes_once_before_any_comes_twice(
    seed: int, weight: float
) -> None:
    sources = [Source(name="a", num_samples=1000), Source(name="b", num_samples=700, weight=weight)]
    # Beyond the samples among which shares are exact.
    samples = Mixture(sources, seed).samples(np.arange(70_000))
    for number, source in enumerate(sources):
        own = samples.index[samples.source == number]
        size = source.num_samples
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert len(epochs) > 5
        assert (np.sort(epochs, axis=1) == np.arange(size)).all()
        assert len(np.unique(epochs, axis=0)) == len(epochs)


SOURCES = [
    Source(name="large", num_samples=100_000, weight=0.7),
    Source(name="text", num_samples=5_000, weight=0.29),
    Source(name="tiny", num_samples=3, weight=0.01),
]


def test_weights_hold_within_a_batch_and_small_sources_come_as_often_as_asked() -> None:
    mixture = Mixture(SOURCES, seed=1)
    batch_size, num_batches = 64, 4096
    source = mixture.samples(np.arange(num_batches * batch_size)).source
    counts = np.stack([(source.reshape(-1, batch_size) == s).sum(axis=1) for s in range(3)], 1)
    weights = np.array([s.weight for s in SOURCES], dtype=np.float64)
    # In all, to one sample in 65536.
    np.testing.assert_allclose(counts.sum(axis=0) / counts.sum(), weights, atol=1 / 65536)
    # Batch by batch as if each sample were drawn on its own: mean and variance of a binomial.
    np.testing.assert_allclose(counts.mean(axis=0), batch_size * weights, rtol=0.01)
    np.testing.assert_allclose(counts.var(axis=0), batch_size * weights * (1 - weights), rtol=0.1)
    # Nothing of a small source is favoured.
    tiny = mixture.samples(np.arange(num_batches * batch_size))
    seen = Counter(tiny.index[tiny.source == 2].tolist())
    assert max(seen.values()) - min(seen.values()) <= 1


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(seed=seeds, batch_size=st.integers(4, 13), stop=st.integers(0, 6))
def test_no_split_of_the_work_loses_or_repeats_a_sample(seed, batch_size, stop) -> None:
    mixture = Mixture(
        [Source(name="a", num_samples=17, weight=3), Source(name="b", num_samples=5)], seed
    )
    total_steps = 8
    expected = numbers_of(mixture, 0, total_steps * batch_size)
    for before, after in itertools.product([1, 2, 4], repeat=2):
        seen = [
            (int(source), int(index))
            for step in range(total_steps)
            for ranks in [before if step < stop else after]
            for rank in range(ranks)
            for samples in [Mixture(mixture.sources, seed).batch(step, batch_size, rank, ranks)]
            for source, index in zip(samples.source, samples.index, strict=True)
        ]
        assert seen == expected


def test_seeds_make_other_orders() -> None:
    first, second = (numbers_of(Mixture(SOURCES, seed), 0, 200) for seed in (0, 1))
    assert first != second
    assert numbers_of(Mixture(SOURCES, 0), 150, 200) == first[150:]


def test_a_mixture_goes_on_from_any_sample() -> None:
    border = 2**16
    mixture = Mixture(SOURCES, 0)
    expected = numbers_of(mixture, border - 300, border + 300)
    backwards = mixture.samples(np.arange(border + 299, border - 301, -1))
    assert list(zip(backwards.source, backwards.index, strict=True)) == expected[::-1]
    for start in (border - 300, border - 1, border, border + 299):
        resumed = numbers_of(Mixture(SOURCES, 0), start, border + 300)
        assert resumed == expected[start - border + 300 :]


def test_what_yields_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="'empty' holds no sample"):
        Mixture([Source(name="empty", num_samples=0)], 0)
    with pytest.raises(DataError, match="at least one source"):
        Mixture([], 0)
    with pytest.raises(DataError, match="'b': expected a positive weight"):
        Mixture([Source(name="b", num_samples=1, weight=0)], 0)
    with pytest.raises(DataError, match="'rare'.*at least 1 in 65536"):
        Mixture([SOURCES[0], Source(name="rare", num_samples=9, weight=1e-6)], 0)


def test_counted_random_numbers_are_uniform_and_normal() -> None:
    draws = uniform(7, np.arange(100_000)[:, None], np.arange(2))
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=4e-3)
    np.testing.assert_allclose(draws.var(axis=0), 1 / 12, atol=1e-3)
    assert abs(np.mean((draws[:, 0] - 0.5) * (draws[:, 1] - 0.5))) < 2e-3
    gaussian = normal(7, np.arange(100_000))
    np.testing.assert_allclose([gaussian.mean(), gaussian.var()], [0, 1], atol=0.02)
    assert np.isfinite(gaussian).all()
