"""Pixels as a message carries them: raw, as JPEG or as PNG.

Raw needs nothing. JPEG takes `simplejpeg` and PNG `pillow`, which the extra `images` installs; both
let other threads run while they work. A message is hostile until it is decoded: what an image says
of its size is compared with what the message says, and with a limit, before any pixel is made.
"""

from __future__ import annotations

import ctypes
import io
import math
import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.types import InvalidValueError

Encoding = Literal["raw", "jpeg", "png"]

DEFAULT_JPEG_QUALITY = 95

# 4096 x 4096: four times what LBM Eval's largest camera gives, and no more than 50 MB of RGB.
MAX_IMAGE_PIXELS = 1 << 24

# Rows that begin at a multiple of this many bytes, the width of an AVX2 register, libjpeg-turbo
# writes past the caches. Decoding an image of 224x224 takes half as long again then, and malloc
# returns such an address every other time.
_PAST_CACHES_BYTES = 32

_INSTALL = "pip install '.[images]' in Assay's checkout"
_PNG_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"

_DTYPES: Mapping[int, np.dtype[Any]] = {
    PolicyStep_pb2.DTYPE_UINT8: np.dtype("uint8"),
    PolicyStep_pb2.DTYPE_INT8: np.dtype("int8"),
    PolicyStep_pb2.DTYPE_UINT16: np.dtype("<u2"),
    PolicyStep_pb2.DTYPE_INT16: np.dtype("<i2"),
}
_WIRE_DTYPES = {dtype: number for number, dtype in _DTYPES.items()}


class MissingCodecError(RuntimeError):
    """An image codec that is not installed here."""


def encode_image(
    pixels: npt.NDArray[Any], encoding: Encoding = "raw", *, quality: int = DEFAULT_JPEG_QUALITY
) -> PolicyStep_pb2.Image:
    """(H, W) or (H, W, C) of uint8, int8, uint16 or int16.

    jpeg takes uint8 of 1 or 3 channels; png that, and 1 channel of 16 bits. quality: of JPEG, 1 to
    100. Raises InvalidValueError, and MissingCodecError.
    """
    dtype = pixels.dtype.newbyteorder("<") if pixels.dtype.itemsize > 1 else pixels.dtype
    if dtype not in _WIRE_DTYPES or pixels.ndim not in (2, 3):
        raise InvalidValueError(
            f"image: expected (H, W[, C]) of 8 or 16 bit integers, "
            f"got {pixels.shape} of {pixels.dtype}"
        )
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    pixels = pixels.astype(dtype, copy=False).reshape(height, width, channels)
    if encoding == "raw":
        compression, data = PolicyStep_pb2.NONE, pixels.tobytes()
    elif encoding == "jpeg":
        compression, data = PolicyStep_pb2.JPG, _to_jpeg(pixels, quality)
    else:
        compression, data = PolicyStep_pb2.PNG, _to_png(pixels)
    return PolicyStep_pb2.Image(
        height=height,
        width=width,
        channels=channels,
        data=data,
        dtype=_WIRE_DTYPES[dtype],  # pyright: ignore[reportArgumentType]
        compression=compression,
    )


def decode_image(message: PolicyStep_pb2.Image, name: str) -> npt.NDArray[Any]:
    """(H, W, C), read-only.

    name: of the image, for errors. Raises InvalidValueError, and MissingCodecError.
    """
    # Protobuf copies the data each time that it is asked for them.
    data = message.data
    if message.compression == PolicyStep_pb2.NONE:
        return array_of(message, data, name)
    check_image(message, len(data), name)
    decode = _from_jpeg if message.compression == PolicyStep_pb2.JPG else _from_png
    pixels = decode(message, data, name)
    pixels.flags.writeable = False
    return pixels


