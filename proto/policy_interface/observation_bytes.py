"""An observation as the bytes of its message, with each pixel copied once.

The message that the codec builds holds an image inside an image's message inside a camera's, and
protobuf copies all of it at each level and again to serialise it: for four cameras of 224x224 that
takes longer than the call itself. Here only the small parts are messages, and the pixels go
straight into the request. The bytes parse to what the codec would have built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from policy_interface.codec import ROBOT_VERSION, encode_pose, encode_state, encode_time
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding, encode_image
from policy_interface.shared_work import shared
from policy_interface.types import CameraView, Observation

_Kind = Literal["rgb", "depth", "label"]

# What CameraView makes sure of.
_DTYPES: Mapping[_Kind, PolicyStep_pb2.ImageDtype] = {
    "rgb": PolicyStep_pb2.DTYPE_UINT8,
    "depth": PolicyStep_pb2.DTYPE_UINT16,
    "label": PolicyStep_pb2.DTYPE_INT16,
}

# Of JPEG, from so many on, fewer than four cameras of 224x224 have, other threads help; and from so
# many on, 1 to 2 ms of work, an event loop's thread does something else meanwhile.
_MANY_PIXELS = 150_000
_TOO_MANY_PIXELS = 300_000
# A pixel of PNG takes as long as so many of JPEG.
_PNG_FACTOR = 40

# As many as a station has cameras, about; each encodes one image at a time.
_MAX_THREADS = 4
_NUM_HELPERS = min(_MAX_THREADS, os.cpu_count() or 1) - 1

_IMAGE = PolicyStep_pb2.Image
_CAMERA_IMAGE = PolicyStep_pb2.CameraImage
_CAMERA = PolicyStep_pb2.CameraImageSet
_IMAGE_FIELDS: Mapping[_Kind, int] = {
    "rgb": _CAMERA.CAMERA_RGB_FIELD_NUMBER,
    "depth": _CAMERA.CAMERA_DEPTH_FIELD_NUMBER,
    "label": _CAMERA.CAMERA_LABEL_FIELD_NUMBER,
}


class MessageBytes:
    """The bytes of a message in parts that are joined once: fields may come in any order."""

    def __init__(self, fields: Message | None = None) -> None:
        """fields: some of them, as a message of the same type."""
        self.size = 0
        self._parts: list[bytes | memoryview] = []
        if fields is not None:
            self._append(fields.SerializeToString())

    def add(self, field_number: int, value: MessageBytes | bytes | memoryview) -> None:
        """A field that is a message, or bytes."""
        size = value.size if isinstance(value, MessageBytes) else len(value)
        # A field begins with its number and its wire type: 2, "its length, then so many bytes".
        self._append(_varint(field_number << 3 | 2) + _varint(size))
        if isinstance(value, MessageBytes):
            self._parts += value._parts
            self.size += size
        else:
            self._append(value)

    def joined(self) -> bytes:
        return b"".join(self._parts)

    def _append(self, part: bytes | memoryview) -> None:
        self._parts.append(part)
        self.size += len(part)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def step_request_bytes(
    fields: PolicyStep_pb2.PolicyStepRequest, observation: MessageBytes
) -> bytes:
    """A PolicyStepRequest. fields: all of it but the observation."""
    request = MessageBytes(fields)
    request.add(PolicyStep_pb2.PolicyStepRequest.OBSERVATION_FIELD_NUMBER, observation)
    return request.joined()


def episode_step_bytes(fields: PolicySession_pb2.EpisodeStep, observation: MessageBytes) -> bytes:
    """An EpisodeRequest that is a step. fields: all of the step but the observation."""
    step = MessageBytes(fields)
    step.add(PolicySession_pb2.EpisodeStep.OBSERVATION_FIELD_NUMBER, observation)
    request = MessageBytes()
    request.add(PolicySession_pb2.EpisodeRequest.STEP_FIELD_NUMBER, step)
    return request.joined()


def observation_bytes(
    observation: Observation,
    *,
    encoding: Encoding = "raw",
    quality: int = DEFAULT_JPEG_QUALITY,
    helpers: Executor | None = None,
) -> MessageBytes:
    """What codec.encode_observation makes of the same arguments. The pixels are not copied yet.

    helpers: threads that encode images beside this one; None for this one alone.

    Raises MissingCodecError, and InvalidValueError for a quality that is none.
    """
    images = _images(observation)
    if encoding == "raw":
        encoded = {key: _raw_image(key[1], pixels) for key, pixels in images.items()}
    else:
        # Depth and labels have 16 bits a pixel, which JPEG has not.
        arguments: list[tuple[npt.NDArray[Any], Encoding, int]] = [
            (pixels, encoding if kind == "rgb" else "png", quality)
            for (_, kind), pixels in images.items()
        ]
        results = (
            [_compressed(each) for each in arguments]
            if helpers is None
            else shared(_compressed, arguments, helpers=helpers, num_helpers=_NUM_HELPERS)
        )
        encoded = dict(zip(images, results, strict=True))
    time_s = observation.time_s
    message = MessageBytes(
        PolicyStep_pb2.MultiarmObservation(
            robot=PolicyStep_pb2.PosesAndGrippersActualAndDesired(
                actual=encode_state(observation.actual, time_s),
                desired=encode_state(observation.desired, time_s),
                version=ROBOT_VERSION,
            ),
            use_language_instruction=observation.language_instruction is not None,
            language_instruction=observation.language_instruction or "",
        )
    )
    stamp = encode_time(time_s)
    for name, view in sorted(observation.cameras.items()):
        camera = _camera(name, view, stamp, images, encoded)
        message.add(PolicyStep_pb2.MultiarmObservation.VISUO_FIELD_NUMBER, camera)
    return message


class ObservationEncoder:
    """Encodes observations in one way: an observation's images side by side, while no other encoder
    of this process is at work. Several keep the cores busy by themselves, and sharing costs."""

    _last: ClassVar[int | None] = None

    def __init__(self, encoding: Encoding = "raw", quality: int = DEFAULT_JPEG_QUALITY) -> None:
        self._encoding: Encoding = encoding
        self._quality = quality
        self._helpers = (
            None
            if encoding == "raw" or not _NUM_HELPERS
            else ThreadPoolExecutor(_NUM_HELPERS, thread_name_prefix="image-encoder")
        )

    def takes_long(self, observation: Observation) -> bool:
        """Whether encoding is too much work for an event loop's thread."""
        return self._num_jpeg_pixels(observation) >= _TOO_MANY_PIXELS

    def encode(self, observation: Observation) -> MessageBytes:
        """Raises MissingCodecError."""
        is_alone = ObservationEncoder._last == id(self)
        ObservationEncoder._last = id(self)
        shares = is_alone and self._num_jpeg_pixels(observation) >= _MANY_PIXELS
        return observation_bytes(
            observation,
            encoding=self._encoding,
            quality=self._quality,
            helpers=self._helpers if shares else None,
        )

    def _num_jpeg_pixels(self, observation: Observation) -> int:
        """How much work encoding is: the pixels of JPEG that take as long."""
        if self._encoding == "raw":
            return 0
        return sum(
            pixels.shape[0]
            * pixels.shape[1]
            * (1 if kind == "rgb" and self._encoding == "jpeg" else _PNG_FACTOR)
            for (_, kind), pixels in _images(observation).items()
        )

    def close(self) -> None:
        if self._helpers is not None:
            self._helpers.shutdown(wait=False, cancel_futures=True)


