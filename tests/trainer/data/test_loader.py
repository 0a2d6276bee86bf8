"""The loader: the same batches cached or decoded just in time, and errors that come through."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from trainer.data.configuration import LoaderConfig
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.frame_workers import FrameRequest, FrameWorkers
from trainer.data.loader import LoaderSource, WindowBatch, WindowLoader
from trainer.data.windows import WindowSpec

CAMERAS = ("left", "right")
HEIGHT, WIDTH = 6, 8
STREAMED = LoaderConfig(cache_gib=0, num_workers=1, num_batches_ahead=2)


def episode(index: int, num_steps: int) -> ArrayEpisode:
    """Every frame and row says which episode and step it is of."""
    steps = np.arange(num_steps)
    frames = np.zeros((num_steps, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0], frames[..., 1] = index, steps[:, None, None]
    return ArrayEpisode.make(
        f"episode_{index:06d}",
        rate_hz=10.0,
        fields={
            "place": (Field(shape=(2,)), np.stack([np.full(num_steps, float(index)), steps], 1))
        },
        images={"left": frames, "right": frames + np.uint8(100)},
    )


def source(first: int, lengths: Sequence[int], weight: float = 1.0) -> LoaderSource:
    data = MemoryDataset([episode(first + i, length) for i, length in enumerate(lengths)])
    return LoaderSource(dataset=data, episodes=range(len(lengths)), weight=weight)


SOURCES = [source(0, [5, 9, 4]), source(50, [3, 7], weight=2.0)]
WINDOW = WindowSpec(past=1, future=2, image_offsets=(-1, 0))


def loader(config: LoaderConfig, **changes: Any) -> WindowLoader:
    options: dict[str, Any] = {
        "cameras": CAMERAS,
        "fields": ("place",),
        "batch_size": 7,
        "seed": 3,
        "device": torch.device("cpu"),
    }
    return WindowLoader(SOURCES, WINDOW, config=config, **(options | changes))


def contents(batch: WindowBatch) -> list[npt.NDArray[Any]]:
    return [
        batch.samples.number,
        batch.samples.source,
        batch.episode,
        batch.anchor,
        batch.fields["place"],
        batch.valid,
        *(batch.images[name].numpy().copy() for name in CAMERAS),
    ]


def test_frames_and_fields_are_those_of_the_window() -> None:
    with loader(LoaderConfig()) as cached:
        for batch in cached.batches(0, 4):
            lengths = np.array([[5, 9, 4], [3, 7, 0]])[batch.samples.source, batch.episode]
            ids = batch.episode + 50 * batch.samples.source
            wanted = batch.anchor[:, None] + np.arange(-1, 3)
            np.testing.assert_array_equal(batch.valid, (wanted >= 0) & (wanted < lengths[:, None]))
            clamped = np.clip(wanted, 0, lengths[:, None] - 1)
            np.testing.assert_array_equal(batch.fields["place"][..., 1], clamped)
            assert (batch.fields["place"][..., 0] == ids[:, None]).all()
            for name, offset in (("left", 0), ("right", 100)):
                images = batch.images[name].numpy().astype(int) - offset
                assert images.shape == (7, 2, HEIGHT, WIDTH, 3)
                assert (images[..., 0] == ids[:, None, None, None]).all()
                assert (images[..., 1] == clamped[:, :2, None, None]).all()


def test_processes_give_what_the_cache_gives_from_any_step_on() -> None:
    with loader(LoaderConfig()) as cached:
        expected = [contents(batch) for batch in cached.batches(0, 9)]
    for start, workers in ((0, 1), (4, 2)):
        config = LoaderConfig(cache_gib=0, num_workers=workers, num_batches_ahead=2)
        with loader(config) as streamed:
            assert not streamed.fits_in_cache
            got = [contents(batch) for batch in streamed.batches(start, 9)]
        assert len(got) == 9 - start
        for one, other in zip(got, expected[start:], strict=True):
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_ranks_share_a_batch() -> None:
    with loader(LoaderConfig()) as whole:
        (expected,) = (contents(batch) for batch in whole.batches(2, 3))
    parts = []
    for rank in range(2):
        with loader(STREAMED, rank=rank, num_ranks=2) as part:
            parts += [contents(batch) for batch in part.batches(2, 3)]
    for column, whole_column in zip(zip(*parts, strict=True), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(column), whole_column)


class BrokenEpisode(ArrayEpisode):
    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        raise DataError(f"camera {camera!r}: corrupt", episode="episode_000009")


class DyingEpisode(ArrayEpisode):
    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BrokenEpisode, "episode episode_000009: camera 'left': corrupt"),
        (DyingEpisode, r"has died \(exit code \[-9"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_here(kind, message) -> None:
    whole = episode(9, 4)
    broken = kind(whole.description, whole.times_s(), {}, dict.fromkeys(CAMERAS), {}, {})
    data = MemoryDataset([broken])
    request = FrameRequest(
        dataset=np.zeros(2, np.int64),
        episode=np.zeros(2, np.int64),
        steps=np.zeros((2, 1), np.int64),
    )
    with (
        FrameWorkers(
            [data],
            dict.fromkeys(CAMERAS, (HEIGHT, WIDTH)),
            batch_size=2,
            num_frames=1,
            num_workers=1,
            num_slots=2,
        ) as workers,
        pytest.raises(DataError, match=message),
    ):
        list(workers.batches([request]))


def test_what_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(DataError, match=r"camera 'front' missing: there are \['left', 'right'\]"):
        loader(LoaderConfig(), cameras=("front",))
    tall = source(0, [3])
    wide = LoaderSource(
        dataset=MemoryDataset(
            [
                ArrayEpisode.make(
                    "wide",
                    rate_hz=10.0,
                    fields={},
                    images=dict.fromkeys(CAMERAS, np.zeros((3, HEIGHT, WIDTH + 1, 3), np.uint8)),
                )
            ]
        ),
        episodes=[0],
    )
    with pytest.raises(DataError, match="episode wide: camera 'left': expected images of 8x6"):
        WindowLoader(
            [tall, wide],
            WINDOW,
            cameras=CAMERAS,
            fields=(),
            batch_size=2,
            seed=0,
            config=LoaderConfig(),
            device=torch.device("cpu"),
        )
