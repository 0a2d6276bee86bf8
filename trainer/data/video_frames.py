"""Frames of a video at given times, in any order, each exactly the one that lies there.

A video decodes forwards from its key frames alone. A frame is reached from the nearest key frame at
or before it, or from where the decoder stands if that is nearer. A few videos stay open, so that
the windows of one episode need not open its videos again.

Axes: N frame, H W image.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.locations import Location

MAX_OPEN_VIDEOS = 16

# Within this a frame counts as the one asked for, without a look at the next: time stamps are sums
# of durations in a video's own unit, often 1/90000 s or finer.
_SAME_TIME_S = 1e-4
# How far back to look for a key frame when the nearest by decoding time is shown too late.
_FIRST_STEP_BACK_S = 1.0


def read_video_frames(
    video: Location, times_s: Sequence[float], *, tolerance_s: float, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """(N, H, W, 3) RGB of the frames nearest to the times, in the order asked.

    tolerance_s: how far away a frame may lie, half a frame's duration at most. size: (H, W).
    Raises DataError for a video that is missing, corrupt, too short or of another size.
    """
    frames = np.empty((len(times_s), *size, 3), np.uint8)
    if not times_s:
        return frames
    opened = _open(video)
    with opened.lock:
        for place in sorted(range(len(times_s)), key=lambda place: times_s[place]):
            image = opened.image_at(times_s[place], tolerance_s)
            if image.shape[:2] != size:
                raise DataError(
                    f"expected frames of {size[1]}x{size[0]}, got "
                    f"{image.shape[1]}x{image.shape[0]}",
                    where=video,
                )
            frames[place] = image
    return frames


class _OpenVideo:
    """A decoder and where it stands. Used under its lock, since its position is its own."""

    def __init__(self, path: Path, where: Location) -> None:
        self.lock = threading.Lock()
        self._where = where
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            raise DataError(f"cannot be read as a video: {error}", where=where) from error
        # Windows want single frames, for which threads that decode ahead are in vain.
        self._stream.codec_context.thread_count = 1
        self._seconds = float(self._stream.time_base or 0)
        if self._seconds <= 0:
            raise DataError("the video has no unit of time", where=where)
        keys = [entry.timestamp for entry in self._stream.index_entries if entry.is_keyframe]
        self._key_times_s = np.array(keys, dtype=np.float64) * self._seconds
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._last: av.VideoFrame | None = None

    def image_at(self, time_s: float, tolerance_s: float) -> npt.NDArray[np.uint8]:
        """(H, W, 3). Raises DataError where no frame is near or the video is corrupt."""
        try:
            image = self._nearest(time_s, tolerance_s).to_ndarray(format="rgb24")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._last = None
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"cannot be decoded at {time_s:.4f} s: {error}", where=self._where
            ) from error
        return np.asarray(image, dtype=np.uint8)

    def _nearest(self, time_s: float, tolerance_s: float) -> av.VideoFrame:
        if self._last is None or not self._reaches(time_s):
            self._seek(time_s, tolerance_s)
        before = self._last
        while self._last is not None and self._time(self._last) < time_s - _SAME_TIME_S:
            before = self._last
            self._last = next(self._frames, None)
        near = [frame for frame in (before, self._last) if frame is not None]
        best = min(near, key=lambda frame: abs(self._time(frame) - time_s), default=None)
        if best is None or abs(self._time(best) - time_s) > tolerance_s:
            told = "it has no frame before" if before is None else self._told(before)
            raise DataError(f"no frame at {time_s:.4f} s: {told}", where=self._where)
        return best

    def _told(self, frame: av.VideoFrame) -> str:
        kind = "its last one is" if self._last is None else "the nearest is"
        return f"{kind} at {self._time(frame):.4f} s"

    def _reaches(self, time_s: float) -> bool:
        """Whether to go on from here: the frame lies ahead, and no key frame is nearer to it."""
        assert self._last is not None
        here = self._time(self._last)
        if time_s < here - _SAME_TIME_S:
            return False
        nearer = (self._key_times_s > here + _SAME_TIME_S) & (self._key_times_s <= time_s)
        return not nearer.any()

    def _seek(self, time_s: float, tolerance_s: float) -> None:
        """To a frame at or before the time. Where frames are shown in another order than they are
        decoded, the container's nearest key frame may be shown too late: then farther back."""
        start, back_s = time_s, _FIRST_STEP_BACK_S
        while True:
            offset = max(round(start / self._seconds), 0)
            self._container.seek(offset, stream=self._stream, backward=True, any_frame=False)
            self._frames = (
                frame for frame in self._container.decode(self._stream) if frame.pts is not None
            )
            self._last = next(self._frames, None)
            late = self._last is None or self._time(self._last) > time_s + tolerance_s
            if not late or offset == 0:
                return
            start, back_s = start - back_s, 2 * back_s

    def _time(self, frame: av.VideoFrame) -> float:
        assert frame.pts is not None
        return frame.pts * self._seconds


# By process, since a forked one would share the files' positions with its parent.
_videos: OrderedDict[tuple[int, str, int, int], _OpenVideo] = OrderedDict()
_videos_lock = threading.Lock()


def _open(video: Location) -> _OpenVideo:
    try:
        path = video.local()
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError("no such video", where=video) from error
    key = (os.getpid(), str(path), status.st_size, status.st_mtime_ns)
    with _videos_lock:
        if key in _videos:
            _videos.move_to_end(key)
            return _videos[key]
    opened = _OpenVideo(path, video)
    with _videos_lock:
        opened = _videos.setdefault(key, opened)
        while len(_videos) > MAX_OPEN_VIDEOS:
            _videos.popitem(last=False)
    return opened