def array_of(
    message: PolicyStep_pb2.Image, data: bytes | memoryview, name: object
) -> npt.NDArray[Any]:
    """The raw pixels `data` as (H, W, C), a read-only view.

    name: what the image is called in errors. Raises InvalidValueError.
    """
    shape = height, width, channels = message.height, message.width, message.channels
    is_usual = (
        message.dtype == message.compression == 0
        and height > 0
        and width > 0
        and channels > 0
        and height * width <= MAX_IMAGE_PIXELS
        and height * width * channels == len(data)
    )
    if not is_usual:
        # What is wrong with it, or unusual, is said where every image is checked.
        check_image(message, len(data), name)
    pixels: npt.NDArray[Any] = np.ndarray(shape, _DTYPES[message.dtype], data)
    return pixels


def check_image(message: PolicyStep_pb2.Image, num_bytes: int, name: object) -> None:
    """All that can be said of an image of so many bytes undecoded. Raises InvalidValueError."""
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidValueError(f"{name}: unknown dtype {message.dtype}, expected 0 to 3")
    height, width, channels = message.height, message.width, message.channels
    if min(height, width, channels) < 1:
        raise InvalidValueError(
            f"{name}: expected a positive height, width and channels, "
            f"got {(height, width, channels)}"
        )
    if height * width > MAX_IMAGE_PIXELS:
        raise InvalidValueError(
            f"{name}: {width}x{height} is more than the {MAX_IMAGE_PIXELS} pixels allowed"
        )
    compression = message.compression
    if compression == PolicyStep_pb2.NONE:
        expected = height * width * channels * dtype.itemsize
        if num_bytes != expected:
            raise InvalidValueError(
                f"{name}: {(height, width, channels)} of {dtype.name} takes {expected} bytes, "
                f"got {num_bytes}"
            )
    elif compression == PolicyStep_pb2.JPG:
        if dtype != np.uint8 or channels not in (1, 3):
            raise InvalidValueError(
                f"{name}: JPEG holds 1 or 3 channels of uint8, got {channels} of {dtype.name}"
            )
    elif compression == PolicyStep_pb2.PNG:
        if dtype == np.int8 or (channels not in (1, 3) if dtype == np.uint8 else channels != 1):
            raise InvalidValueError(
                f"{name}: PNG holds 1 or 3 channels of uint8 or 1 of 16 bits, "
                f"got {channels} of {dtype.name}"
            )
    else:
        raise InvalidValueError(f"{name}: unknown compression {compression}, expected 0 to 2")


def num_decoded_bytes(message: PolicyStep_pb2.Image, name: object) -> int:
    """What a compressed image takes when it is decoded, by the size that the message says it has:
    `decode_image` decodes none of another. Raises InvalidValueError, as `check_image`.
    """
    # Of what is compressed, the number of bytes says nothing.
    check_image(message, 0, name)
    itemsize = _DTYPES[message.dtype].itemsize
    return message.height * message.width * message.channels * itemsize


def check_header(message: PolicyStep_pb2.Image, name: str) -> None:
    """As `check_image`, and that what is compressed begins as an image of this size does.

    Raises InvalidValueError, and MissingCodecError.
    """
    data = message.data
    check_image(message, len(data), name)
    if message.compression == PolicyStep_pb2.JPG:
        _require_jpeg_size(message, data, name)
    elif message.compression == PolicyStep_pb2.PNG:
        # The signature, and a first chunk IHDR: length, name, width, height.
        if data[:16] != _PNG_START or len(data) < 24:
            raise InvalidValueError(f"{name}: corrupt PNG: it does not begin as one")
        width, height = struct.unpack(">II", data[16:24])
        _require_size(message, height, width, name)


def _to_jpeg(pixels: npt.NDArray[Any], quality: int) -> bytes:
    channels = pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in (1, 3):
        raise InvalidValueError(
            f"image: JPEG takes (H, W), (H, W, 1) or (H, W, 3) of uint8, "
            f"got {pixels.shape} of {pixels.dtype}"
        )
    if not 1 <= quality <= 100:
        raise InvalidValueError(f"quality: expected 1 to 100, got {quality}")
    return _simplejpeg().encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=quality,
        colorspace="RGB" if channels == 3 else "GRAY",
        # Halved chroma costs a policy nothing that it saw, and a third of the bytes and the time.
        colorsubsampling="420" if channels == 3 else "GRAY",
        fastdct=True,
    )


