"""Videos of frames, and several videos made one without encoding them again.

Axes: H W image.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError

VideoCodec = Literal["h264", "av1"]

_ENCODERS = {"h264": "libx264", "av1": "libsvtav1"}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Of the same look: the scales of the two codecs differ.
_QUALITIES = {"h264": 18, "av1": 24}


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """codec: h264 is decoded everywhere and encodes fast; av1 is smaller.

    quality: the encoder's constant rate factor, smaller is better; None takes one that is hard to
    tell from the source. key_frame_every: a frame is reached from the key frame before it, so few
    frames between them make random access fast, and the file larger.
    """

    codec: VideoCodec = "h264"
    quality: int | None = None
    key_frame_every: int = 2

    def __post_init__(self) -> None:
        most = 51 if self.codec == "h264" else 63
        if not 0 <= self.constant_rate_factor <= most:
            raise DataError(f"quality of {self.codec}: expected 0 to {most}, got {self.quality}")
        if self.key_frame_every < 1:
            raise DataError(f"key_frame_every: expected 1 or more, got {self.key_frame_every}")

    @property
    def constant_rate_factor(self) -> int:
        return _QUALITIES[self.codec] if self.quality is None else self.quality

    def encoder_options(self) -> Mapping[str, str]:
        options = {"g": str(self.key_frame_every), "crf": str(self.constant_rate_factor)}
        if self.codec == "h264":
            # Frames in the order they are shown, so that videos can follow one another; one thread,
            # since a conversion encodes as many videos at once as there are cores.
            return {**options, "bf": "0", "preset": "veryfast", "threads": "1"}
        return {**options, "preset": "8", "svtav1-params": "lp=1:pred-struct=1"}


def encode_video(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    *,
    rate_hz: float,
    size: tuple[int, int],
    settings: VideoSettings,
) -> None:
    """frames: (H, W, 3) RGB, of even sides. Raises DataError where the encoder refuses, and OSError
    where the file cannot be written."""
    # SVT-AV1 else tells of each video in twenty lines; a user who set this wants to hear.
    os.environ.setdefault("SVT_LOG", "1")
    rate = Fraction(rate_hz).limit_denominator(1001)
    encoder = _ENCODERS[settings.codec]
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream(encoder, rate, options=dict(settings.encoder_options()))
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            with _own_scheduling():
                container.start_encoding()
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        if error.errno in _DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        told = f"{encoder} cannot encode {size[1]}x{size[0]} at {rate} Hz: {error}"
        raise DataError(told) from error


@contextmanager
def _own_scheduling() -> Iterator[None]:
    """Root's SVT-AV1 makes the thread that opens it one of real time, for good: all that it starts
    later would go before every other program, and a busy one would never let go of its core."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def join_videos(
    path: Path, parts: Sequence[Path], num_frames: Sequence[int]
) -> list[tuple[float, float]]:
    """One after the other, as they are encoded. Returns when each begins and ends, in seconds."""
    spans: list[tuple[float, float]] = []
    with av.open(str(path), "w", format="mp4") as container:
        stream, offset = None, 0
        for part, frames in zip(parts, num_frames, strict=True):
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                assert video.time_base is not None
                assert video.average_rate is not None
                if stream is None:
                    stream = container.add_stream_from_template(video, opaque=True)
                length = round(frames / video.average_rate / video.time_base)
                begin, end = offset * video.time_base, (offset + length) * video.time_base
                spans.append((float(begin), float(end)))
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    container.mux(packet)
                offset += length
    return spans
