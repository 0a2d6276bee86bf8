"""Pixels found in a request's own bytes are those that protobuf finds, or none are found."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.codec import decode_observation, encode_observation
from policy_interface.contract import ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.pixel_views import request_pixels, stream_pixels
from policy_interface.types import InvalidValueError

_CAMERAS = {"left": ImageSize(height=3, width=5), "right": ImageSize(height=120, width=160)}


def _request(observation, **arguments) -> PolicyStep_pb2.PolicyStepRequest:
    return PolicyStep_pb2.PolicyStepRequest(
        client_identifier="x",
        observation=encode_observation(observation, **arguments),
        wants_chunk=True,
        control_step=70_000,
    )


@given(step=st.integers(0, 50), is_stream=st.booleans())
def test_they_are_those_that_protobuf_finds_and_nothing_is_copied(
    make_observation, step, is_stream
) -> None:
    message = _request(make_observation(step, cameras=_CAMERAS))
    if is_stream:
        stream = PolicySession_pb2.EpisodeRequest(
            step=PolicySession_pb2.EpisodeStep(observation=message.observation, control_step=step)
        )
        data = stream.SerializeToString()
        found = stream_pixels(data, stream.step.observation)
    else:
        data = message.SerializeToString()
        found = request_pixels(data, message.observation)
    expected = decode_observation(message.observation)
    assert {key.camera for key in found} == set(_CAMERAS)
    for key, pixels in found.items():
        assert np.array_equal(pixels, expected.cameras[key.camera].rgb)
        assert np.shares_memory(pixels, np.frombuffer(data, dtype=np.uint8))
        assert not pixels.flags.writeable


def test_compressed_images_are_left_alone(make_observation) -> None:
    message = _request(make_observation(cameras=_CAMERAS), encoding="png")
    assert request_pixels(message.SerializeToString(), message.observation) == {}


def test_a_size_that_does_not_match_is_refused_by_name(make_observation) -> None:
    message = _request(make_observation(cameras=_CAMERAS))
    message.observation.visuo[1].camera_rgb.image.height += 1
    with pytest.raises(InvalidValueError, match=r"camera 'right': .* takes"):
        request_pixels(message.SerializeToString(), message.observation)


def test_a_field_given_twice_is_left_to_protobuf(make_observation) -> None:
    """Of two submessages of one field protobuf makes one, the later values winning."""
    message = _request(make_observation(cameras=_CAMERAS))
    other = PolicyStep_pb2.PolicyStepRequest()
    other.observation.visuo.add().camera_serial = "third"
    data = message.SerializeToString() + other.SerializeToString()
    merged = PolicyStep_pb2.PolicyStepRequest.FromString(data)
    assert len(merged.observation.visuo) == 3
    assert request_pixels(data, merged.observation) == {}


@given(data=st.binary(max_size=60))
def test_whatever_protobuf_takes_is_walked_over_without_surprise(data) -> None:
    for kind, find in (
        (PolicyStep_pb2.PolicyStepRequest, request_pixels),
        (PolicySession_pb2.EpisodeRequest, stream_pixels),
    ):
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        observation = (
            message.observation
            if isinstance(message, PolicyStep_pb2.PolicyStepRequest)
            else message.step.observation
        )
        find(data, observation)