def _images(observation: Observation) -> dict[tuple[str, _Kind], npt.NDArray[Any]]:
    images: dict[tuple[str, _Kind], npt.NDArray[Any]] = {}
    for name, view in observation.cameras.items():
        images[name, "rgb"] = view.rgb
        if view.depth is not None:
            images[name, "depth"] = view.depth
        if view.label is not None:
            images[name, "label"] = view.label
    return images


def _raw_image(kind: _Kind, pixels: npt.NDArray[Any]) -> MessageBytes:
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    image = MessageBytes(_IMAGE(height=height, width=width, channels=channels, dtype=_DTYPES[kind]))
    little_endian = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(little_endian).reshape(-1)
    image.add(_IMAGE.DATA_FIELD_NUMBER, flat.view(np.uint8).data)
    return image


def _compressed(arguments: tuple[npt.NDArray[Any], Encoding, int]) -> MessageBytes:
    pixels, encoding, quality = arguments
    return MessageBytes(encode_image(pixels, encoding, quality=quality))


def _camera(
    name: str,
    view: CameraView,
    stamp: PolicyStep_pb2.Time,
    images: Mapping[tuple[str, _Kind], npt.NDArray[Any]],
    encoded: Mapping[tuple[str, _Kind], MessageBytes],
) -> MessageBytes:
    kinds: list[_Kind] = [kind for kind in _IMAGE_FIELDS if (name, kind) in images]
    message = MessageBytes(
        _CAMERA(
            camera_serial=name,
            has_rgb=True,
            has_depth="depth" in kinds,
            has_label="label" in kinds,
        )
    )
    for kind in kinds:
        height, width = images[name, kind].shape[:2]
        camera_image = MessageBytes(
            _CAMERA_IMAGE(
                info=PolicyStep_pb2.CameraInfo(
                    height=height,
                    width=width,
                    distortion_model="plumb_bob",
                    k=view.intrinsics.ravel().tolist(),
                    header=PolicyStep_pb2.Header(stamp=stamp),
                ),
                pose=encode_pose(view.X_TC),
            )
        )
        camera_image.add(_CAMERA_IMAGE.IMAGE_FIELD_NUMBER, encoded[name, kind])
        message.add(_IMAGE_FIELDS[kind], camera_image)
    return message
