"""Random access to a video's frames, in the ways that encoders order them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.video_frames import MAX_OPEN_VIDEOS, read_video_frames

RATE_HZ = 15
NUM_FRAMES = 45
SIZE = (32, 64)
ENCODINGS = {
    "one key frame, frames in another order": {"g": "1000", "bf": "3", "sc_threshold": "0"},
    "a key frame every twelfth, frames in another order": {"g": "12", "bf": "2"},
    "a key frame every second": {"g": "2", "bf": "0"},
}


def encode(path: Path, options: dict[str, str], numbers: range = range(NUM_FRAMES)) -> Location:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in numbers:
            row = np.repeat(np.where((number >> np.arange(8)) & 1, 235, 20), SIZE[1] // 8)
            image = np.broadcast_to(row[None, :, None], (*SIZE, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number - numbers[0], Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Location.parse(path)


def numbers_at(video: Location, steps: list[int]) -> list[int]:
    times = [step / RATE_HZ for step in steps]
    frames = read_video_frames(video, times, tolerance_s=0.5 / RATE_HZ, size=SIZE)
    bits = frames[:, 16, 4::8, :].mean(axis=-1) > 128
    return [int((row << np.arange(8)).sum()) for row in bits]


@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_every_frame_in_any_order(tmp_path: Path, options: dict[str, str]) -> None:
    video = encode(tmp_path / "video.mp4", options)
    steps = list(range(NUM_FRAMES))
    assert numbers_at(video, steps) == steps
    for step in reversed(steps):
        assert numbers_at(video, [step]) == [step]
    random = np.random.default_rng(0)
    for _ in range(60):
        some = random.integers(NUM_FRAMES, size=int(random.integers(1, 5))).tolist()
        assert numbers_at(video, some) == some


def test_times_need_not_be_exact(tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", {"g": "2"})
    for offset in (-0.4, -0.1, 0.1, 0.4):
        times = [(step + offset) / RATE_HZ for step in (1, 20, 7)]
        frames = read_video_frames(video, times, tolerance_s=0.5 / RATE_HZ, size=SIZE)
        bits = frames[:, 16, 4::8, :].mean(axis=-1) > 128
        assert [int((row << np.arange(8)).sum()) for row in bits] == [1, 20, 7]


def test_time_beyond_the_video_is_an_error_and_leaves_it_usable(tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", {"g": "12"})
    for step in (NUM_FRAMES, NUM_FRAMES + 100, -3):
        with pytest.raises(DataError, match=r"video\.mp4: no frame at"):
            numbers_at(video, [step])
        assert numbers_at(video, [NUM_FRAMES - 1, 0]) == [NUM_FRAMES - 1, 0]


def test_frames_of_another_size_are_an_error(tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", {})
    with pytest.raises(DataError, match=r"expected frames of 32x32, got 64x32"):
        read_video_frames(video, [0.0], tolerance_s=0.1, size=(32, 32))


def test_video_written_anew_is_read_anew(tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", {"g": "2"})
    assert numbers_at(video, [5]) == [5]
    encode(tmp_path / "video.mp4", {"g": "2"}, range(50, 80))
    assert numbers_at(video, [5]) == [55]


def test_more_videos_than_stay_open(tmp_path: Path) -> None:
    videos = [
        encode(tmp_path / f"{first}.mp4", {"g": "2"}, range(first, first + 3))
        for first in range(MAX_OPEN_VIDEOS + 4)
    ]
    for _ in range(2):
        for first, video in enumerate(videos):
            assert numbers_at(video, [2]) == [first + 2]
