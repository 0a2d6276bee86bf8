"""Windows over episodes: an anchor, the control steps around it, and the frames that belong to it.

A window of `past` and `future` holds past + 1 + future steps; its step `past` is the anchor. What
reaches beyond the episode is padding: it is neither trained on nor counted in statistics.

Axes: N window, W step of the window, F frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError

Padding = Literal["copy", "zero", "none"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Which windows there are.

    past, future: control steps before and after the anchor. stride: from one anchor to the next.
    padding: "copy" repeats the episode's first or last step; "zero" makes the encoded numbers
        zero; "none" leaves out every window that reaches beyond its episode.
    max_padding_left, max_padding_right: windows that need more are left out; None: no limit.
    image_offsets: frames of a window, from its anchor; clamped to the episode.
    """

    past: int = 0
    future: int = 0
    stride: int = 1
    padding: Padding = "copy"
    max_padding_left: int | None = None
    max_padding_right: int | None = None
    image_offsets: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_offsets", tuple(self.image_offsets))
        for name, least in (("past", 0), ("future", 0), ("stride", 1)):
            if getattr(self, name) < least:
                raise DataError(
                    f"window: {name}: expected at least {least}, got {getattr(self, name)}"
                )
        for name in ("max_padding_left", "max_padding_right"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise DataError(f"window: {name}: expected 0 or more, or none, got {limit}")
            if limit and self.padding == "none":
                raise DataError(f"window: {name} {limit} asked for, but padding is 'none'")

    @property
    def length(self) -> int:
        """W."""
        return self.past + 1 + self.future

    def anchor_range(self, num_steps: int) -> tuple[int, int]:
        """The first anchor and the one after the last, whatever the stride."""
        left, right = self.max_padding_left, self.max_padding_right
        if self.padding == "none":
            left = right = 0
        first = 0 if left is None else max(0, self.past - left)
        stop = num_steps if right is None else min(num_steps, num_steps - self.future + right)
        return first, max(first, stop)

    def anchors(self, num_steps: int) -> IntArray:
        """Of an episode, ascending."""
        return np.arange(*self.anchor_range(num_steps), self.stride)

    def steps(self, anchors_N: IntArray, num_steps_N: IntArray | int) -> tuple[IntArray, BoolArray]:
        """(N, W) steps, clamped to their episodes, and whether they lie in them."""
        steps_NW = anchors_N[:, None] + np.arange(-self.past, self.future + 1)
        last_N1 = np.broadcast_to(num_steps_N, anchors_N.shape)[:, None] - 1
        return np.clip(steps_NW, 0, last_N1), (steps_NW >= 0) & (steps_NW <= last_N1)

    def image_steps(self, anchors_N: IntArray, num_steps_N: IntArray | int) -> IntArray:
        """(N, F) steps, clamped to their episodes."""
        steps_NF = anchors_N[:, None] + np.asarray(self.image_offsets, dtype=np.int64)
        return np.clip(steps_NF, 0, np.broadcast_to(num_steps_N, anchors_N.shape)[:, None] - 1)

    def masks(self, valid_NW: BoolArray) -> tuple[BoolArray, BoolArray]:
        """past_mask and future_mask, (N, W): real steps before the anchor; from the anchor on."""
        from_anchor_W = np.arange(self.length) >= self.past
        return valid_NW & ~from_anchor_W, valid_NW & from_anchor_W


class WindowIndex:
    """All windows of some episodes, numbered: episode by episode, anchor by anchor."""

    def __init__(self, lengths: Sequence[int] | IntArray, spec: WindowSpec) -> None:
        """lengths: control steps of each episode. Raises DataError where no window fits."""
        self.spec = spec
        self.lengths = np.asarray(lengths, dtype=np.int64)
        ranges = [spec.anchor_range(int(length)) for length in self.lengths]
        self._first_anchors = np.array([first for first, _ in ranges], dtype=np.int64)
        counts = [len(range(*each, spec.stride)) for each in ranges]
        self._starts = np.cumsum([0, *counts], dtype=np.int64)
        if len(self) == 0:
            raise DataError(
                f"{len(self.lengths)} episodes give no window of {spec.past} past and "
                f"{spec.future} future steps with padding {spec.padding!r}; "
                "shorten the window or allow more padding"
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, numbers_N: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """Episode and anchor of each window."""
        numbers = np.asarray(numbers_N, dtype=np.int64)
        episodes = np.searchsorted(self._starts, numbers, side="right") - 1
        places = numbers - self._starts[episodes]
        return episodes, self._first_anchors[episodes] + places * self.spec.stride


def split_episodes(num_episodes: int, num_validation: int) -> tuple[range, range]:
    """Training and validation episodes: the last ones are held out, but never more than a fifth."""
    held_out = min(num_validation, num_episodes // 5)
    return range(num_episodes - held_out), range(num_episodes - held_out, num_episodes)
