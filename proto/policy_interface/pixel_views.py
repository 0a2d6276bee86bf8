"""Raw pixels as they lie in a serialized request: looked at there, never copied.

Protobuf copies a bytes field when it parses a message, and again each time that it is asked for the
field: with four cameras, more than a megabyte a step. Here the request's own bytes are walked once,
from field to field, to where the pixels are, and protobuf parses what is left without them.

The bytes are hostile. Only the path to the pixels is read here; whatever else there is, broken or
not, is left in its place for protobuf to judge. Where the path is not what every serializer writes,
or is long, nothing is taken out.

An episode's requests look alike. Which bytes a walk went by is remembered, and where they are the
same again, it would end the same: comparing them takes a fifth of the time of walking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy.typing as npt

from policy_interface.codec import MAX_CAMERAS, ImageKey
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import array_of

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
_COMPRESSION = PolicyStep_pb2.Image.COMPRESSION_FIELD_NUMBER

# A field begins with its number and, in three bits, its wire type.
_VARINT, _8_BYTES, _LENGTH_DELIMITED, _4_BYTES = 0, 1, 2, 5

# Of the bytes of a tag or a length after its first; protobuf refuses longer ones.
_SHIFTS = (7, 14, 21, 28)

# Walking by a field takes Python a quarter of a microsecond, and 30 MB hold 15 million of them. No
# message on the path has more than its cameras and a few others.
_MAX_FIELDS = 2 * MAX_CAMERAS
_MAX_VARINT_BYTES = 10

_Field = tuple[int, int, int]
"""A length-delimited field: where its length is written, where its value begins, and ends."""


# A peer may send anything: of how long an observation without its pixels, and of how long a walk,
# something is remembered, and of how many.
_MAX_OTHER_BYTES = 16 * 1024
_MAX_PASSED_BYTES = 1024
_MAX_WALKS = 256


class _UnusualError(Exception):
    """Bytes that protobuf may read otherwise than they look (a field given twice, or a group), or
    that take too long to walk by.
    """


class SplitRequest(NamedTuple):
    """A serialized request without its raw RGB pixels, and these.

    rest: the request where each taken image has no data. pixels: by camera, in the request's order;
    None where they were left in `rest`, and empty where all were.
    """

    rest: bytes
    pixels: Sequence[memoryview | None]

    def views(
        self, message: PolicyStep_pb2.MultiarmObservation
    ) -> dict[ImageKey, npt.NDArray[Any]]:
        """The images that were taken out, (H, W, C), read-only.

        message: the observation, as protobuf parsed it from `rest`. Raises InvalidValueError for an
        image whose size is not that of its pixels, as `decode_image` does.
        """
        views: dict[ImageKey, npt.NDArray[Any]] = {}
        if self.pixels:
            for camera, pixels in zip(message.visuo, self.pixels, strict=True):
                if pixels is not None and camera.has_rgb:
                    key = ImageKey(camera.camera_serial, "rgb")
                    views[key] = array_of(camera.camera_rgb.image, pixels, key)
        return views


def split_request(data: bytes) -> SplitRequest:
    """A PolicyStepRequest. Raises nothing: what is wrong with it, protobuf says of `rest`."""
    return _split(data, _OBSERVATION_IN_REQUEST)


def split_stream_request(data: bytes) -> SplitRequest:
    """As `split_request`, an EpisodeRequest that is a step."""
    return _split(data, _OBSERVATION_IN_STREAM)


class _Layout(NamedTuple):
    """Where the pixels of a request are.

    kept: what `rest` is made of. lengths: where in `rest` a length is written, and the shorter one.
    """

    pixels: Sequence[slice | None]
    kept: Sequence[slice]
    lengths: Sequence[tuple[slice, bytes]]

    def split(self, data: bytes) -> SplitRequest:
        view = memoryview(data)
        rest = bytearray().join([view[each] for each in self.kept])
        for at, length in self.lengths:
            rest[at] = length
        return SplitRequest(
            bytes(rest), [None if each is None else view[each] for each in self.pixels]
        )


class _Walk(NamedTuple):
    """A walk through an observation: the bytes that it went by, what they were, where it led."""

    passed: Callable[[bytes], Any]
    as_passed: Any
    layout: _Layout


class _Passing:
    """Bytes that know which of them were asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.positions: list[int] = []

    def __getitem__(self, position: int) -> int:
        self.positions.append(position)
        return self._data[position]


# By the fields around the observation. Beside it stands what differs from step to step, its number,
# so they are walked each time. Threads that add at once lose an entry at worst.
_walks: dict[tuple[_Field, ...], _Walk] = {}


