"""Frames as JPEG and PNG files, the way that data sets store them.

A frame that is JPEG already is copied byte for byte: to decode and encode it again would lose
quality and time. It is decoded only where it must be made smaller.

Axes: H W image.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from policy_interface.contract import ImageSize
from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Episode
from trainer.data.errors import DataError

_JPEG_START = b"\xff\xd8"
_PNG_START = b"\x89PNG"
# As many as Pillow takes of a PNG: a few bytes can claim gigabytes.
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)

_HALVED_CHROMA_FROM_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How frames are stored.

    encoding: of frames that are not encoded yet; png loses nothing. quality: of JPEG, 1 to 100.
    size: that they are resized to, whatever their shape; None keeps theirs.
    """

    encoding: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95
    size: ImageSize | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise DataError(f"JPEG quality: expected 1 to 100, got {self.quality}")

    def to_json(self) -> Mapping[str, Any]:
        return {
            "encoding": self.encoding,
            "quality": self.quality,
            "size": str(self.size) if self.size else None,
        }

    def stored_size(self, camera: Camera) -> tuple[int, int]:
        """(H, W)."""
        if self.size is None:
            return camera.height, camera.width
        return self.size.height, self.size.width

    def copies(self, camera: Camera) -> bool:
        """Whether the source's files are stored as they are."""
        same_size = self.stored_size(camera) == (camera.height, camera.width)
        return same_size and camera.encoding in ("jpeg", self.encoding)

    def stored_encoding(self, camera: Camera) -> Literal["jpeg", "png"]:
        return "jpeg" if self.copies(camera) and camera.encoding == "jpeg" else self.encoding


def files_to_store(
    episode: Episode, camera: str, steps: Sequence[int], settings: ImageSettings
) -> list[bytes]:
    """The frames of these steps as JPEG or PNG files. Raises DataError naming the episode."""
    description = episode.description
    source = description.cameras[camera]
    if settings.copies(source):
        files = episode.encoded_frames(camera, steps)
        if files is not None:
            _check_files(files, episode, camera, steps)
            return files
    frames = episode.frames(camera, steps)
    expected = (len(steps), source.height, source.width, 3)
    if frames.shape != expected or frames.dtype != np.uint8:
        raise DataError(
            f"camera {camera!r}: expected {expected} of uint8, "
            f"got {frames.shape} of {frames.dtype}",
            episode=description.episode_id,
        )
    return [_encode(frame, settings) for frame in frames]


def _check_files(files: list[bytes], episode: Episode, camera: str, steps: Sequence[int]) -> None:
    """Decodes what is copied: a corrupt frame is better found now than in a night's training."""
    source = episode.description.cameras[camera]
    if len(files) != len(steps):
        raise DataError(
            f"camera {camera!r}: expected {len(steps)} frames, got {len(files)}",
            episode=episode.description.episode_id,
        )
    for step, data in zip(steps, files, strict=True):
        try:
            shape = decode_image(data).shape
        except DataError as error:
            message = str(error)
        else:
            if shape == (source.height, source.width, 3):
                continue
            message = f"expected {source.width}x{source.height}, got {shape[1]}x{shape[0]}"
        raise DataError(
            f"camera {camera!r}, step {step}: {message}", episode=episode.description.episode_id
        )


def decode_frames(
    files: Iterable[bytes | memoryview], steps: Sequence[int], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """(len(steps), H, W, 3) RGB of the JPEG or PNG files of these steps. size: (H, W).

    Raises DataError naming the step of a file that is corrupt or of another size.
    """
    frames: npt.NDArray[np.uint8] | None = None
    for place, (step, data) in enumerate(zip(steps, files, strict=True)):
        try:
            image = decode_image(data)
        except DataError as error:
            raise DataError(f"step {step}: {error}") from error
        if image.shape[:2] != size:
            raise DataError(
                f"step {step}: expected {size[1]}x{size[0]}, got {image.shape[1]}x{image.shape[0]}"
            )
        if frames is None:
            # Not before a frame proved that the size is more than somebody's word.
            frames = np.empty((len(steps), *image.shape), np.uint8)
        frames[place] = image
    return np.empty((0, *size, 3), np.uint8) if frames is None else frames


def decode_image(data: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG or PNG file. Raises DataError for anything else."""
    start = bytes(data[:4])
    try:
        if start.startswith(_JPEG_START):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            if int(height) * int(width) > _MAX_PIXELS:
                raise ValueError(f"{width}x{height} is more than {_MAX_PIXELS} pixels")
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        if start == _PNG_START:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"corrupt image: {error}") from error
    raise DataError(f"expected a JPEG or PNG file, got one that begins with {start!r}")


def image_size(data: bytes | memoryview) -> tuple[int, int]:
    """(H, W) of a JPEG or PNG file, from its header alone. Raises DataError."""
    start = bytes(data[:4])
    try:
        if start.startswith(_JPEG_START):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            return int(height), int(width)
        if start == _PNG_START:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"corrupt image: {error}") from error
    raise DataError(f"expected a JPEG or PNG file, got one that begins with {start!r}")


def resized_intrinsics(matrices: FloatArray, source: Camera, size: tuple[int, int]) -> FloatArray:
    """(..., 3, 3) for frames of another size (H, W). A pixel's centre has whole coordinates, as in
    Drake and OpenCV, so the image begins at -0.5."""
    scale_y, scale_x = size[0] / source.height, size[1] / source.width
    if scale_x == scale_y == 1.0:
        return matrices
    scaling = np.array(
        [
            [scale_x, 0.0, 0.5 * scale_x - 0.5],
            [0.0, scale_y, 0.5 * scale_y - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    return scaling @ matrices


def resize_image(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) to another (H, W), without cropping."""
    if frame.shape[:2] == size:
        return frame
    height, width = size
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _encode(frame: npt.NDArray[np.uint8], settings: ImageSettings) -> bytes:
    if settings.size is not None:
        frame = resize_image(frame, (settings.size.height, settings.size.width))
    buffer = io.BytesIO()
    if settings.encoding == "jpeg":
        # Halved chroma, as cameras and the wire have it, and Huffman tables of the frame's own: a
        # third fewer bytes, and read a quarter faster. Twice the time to write, which is once.
        # Not in small frames, where the edge of a red box is most of the box.
        subsampling = "4:2:0" if min(frame.shape[:2]) >= _HALVED_CHROMA_FROM_SIDE else "4:4:4"
        Image.fromarray(frame).save(
            buffer, "JPEG", quality=settings.quality, subsampling=subsampling, optimize=True
        )
    else:
        Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()
