"""A request without its pixels is the same request, and the pixels are those protobuf finds."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.codec import decode_observation, encode_observation
from policy_interface.contract import ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.pixel_views import SplitRequest, split_request, split_stream_request
from policy_interface.types import InvalidValueError

_CAMERAS = {"left": ImageSize(height=3, width=5), "right": ImageSize(height=120, width=160)}


def _request(observation, **arguments) -> PolicyStep_pb2.PolicyStepRequest:
    return PolicyStep_pb2.PolicyStepRequest(
        client_identifier="x",
        observation=encode_observation(observation, **arguments),
        wants_chunk=True,
        control_step=70_000,
    )


def _in_stream(request: PolicyStep_pb2.PolicyStepRequest) -> PolicySession_pb2.EpisodeRequest:
    step = PolicySession_pb2.EpisodeStep(observation=request.observation, control_step=7)
    return PolicySession_pb2.EpisodeRequest(step=step)


def _observation(message: Message) -> PolicyStep_pb2.MultiarmObservation:
    if isinstance(message, PolicyStep_pb2.PolicyStepRequest):
        return message.observation
    assert isinstance(message, PolicySession_pb2.EpisodeRequest)
    return message.step.observation


def _put_back(message: Message, split: SplitRequest) -> None:
    for camera, pixels in zip(_observation(message).visuo, split.pixels, strict=True):
        if pixels is not None:
            assert camera.camera_rgb.image.data == b""
            camera.camera_rgb.image.data = bytes(pixels)


@given(step=st.integers(0, 50), is_stream=st.booleans())
def test_the_rest_and_the_pixels_are_the_request_and_nothing_is_copied(
    make_observation, step, is_stream
) -> None:
    request = _request(make_observation(step, cameras=_CAMERAS))
    message = _in_stream(request) if is_stream else request
    data = message.SerializeToString()
    split = (split_stream_request if is_stream else split_request)(data)
    rest = type(message).FromString(split.rest)
    assert len(split.rest) < 2000
    views = split.views(_observation(rest))
    expected = decode_observation(request.observation)
    assert {key.camera for key in views} == set(_CAMERAS)
    for key, pixels in views.items():
        assert np.array_equal(pixels, expected.cameras[key.camera].rgb)
        assert np.shares_memory(pixels, np.frombuffer(data, dtype=np.uint8))
        assert not pixels.flags.writeable
    _put_back(rest, split)
    assert rest == message


def test_compressed_images_are_left_alone(make_observation) -> None:
    data = _request(make_observation(cameras=_CAMERAS), encoding="png").SerializeToString()
    assert split_request(data) == (data, ())


def test_of_two_images_only_the_raw_one_is_taken(make_observation) -> None:
    message = _request(make_observation(cameras=_CAMERAS))
    png = _request(make_observation(cameras=_CAMERAS), encoding="png")
    message.observation.visuo[0].CopyFrom(png.observation.visuo[0])
    split = split_request(message.SerializeToString())
    assert split.pixels[0] is None
    assert split.pixels[1] is not None
    rest = PolicyStep_pb2.PolicyStepRequest.FromString(split.rest)
    assert [key.camera for key in split.views(rest.observation)] == ["right"]
    _put_back(rest, split)
    assert rest == message


def test_an_image_that_is_not_there_is_not_viewed(make_observation) -> None:
    message = _request(make_observation(cameras=_CAMERAS))
    message.observation.visuo[0].has_rgb = False
    split = split_request(message.SerializeToString())
    rest = PolicyStep_pb2.PolicyStepRequest.FromString(split.rest)
    assert [key.camera for key in split.views(rest.observation)] == ["right"]


def test_a_size_that_does_not_match_is_refused_by_name(make_observation) -> None:
    message = _request(make_observation(cameras=_CAMERAS))
    message.observation.visuo[1].camera_rgb.image.height += 1
    split = split_request(message.SerializeToString())
    rest = PolicyStep_pb2.PolicyStepRequest.FromString(split.rest)
    with pytest.raises(InvalidValueError, match=r"camera 'right': .* takes"):
        split.views(rest.observation)


def test_a_field_given_twice_is_left_to_protobuf(make_observation) -> None:
    """Of two submessages of one field protobuf makes one, the later values winning."""
    message = _request(make_observation(cameras=_CAMERAS))
    other = PolicyStep_pb2.PolicyStepRequest()
    other.observation.visuo.add().camera_serial = "third"
    data = message.SerializeToString() + other.SerializeToString()
    assert len(PolicyStep_pb2.PolicyStepRequest.FromString(data).observation.visuo) == 3
    assert split_request(data) == (data, ())


@pytest.mark.parametrize("cut", [1, 2, 40, 5000])
def test_bytes_that_end_too_soon_are_left_to_protobuf(make_observation, cut) -> None:
    data = _request(make_observation(cameras=_CAMERAS)).SerializeToString()[:-cut]
    assert split_request(data) == (data, ())


_SMALL = {"left": ImageSize(height=2, width=3), "right": ImageSize(height=1, width=200)}


@given(data=st.data(), is_stream=st.booleans())
def test_whatever_is_changed_protobuf_reads_the_rest_as_it_reads_the_whole(
    make_observation, data, is_stream
) -> None:
    """A byte changed, put in or left out, anywhere: lengths, tags and values among them."""
    request = _request(make_observation(cameras=_SMALL))
    message = _in_stream(request) if is_stream else request
    # What is remembered of the one must not be believed of the other.
    _require_same(type(message), message.SerializeToString())
    changed = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        put_in = data.draw(st.binary(max_size=2))
        changed[at : at + data.draw(st.integers(0, 2))] = put_in
    _require_same(type(message), bytes(changed))


@given(data=st.binary(max_size=60), is_stream=st.booleans())
def test_bytes_of_any_kind_are_read_alike(data, is_stream) -> None:
    _require_same(
        PolicySession_pb2.EpisodeRequest if is_stream else PolicyStep_pb2.PolicyStepRequest, data
    )


def _require_same(kind: type[Message], data: bytes) -> None:
    is_stream = kind is PolicySession_pb2.EpisodeRequest
    split = (split_stream_request if is_stream else split_request)(data)
    try:
        whole = kind.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            kind.FromString(split.rest)
        return
    rest = kind.FromString(split.rest)
    if not split.pixels:
        assert split.rest == data
    elif isinstance(rest, PolicyStep_pb2.PolicyStepRequest) or rest.HasField("step"):
        _put_back(rest, split)
        assert rest.SerializeToString(deterministic=True) == whole.SerializeToString(
            deterministic=True
        )


class _Read(bytes):
    """Bytes that count how often one of them is looked at."""

    num_looks = 0

    def __getitem__(self, key):
        self.num_looks += 1
        return super().__getitem__(key)


def _field(number: int, value: bytes) -> bytes:
    length = len(value)
    groups = [length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]
    return bytes([number << 3 | 2, *groups]) + value


_MANY_FIELDS = b"\x08\x01" * 10**4
_IN_A_CAMERA = _field(PolicyStep_pb2.MultiarmObservation.VISUO_FIELD_NUMBER, _MANY_FIELDS)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x01" * 10**5,
        # One number that does not end.
        b"\x08" + b"\x80" * 10**5,
        _field(PolicyStep_pb2.PolicyStepRequest.OBSERVATION_FIELD_NUMBER, _IN_A_CAMERA * 50),
    ],
    ids=["fields", "one number", "cameras"],
)
def test_a_walk_ends_early_where_there_is_too_much_to_walk_by(data) -> None:
    """It is done in Python, on the server's event loop, and a peer may send 30 MB of anything."""
    read = _Read(data)
    assert split_request(read) == SplitRequest(data, ())
    assert read.num_looks < 10_000