def _split(data: bytes, path: tuple[int, ...]) -> SplitRequest:
    try:
        around = _descended(data, 0, len(data), path)
        if around is None:
            return SplitRequest(data, ())
        former = _walks.get(tuple(around))
        if former is not None and former.passed(data) == former.as_passed:
            return former.layout.split(data)
        layout = _layout(data, around)
    except (_UnusualError, IndexError):
        return SplitRequest(data, ())
    if layout is None:
        return SplitRequest(data, ())
    _remember(data, around, layout)
    return layout.split(data)


def _remember(data: bytes, around: list[_Field], layout: _Layout) -> None:
    _, start, end = around[-1]
    num_taken = sum(each.stop - each.start for each in layout.pixels if each is not None)
    if end - start - num_taken > _MAX_OTHER_BYTES:
        return
    passing = _Passing(data)
    _cameras(passing, start, end)
    if len(passing.positions) > _MAX_PASSED_BYTES:
        return
    if len(_walks) >= _MAX_WALKS:
        _walks.clear()
    passed = itemgetter(*passing.positions)
    _walks[tuple(around)] = _Walk(passed, passed(data), layout)


def _cameras(
    data: bytes | _Passing, start: int, end: int
) -> list[tuple[_Field, list[_Field] | None]]:
    """The cameras of an observation, and in each the fields down to its raw pixels, if any."""
    return [
        (camera, _descended(data, camera[1], camera[2], _PIXELS_IN_CAMERA, _COMPRESSION))
        for camera in _fields(data, start, end, _CAMERAS)
    ]


def _layout(data: bytes, around: list[_Field]) -> _Layout | None:
    """None where nothing is to be taken out. Raises as `_fields`."""
    _, start, end = around[-1]
    pixels: list[slice | None] = []
    kept: list[slice] = []
    # Fields that lose bytes: by how many of them they move, and how many they lose.
    shrunk: list[tuple[_Field, int, int]] = []
    copied = removed = 0
    for camera, inner in _cameras(data, start, end):
        if inner is None:
            pixels.append(None)
            continue
        _, start, end = inner[-1]
        size = end - start
        pixels.append(slice(start, end))
        kept.append(slice(copied, start))
        copied = end
        shrunk += [(each, removed, size) for each in (camera, *inner)]
        removed += size
    if not kept:
        return None
    kept.append(slice(copied, None))
    shrunk += [(each, 0, removed) for each in around]
    return _Layout(
        pixels=pixels,
        kept=kept,
        lengths=[
            (slice(at - moved, start - moved), _length(end - start - lost, start - at))
            for (at, start, end), moved, lost in shrunk
        ],
    )


def _descended(
    data: bytes | _Passing, start: int, end: int, path: tuple[int, ...], unless: int | None = None
) -> list[_Field] | None:
    """The fields along the path, each within the one before; None where one is missing.

    unless: a number field beside the last one; None too where that is there and not zero.
    """
    descended = []
    for number in path:
        found = _fields(data, start, end, number, unless if number == path[-1] else None)
        if not found:
            return None
        if len(found) > 1:
            raise _UnusualError
        descended += found
        _, start, end = found[0]
    return descended


def _fields(
    data: bytes | _Passing, position: int, end: int, number: int, unless: int | None = None
) -> list[_Field]:
    """The length-delimited fields of that number in a message; see `_descended` for `unless`.

    See protobuf.dev/programming-guides/encoding. Raises _UnusualError, or IndexError where the
    bytes end too soon.
    """
    wanted = number << 3 | _LENGTH_DELIMITED
    excluded = None if unless is None else unless << 3 | _VARINT
    found: list[_Field] = []
    for _ in range(_MAX_FIELDS):
        if position >= end:
            break
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            at = position
            length = data[position]
            position += 1
            if length >= 0x80:
                length, position = _varint(data, at)
            start, position = position, position + length
            if tag == wanted:
                found.append((at, start, position))
        elif wire_type == _VARINT:
            if tag == excluded and data[position]:
                return []
            at = position
            while data[position] >= 0x80:
                position += 1
                if position - at == _MAX_VARINT_BYTES:
                    raise _UnusualError
            position += 1
        elif wire_type == _8_BYTES:
            position += 8
        elif wire_type == _4_BYTES:
            position += 4
        else:
            raise _UnusualError
    if position != end:
        raise _UnusualError
    return found


def _varint(data: bytes | _Passing, position: int) -> tuple[int, int]:
    """The tag or length at `position`, and where the next thing is."""
    number = data[position] & 0x7F
    for shift in _SHIFTS:
        position += 1
        byte = data[position]
        if byte < 0x80:
            number |= byte << shift
            if number >> 32:
                break
            return number, position + 1
        number |= (byte & 0x7F) << shift
    raise _UnusualError


def _length(number: int, num_bytes: int) -> bytes:
    """A varint of so many bytes, so that nothing moves: it may end in zeros."""
    groups = [number >> 7 * i & 0x7F for i in range(num_bytes)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