def _from_jpeg(message: PolicyStep_pb2.Image, data: bytes, name: str) -> npt.NDArray[Any]:
    shape = message.height, message.width, message.channels
    try:
        # Where the image is larger than the message says, nothing is decoded: there is no room.
        pixels = _simplejpeg().decode_jpeg(
            data,
            colorspace="RGB" if shape[2] == 3 else "GRAY",
            fastdct=True,
            fastupsample=True,
            buffer=_room_in_cache(math.prod(shape)),
        )
    # The decoder has one error for whatever is wrong with the data, and numpy's for its sizes.
    except (ValueError, RuntimeError, MemoryError, OverflowError) as error:
        _require_jpeg_size(message, data, name)
        raise InvalidValueError(f"{name}: corrupt JPEG: {error}") from error
    if pixels.shape != shape:
        _require_jpeg_size(message, data, name)
    return pixels


def _require_jpeg_size(message: PolicyStep_pb2.Image, data: bytes, name: str) -> None:
    """Looks at the header alone."""
    try:
        height, width, *_ = _simplejpeg().decode_jpeg_header(data)
    except (ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{name}: corrupt JPEG: {error}") from error
    _require_size(message, height, width, name)


def _room_in_cache(num_bytes: int) -> npt.NDArray[np.uint8]:
    """Memory where JPEG is decoded through the caches, see _PAST_CACHES_BYTES."""
    room = np.empty(num_bytes + _PAST_CACHES_BYTES, dtype=np.uint8)
    # A fifth of the time that numpy takes to say it.
    address = ctypes.addressof(ctypes.c_char.from_buffer(room.data))
    start = (_PAST_CACHES_BYTES // 2 - address) % _PAST_CACHES_BYTES
    return room[start : start + num_bytes]


def _to_png(pixels: npt.NDArray[Any]) -> bytes:
    image_module = _pillow()
    channels = pixels.shape[2]
    is_deep = pixels.dtype.itemsize == 2
    if pixels.dtype == np.int8 or channels not in ((1,) if is_deep else (1, 3)):
        raise InvalidValueError(
            f"image: PNG takes 1 or 3 channels of uint8 or 1 of 16 bits, "
            f"got {pixels.shape} of {pixels.dtype}"
        )
    plane = pixels if channels == 3 else pixels[:, :, 0]
    stream = io.BytesIO()
    # Level 1: a third of the time of the usual level, for a tenth more bytes.
    image_module.fromarray(plane.view("<u2") if is_deep else plane).save(
        stream, format="PNG", compress_level=1
    )
    return stream.getvalue()


def _from_png(message: PolicyStep_pb2.Image, data: bytes, name: str) -> npt.NDArray[Any]:
    image_module = _pillow()
    dtype = _DTYPES[message.dtype]
    expected_modes = {(1, 3): ("RGB",), (1, 1): ("L",), (2, 1): ("I;16",)}
    modes = expected_modes[dtype.itemsize, message.channels]
    try:
        with image_module.open(io.BytesIO(data), formats=("PNG",)) as image:
            _require_size(message, image.height, image.width, name)
            if image.mode not in modes:
                raise InvalidValueError(
                    f"{name}: the PNG is of mode {image.mode}, the message says "
                    f"{message.channels} channel(s) of {dtype.name} ({modes[0]})"
                )
            pixels = np.array(image)
    except InvalidValueError:
        raise
    # Pillow raises whatever its many chunk readers raise for data that is not theirs.
    except Exception as error:
        raise InvalidValueError(f"{name}: corrupt PNG: {error}") from error
    return pixels.view(dtype).reshape(message.height, message.width, message.channels)


def _require_size(message: PolicyStep_pb2.Image, height: int, width: int, name: str) -> None:
    if (height, width) != (message.height, message.width):
        raise InvalidValueError(
            f"{name}: the image is {width}x{height}, the message says "
            f"{message.width}x{message.height}"
        )


def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ModuleNotFoundError as error:
        raise MissingCodecError(f"JPEG needs simplejpeg: {_INSTALL}") from error
    return simplejpeg


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingCodecError(f"PNG needs pillow: {_INSTALL}") from error
    return Image
