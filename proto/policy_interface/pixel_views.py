"""Raw pixels as they lie in a serialized request: looked at there, never copied.

Protobuf copies a bytes field each time that it is asked for: with four cameras, half a megabyte a
step, from memory that no cache holds any more. Here the request's own bytes are walked once, from
field to field, to where the pixels are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from policy_interface.codec import ImageKey
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import array_of

_Span = tuple[int, int]

_OBSERVATION_IN_REQUEST = (PolicyStep_pb2.PolicyStepRequest.OBSERVATION_FIELD_NUMBER,)
_OBSERVATION_IN_STREAM = (
    PolicySession_pb2.EpisodeRequest.STEP_FIELD_NUMBER,
    PolicySession_pb2.EpisodeStep.OBSERVATION_FIELD_NUMBER,
)
_CAMERAS = PolicyStep_pb2.MultiarmObservation.VISUO_FIELD_NUMBER
_PIXELS_IN_CAMERA = (
    PolicyStep_pb2.CameraImageSet.CAMERA_RGB_FIELD_NUMBER,
    PolicyStep_pb2.CameraImage.IMAGE_FIELD_NUMBER,
    PolicyStep_pb2.Image.DATA_FIELD_NUMBER,
)


class _UnusualError(Exception):
    """Bytes that protobuf may read otherwise than they look: a field given twice, or a group."""


def request_pixels(
    data: bytes, message: PolicyStep_pb2.MultiarmObservation
) -> dict[ImageKey, npt.NDArray[Any]]:
    """The raw RGB images of a PolicyStepRequest, (H, W, C), read-only.

    data: the serialized request. message: its observation, as protobuf parsed it. Empty where the
    bytes are unusual: then `decode_image` does it. Raises InvalidValueError as that does.
    """
    return _pixels(data, message, _OBSERVATION_IN_REQUEST)


def stream_pixels(
    data: bytes, message: PolicyStep_pb2.MultiarmObservation
) -> dict[ImageKey, npt.NDArray[Any]]:
    """As `request_pixels`, of an EpisodeRequest that is a step."""
    return _pixels(data, message, _OBSERVATION_IN_STREAM)


def _pixels(
    data: bytes, message: PolicyStep_pb2.MultiarmObservation, path: tuple[int, ...]
) -> dict[ImageKey, npt.NDArray[Any]]:
    images = [
        (camera.camera_serial, camera.camera_rgb.image) if camera.has_rgb else None
        for camera in message.visuo
    ]
    if not any(image and image[1].compression == PolicyStep_pb2.NONE for image in images):
        return {}
    try:
        cameras = list(_fields(data, _descended(data, (0, len(data)), path), _CAMERAS))
        if len(cameras) != len(images):
            return {}
        pixels = {}
        for span, image in zip(cameras, images, strict=True):
            if image is not None and image[1].compression == PolicyStep_pb2.NONE:
                start, end = _descended(data, span, _PIXELS_IN_CAMERA)
                key = ImageKey(image[0], "rgb")
                pixels[key] = array_of(image[1], memoryview(data)[start:end], str(key))
        return pixels
    except (_UnusualError, IndexError):
        return {}


def _descended(data: bytes, span: _Span, path: tuple[int, ...]) -> _Span:
    for number in path:
        found = list(_fields(data, span, number))
        if len(found) != 1:
            raise _UnusualError
        span = found[0]
    return span


def _fields(data: bytes, span: _Span, number: int) -> Iterator[_Span]:
    """Where the values of a length-delimited field lie in a message that fills `span`.

    The bytes are those of a message that protobuf has parsed, so what is walked over is well
    formed; what is not read here is not checked here. See protobuf.dev/programming-guides/encoding.
    """
    position, end = span
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1)
        wire_type = tag & 7
        if wire_type == 2:
            length = data[position]
            position += 1
            if length >= 0x80:
                length, position = _varint(data, position - 1)
            if tag >> 3 == number:
                yield position, position + length
            position += length
        elif wire_type == 0:
            while data[position] >= 0x80:
                position += 1
            position += 1
        elif wire_type == 1:
            position += 8
        elif wire_type == 5:
            position += 4
        else:
            raise _UnusualError
    if position != end:
        raise _UnusualError


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where the next thing is."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise _UnusualError
