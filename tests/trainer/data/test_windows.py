"""Windows: each anchor once, steps in their episodes, padding told from data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.errors import DataError
from trainer.data.windows import WindowIndex, WindowSpec, split_episodes

lengths_of_episodes = st.lists(st.integers(1, 12), min_size=1, max_size=6)
limits = st.none() | st.integers(0, 4)


@given(
    lengths=lengths_of_episodes,
    past=st.integers(0, 4),
    future=st.integers(0, 6),
    left=limits,
    right=limits,
    stride=st.integers(1, 3),
)
def test_every_anchor_that_the_limits_allow_comes_exactly_once(
    lengths, past, future, left, right, stride
) -> None:
    spec = WindowSpec(
        past=past, future=future, max_padding_left=left, max_padding_right=right, stride=stride
    )
    expected = []
    for episode, length in enumerate(lengths):
        allowed = [
            anchor
            for anchor in range(length)
            if (left is None or past - anchor <= left)
            and (right is None or anchor + future - (length - 1) <= right)
        ]
        expected += [(episode, anchor) for anchor in allowed[::stride]]
    if not expected:
        with pytest.raises(DataError, match="give no window"):
            WindowIndex(lengths, spec)
        return
    index = WindowIndex(lengths, spec)
    episodes, anchors = index.locate(np.arange(len(index)))
    assert list(zip(episodes.tolist(), anchors.tolist(), strict=True)) == expected


@given(lengths=lengths_of_episodes, past=st.integers(0, 4), future=st.integers(0, 6))
def test_steps_stay_in_their_episode_and_padding_repeats_its_ends(lengths, past, future) -> None:
    spec = WindowSpec(past=past, future=future, image_offsets=(-1, 0, 2))
    for length in lengths:
        anchors = spec.anchors(length)
        steps, valid = spec.steps(anchors, length)
        assert (steps[:, past] == anchors).all()
        for anchor, row, real in zip(anchors, steps, valid, strict=True):
            wanted = range(anchor - past, anchor + future + 1)
            assert row.tolist() == [min(max(step, 0), length - 1) for step in wanted]
            assert real.tolist() == [0 <= step < length for step in wanted]
        before, after = spec.masks(valid)
        assert not (before & after).any()
        np.testing.assert_array_equal(before | after, valid)
        assert not before[:, past:].any()
        assert after[:, past].all()
        images = spec.image_steps(anchors, length)
        assert images.tolist() == [
            [min(max(a + offset, 0), length - 1) for offset in (-1, 0, 2)] for a in anchors
        ]


def test_without_padding_every_window_is_whole() -> None:
    spec = WindowSpec(past=1, future=2, padding="none")
    assert spec.anchors(6).tolist() == [1, 2, 3]
    assert spec.anchors(3).tolist() == []
    with pytest.raises(DataError, match="padding is 'none'"):
        WindowSpec(padding="none", max_padding_left=1)


@given(episodes=st.integers(1, 50), asked=st.integers(0, 60))
def test_held_out_episodes_are_the_last_and_never_most(episodes, asked) -> None:
    training, held_out = split_episodes(episodes, asked)
    assert [*training, *held_out] == list(range(episodes))
    assert len(held_out) <= asked
    assert len(training) >= 4 * len(held_out)
    assert len(training) >= 1
