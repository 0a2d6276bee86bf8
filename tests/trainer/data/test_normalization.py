"""Normalisation from statistics: its inverse is exact, and it refuses what it does not cover."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.configuration import NormalizationConfig
from trainer.data.normalization import NormalizationError, Normalizer
from trainer.data.statistics.field_statistics import FieldStatistics
from trainer.data.statistics.summary import Summary
from trainer.requirements import ConfigurationError

PAST, FUTURE = 2, 3
LENGTH = PAST + 1 + FUTURE
FLOOR = 1e-2

configurations = st.builds(
    NormalizationConfig,
    scope=st.sampled_from(["global", "per_timestep"]),
    method=st.sampled_from(["quantiles", "min_max"]),
    centered=st.booleans(),
    lower_quantile=st.sampled_from([0.01, 0.05]),
    upper_quantile=st.sampled_from([0.95, 0.99]),
) | st.builds(
    NormalizationConfig, scope=st.sampled_from(["global", "per_timestep"]), method=st.just("std")
)


def statistics(values: np.ndarray) -> FieldStatistics:
    """Of windows (N, LENGTH, D)."""
    steps = tuple(Summary.of(values[:, t]) for t in range(LENGTH))
    size = values.shape[2]
    return FieldStatistics(
        shape=(size,),
        names=tuple(f"n{i}" for i in range(size)),
        overall=Summary.merged(steps),
        per_step=steps,
        past=PAST,
    )


def samples(seed: int, count: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_cauchy((count, LENGTH, 4)) * [1e-6, 1, 1e3, 1] + [0, 1e4, 0, 0]
    values[..., 3] = 0.25  # a gripper that never moves
    return values


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), config=configurations)
def test_denormalising_inverts_normalising(seed: int, config: NormalizationConfig) -> None:
    normalizer = Normalizer.from_statistics(statistics(samples(seed)), config, FLOOR)
    # Other numbers than those it was made from, many far outside: nothing may be clamped.
    values = samples(seed + 1, count=7)
    normalized = normalizer.normalize(values)
    np.testing.assert_allclose(normalizer.denormalize(normalized), values, rtol=1e-9, atol=1e-9)
    assert (normalizer.scale >= FLOOR).all()
    again = Normalizer.from_fields(json.loads(json.dumps(normalizer.to_fields())))
    np.testing.assert_array_equal(again.normalize(values), normalized)


@pytest.mark.parametrize("scope", ["global", "per_timestep"])
def test_each_method_maps_what_it_promises(scope) -> None:
    values = np.random.default_rng(0).standard_normal((2000, LENGTH, 2)) * [3, 0.5] + [10, -2]
    found = statistics(values)

    def normalized(**changes) -> np.ndarray:
        config = NormalizationConfig(scope=scope, **changes)
        return Normalizer.from_statistics(found, config, FLOOR).normalize(values)

    least_and_most = normalized(method="min_max")
    assert (least_and_most.min(), least_and_most.max()) == pytest.approx((-1, 1))
    upwards = normalized(method="min_max", centered=False)
    assert (upwards.min(), upwards.max()) == pytest.approx((0, 1))
    standard = normalized(method="std")
    np.testing.assert_allclose(standard.mean((0, 1)), 0, atol=1e-9)
    np.testing.assert_allclose(standard.std((0, 1)), 1, atol=1e-9)
    for low, high in ((0.01, 0.99), (0.05, 0.95)):
        inside = np.abs(normalized(lower_quantile=low, upper_quantile=high)) <= 1
        assert inside.mean() == pytest.approx(high - low, abs=2e-3)
    with pytest.raises(ConfigurationError, match="centered.*'std'"):
        NormalizationConfig(method="std", centered=False)


def test_timesteps_are_told_by_where_they_begin() -> None:
    config = NormalizationConfig(scope="per_timestep", method="std")
    values = samples(0)
    normalizer = Normalizer.from_statistics(statistics(values), config, FLOOR)
    whole = normalizer.normalize(values)
    part = normalizer.normalize(values[:, PAST:], first_step=0)
    np.testing.assert_array_equal(part, whole[:, PAST:])
    np.testing.assert_allclose(normalizer.denormalize(part, first_step=0), values[:, PAST:])


@pytest.mark.parametrize("direction", ["normalize", "denormalize"])
@pytest.mark.parametrize("first_step", [-PAST - 1, -PAST, 1])
def test_a_window_that_is_not_covered_is_refused_both_ways(direction, first_step) -> None:
    normalizer = Normalizer.from_statistics(
        statistics(samples(0)), NormalizationConfig(scope="per_timestep"), FLOOR
    )
    act = getattr(normalizer, direction)
    length = LENGTH + 1 if first_step == -PAST else LENGTH
    window = np.zeros((3, length, 4))
    with pytest.raises(NormalizationError, match=r"timesteps within -2 to 3.*got"):
        act(window, first_step=first_step)
    with pytest.raises(NormalizationError, match="which the statistics cover"):
        act(np.zeros((3, LENGTH + 1, 4)))
    with pytest.raises(NormalizationError, match="finite"):
        act(np.full((3, LENGTH, 4), np.nan))


def test_a_number_that_was_never_seen_is_an_error() -> None:
    values = samples(0)
    values[..., 1] = np.nan
    with pytest.raises(NormalizationError, match=r"no finite number of \['n1'\]"):
        Normalizer.from_statistics(statistics(values), NormalizationConfig(), FLOOR)


def test_what_was_saved_before_is_read_as_it_was_meant() -> None:
    new = Normalizer(names=("a",), center=np.zeros((4, 1)), scale=np.ones((4, 1)))
    old = {name: value for name, value in new.to_fields().items() if name != "first_step"}
    assert Normalizer.from_fields(old).first_step == 0
    with pytest.raises(NormalizationError, match="the anchor among its 4 timesteps"):
        replace(new, first_step=-4)
