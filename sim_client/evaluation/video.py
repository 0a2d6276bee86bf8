"""A video that grows with its episode, and plays even if the process is killed in the middle.

Each frame is a fragment of its own, with the index that a player needs; an ordinary mp4 has its one
index at the end, and is nothing without it. OpenCV's writer cannot do that, so PyAV does.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# H.264 plays in every browser, VP9 in most; PyAV's own wheels have both.
_CODECS = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency", "crf": "20"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "30"},
}
_FRAGMENTED = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
_SECONDS_BETWEEN_KEY_FRAMES = 2

Image = npt.NDArray[np.uint8]


class VideoWriter:
    """Writes (H, W, 3) RGB frames, all of one size, into an mp4 that is there from the first one.

    Raises OSError where the disk is full, or no codec is to be had.
    """

    def __init__(self, path: Path, *, frame_rate_hz: float) -> None:
        self._path = path
        self._rate = Fraction(frame_rate_hz).limit_denominator(1000)
        self._file = path.open("wb")
        self._container: Any = None
        self._stream: Any = None

    def write(self, frame: Image) -> None:
        import av

        if self._container is None:
            self._open(frame)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder still holds."""
        try:
            if self._container is not None:
                self._mux(self._stream.encode(None))
                self._container.close()
        finally:
            self._container = None
            self._file.close()

    def _open(self, frame: Image) -> None:
        import av
        from av.codec import codecs_available

        height, width = frame.shape[:2]
        name = next((name for name in _CODECS if name in codecs_available), None)
        if name is None:
            raise OSError(f"{self._path}: PyAV has none of {', '.join(_CODECS)}; leave out --video")
        self._container = av.open(self._file, "w", format="mp4", options=_FRAGMENTED)
        interval = round(self._rate * _SECONDS_BETWEEN_KEY_FRAMES)
        options = {**_CODECS[name], "g": str(interval)}
        self._stream = self._container.add_stream(name, rate=self._rate, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)
        # Through Python's file, which says so when the disk is full.
        self._file.flush()


def side_by_side(images: list[Image]) -> Image:
    """RGB images of any sizes as one, of their greatest height, with even sides."""
    import cv2

    height = max(image.shape[0] for image in images)
    height += height % 2
    scaled = [
        cv2.resize(image, (max(1, round(image.shape[1] * height / image.shape[0])), height))
        for image in images
    ]
    frame = np.concatenate(scaled, axis=1)
    if frame.shape[1] % 2:
        frame = np.pad(frame, ((0, 0), (0, 1), (0, 0)))
    return np.ascontiguousarray(frame, dtype=np.uint8)
