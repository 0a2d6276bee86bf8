"""Statistics in one pass: exact moments, close percentiles, and merging that changes neither."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.statistics.collect import collect_statistics, relative_poses
from trainer.data.statistics.field_statistics import DatasetStatistics
from trainer.data.statistics.summary import PERCENTILES, Summary
from trainer.data.windows import WindowSpec

PROBABILITIES = [p / 100 for p in PERCENTILES]


def heavy_tailed(rng: np.random.Generator, count: int) -> np.ndarray:
    """Columns that are hard: Cauchy, log-normal, a rare spike, two values, far from zero."""
    return np.stack(
        [
            rng.standard_cauchy(count),
            rng.lognormal(0, 3, count),
            np.where(rng.random(count) < 0.005, 1e6, rng.standard_normal(count)),
            rng.integers(0, 2, count).astype(float),
            1e9 + rng.standard_normal(count),
        ],
        axis=1,
    )


def rank_error(values: np.ndarray, quantile: float, probability: float) -> float:
    """How far from `probability` the share of values below `quantile` is; ties are forgiven."""
    below, up_to = np.mean(values < quantile), np.mean(values <= quantile)
    return float(max(0.0, below - probability, probability - up_to))


@pytest.mark.parametrize("num_parts", [1, 60])
def test_quantiles_of_heavy_tails_are_within_a_thousandth_in_rank(num_parts: int) -> None:
    values = heavy_tailed(np.random.default_rng(0), 60_000)
    parts = [Summary.of(part) for part in np.array_split(values, num_parts)]
    quantiles = Summary.merged(parts).quantiles(PROBABILITIES)
    for column in range(values.shape[1]):
        for probability, quantile in zip(PROBABILITIES, quantiles[:, column], strict=True):
            assert rank_error(values[:, column], quantile, probability) < 1e-3


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200))
def test_few_numbers_are_answered_as_numpy_does(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).standard_cauchy((count, 3))
    halves = [Summary.of(part) for part in np.array_split(values, 2)]
    for summary in (Summary.of(values), Summary.merged(halves)):
        np.testing.assert_allclose(
            summary.quantiles(PROBABILITIES), np.quantile(values, PROBABILITIES, axis=0), rtol=1e-12
        )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), num_parts=st.integers(2, 9))
def test_moments_do_not_depend_on_how_data_was_cut_or_in_which_order_it_is_merged(
    seed: int, num_parts: int
) -> None:
    rng = np.random.default_rng(seed)
    values = heavy_tailed(rng, 400)[:, 1:]
    cuts = np.sort(rng.integers(0, len(values) + 1, num_parts - 1))
    parts = [Summary.of(part) for part in np.split(values, cuts)]
    once = Summary.merged(parts)
    shuffled = [parts[i] for i in rng.permutation(num_parts)]
    nested = shuffled[0]
    for part in shuffled[1:]:
        nested = Summary.merged([nested, part])
    for merged in (once, nested):
        np.testing.assert_array_equal(merged.count, len(values))
        np.testing.assert_allclose(merged.mean, values.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(merged.std, values.std(axis=0), rtol=1e-8)
        np.testing.assert_array_equal(merged.minimum, values.min(axis=0))
        np.testing.assert_array_equal(merged.maximum, values.max(axis=0))
    np.testing.assert_allclose(nested.std, once.std, rtol=1e-12)
    np.testing.assert_allclose(nested.mean, once.mean, rtol=1e-12)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    values = np.array([[1.0, np.nan], [np.inf, np.nan], [3.0, np.nan]])
    summary = Summary.merged([Summary.of(values), Summary.of(np.array([[5.0, np.nan]]))])
    assert summary.count.tolist() == [3, 0]
    assert summary.num_not_finite.tolist() == [1, 4]
    assert summary.mean[0] == 3
    assert summary.quantiles([0.5])[0, 0] == 3
    assert np.isnan(summary.quantiles([0.5])[0, 1])
    fields = json.loads(json.dumps(summary.to_fields(), allow_nan=False))
    assert fields["mean"] == [3.0, None]
    assert Summary.from_fields(fields).maximum.tolist() == [5.0, -np.inf]


def walk(seed: int, num_steps: int) -> ArrayEpisode:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (2, num_steps, 1, 1))
    poses[..., :3, 3] = np.cumsum(rng.standard_normal((2, num_steps, 3)), axis=1)
    pose = {"shape": (4, 4), "kind": "pose", "part": "right"}
    return ArrayEpisode.make(
        f"episode_{seed:06d}",
        rate_hz=10.0,
        fields={
            "state": (
                Field(shape=(2,), dtype="float32", names=("a", "b")),
                rng.standard_normal((num_steps, 2)).astype(np.float32),
            ),
            "count": (Field(shape=(), dtype="int64"), np.arange(num_steps)),
            "measured": (Field(**pose, role="observed"), poses[0]),
            "commanded": (Field(**pose, role="action"), poses[1]),
            "note": (Field(shape=(), dtype="<U4"), np.full(num_steps, "word")),
        },
    )


def dataset(lengths: list[int], first_seed: int = 0) -> MemoryDataset:
    return MemoryDataset([walk(first_seed + i, length) for i, length in enumerate(lengths)])


def by_hand(episodes: MemoryDataset, name: str, window: WindowSpec, k: int) -> np.ndarray:
    """A field's numbers at offset k of every anchor, where that step is in the episode."""
    found = []
    for episode in episodes:
        length = episode.description.num_steps
        anchors = np.arange(*window.anchor_range(length))
        steps = anchors + k
        values = episode.read(name).reshape(length, -1)
        found.append(values[steps[(steps >= 0) & (steps < length)]])
    return np.concatenate(found).astype(np.float64)


@settings(deadline=None, max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    past=st.integers(0, 4),
    future=st.integers(0, 5),
    limits=st.tuples(*[st.none() | st.integers(0, 3)] * 2),
)
def test_each_time_step_counts_what_its_windows_hold(lengths, past, future, limits) -> None:
    window = WindowSpec(
        past=past, future=future, max_padding_left=limits[0], max_padding_right=limits[1]
    )
    data = dataset(lengths)
    statistics = collect_statistics(data, window)
    assert set(statistics.fields) == {"state", "count", "measured", "commanded"}
    for name, each in statistics.fields.items():
        assert each.overall.count.tolist() == [sum(lengths)] * each.overall.num_columns
        assert len(each.per_step) == window.length
        for k, summary in enumerate(each.per_step):
            expected = by_hand(data, name, window, k - past)
            assert summary.count.tolist() == [len(expected)] * summary.num_columns
            if len(expected):
                np.testing.assert_allclose(summary.mean, expected.mean(axis=0), atol=1e-12)
                np.testing.assert_allclose(summary.std, expected.std(axis=0), atol=1e-12)
                np.testing.assert_allclose(
                    summary.quantiles([0.02, 0.95]),
                    np.quantile(expected, [0.02, 0.95], axis=0),
                    atol=1e-12,
                )


def test_commanded_poses_are_relative_to_the_measured_one_at_the_anchor() -> None:
    data = dataset([9, 7])
    window = WindowSpec(past=1, future=2)
    fields = data.episode(0).description.fields
    statistics = collect_statistics(data, window, vectors=relative_poses(fields))
    relative = statistics.fields["commanded relative to measured"]
    assert relative.names[:4] == ("right/x_m", "right/y_m", "right/z_m", "right/r00")
    for k, summary in enumerate(relative.per_step):
        expected = []
        for episode in data:
            measured, commanded = episode.read("measured"), episode.read("commanded")
            for anchor in range(len(measured)):
                if 0 <= anchor + k - 1 < len(measured):
                    # Nothing turns in these episodes.
                    moved = commanded[anchor + k - 1, :3, 3] - measured[anchor, :3, 3]
                    expected.append(moved)
        np.testing.assert_allclose(summary.mean[:3], np.mean(expected, axis=0), atol=1e-12)
        np.testing.assert_allclose(summary.mean[3:], [1, 0, 0, 0, 1, 0], atol=1e-12)


def test_parts_merge_to_the_whole_and_processes_change_nothing(tmp_path: Path) -> None:
    lengths = [5 + i % 7 for i in range(70)]
    window = WindowSpec(past=2, future=3)
    whole = collect_statistics(dataset(lengths), window, num_processes=2)
    assert collect_statistics(dataset(lengths), window).to_json() == whole.to_json()
    parts = [
        collect_statistics(dataset(lengths[:40]), window),
        collect_statistics(dataset(lengths[40:], first_seed=40), window),
    ]
    merged = DatasetStatistics.merged(parts)
    assert merged.num_steps == whole.num_steps == sum(lengths)
    for name, each in merged.fields.items():
        expected = whole.fields[name]
        for mine, theirs in zip(
            (each.overall, *each.per_step), (expected.overall, *expected.per_step), strict=True
        ):
            np.testing.assert_array_equal(mine.count, theirs.count)
            np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(mine.std, theirs.std, rtol=1e-12, atol=1e-12)
    path = tmp_path / "statistics.json"
    merged.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["statistics.json"]
    assert DatasetStatistics.load(path).to_json() == merged.to_json()


def test_the_digest_follows_the_numbers() -> None:
    window = WindowSpec()
    (first,) = collect_statistics(dataset([4, 5]), window).sources
    (again,) = collect_statistics(dataset([4, 5]), window).sources
    (other,) = collect_statistics(dataset([4, 5], first_seed=1), window).sources
    assert first.digest == again.digest != other.digest


def test_what_cannot_be_merged_or_counted_is_an_error() -> None:
    with pytest.raises(DataError, match="no episode"):
        collect_statistics(MemoryDataset([]), WindowSpec())
    short, long = (collect_statistics(dataset([4]), WindowSpec(future=n)) for n in (1, 2))
    with pytest.raises(DataError, match="different windows"):
        DatasetStatistics.merged([short, long])
    other = ArrayEpisode.make(
        "odd", rate_hz=10.0, fields={"state": (Field(shape=(2,)), np.zeros((3, 2)))}
    )
    with pytest.raises(DataError, match=r"episode odd: fields differ.*'commanded', 'count'"):
        collect_statistics(MemoryDataset([walk(0, 4), other]), WindowSpec())
    broken = DatasetStatistics.from_json(short.to_json()).to_json().replace("zlib_base64", "x")
    with pytest.raises(DataError, match="malformed statistics"):
        DatasetStatistics.from_json(broken)
    with pytest.raises(DataError, match="cannot be read"):
        DatasetStatistics.from_json("[" * 100_000)


def test_a_digest_unpacks_to_no_more_than_it_claims() -> None:
    fields = Summary.of(np.arange(20.0).reshape(10, 2)).to_fields()
    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    fields["digest"] = {"num_clusters": 10, "zlib_base64": bomb}
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="malformed statistics"):
            Summary.from_fields(fields)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
