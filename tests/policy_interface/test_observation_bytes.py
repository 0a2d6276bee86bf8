"""The bytes of an observation say what the codec's message says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.codec import encode_observation
from policy_interface.contract import ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.observation_bytes import (
    ObservationEncoder,
    episode_step_bytes,
    observation_bytes,
    step_request_bytes,
)
from policy_interface.types import CameraView, Observation, Pose, RobotState


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def camera() -> CameraView:
        height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        planes: dict[str, Any] = {}
        for name, dtype in (("depth", np.uint16), ("label", np.int16)):
            if draw(st.booleans()):
                # Of a size of its own, and a slice: what a camera's driver may hand over.
                pixels = generator.integers(0, 2**15, (height + 1, 2 * width)).astype(dtype)
                planes[name] = pixels[:, ::2]
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return CameraView(
            rgb=pixels[:, ::-1] if draw(st.booleans()) else pixels,
            intrinsics=generator.normal(size=(3, 3)),
            X_TC=Pose.identity(),
            **planes,
        )

    state = RobotState(
        poses={"right::panda": Pose.identity()},
        gripper_widths_m={"right::panda_hand": 0.04},
        joint_positions_rad={"right::panda": generator.normal(size=7)},
    )
    names = draw(st.lists(st.text(max_size=4), max_size=3, unique=True))
    return Observation(
        actual=state,
        desired=replace(state, joint_positions_rad={}),
        cameras={name: camera() for name in names},
        language_instruction=draw(st.none() | st.text(max_size=10)),
        time_s=draw(st.none() | st.floats(0, 1e6)),
    )


@given(
    observation=observations(),
    encoding=st.sampled_from(["raw", "jpeg", "png"]),
    quality=st.integers(1, 100),
    control_step=st.none() | st.integers(0, 2**32 - 1),
    wants_chunk=st.booleans(),
)
def test_a_request_parses_to_what_the_codec_makes(
    observation, encoding, quality, control_step, wants_chunk
) -> None:
    message = encode_observation(observation, encoding=encoding, quality=quality)
    data = observation_bytes(observation, encoding=encoding, quality=quality)
    fields = {"client_identifier": "7f", "wants_chunk": wants_chunk, "control_step": control_step}
    request = step_request_bytes(PolicyStep_pb2.PolicyStepRequest(**fields), data)
    expected = PolicyStep_pb2.PolicyStepRequest(**fields, observation=message)
    assert PolicyStep_pb2.PolicyStepRequest.FromString(request) == expected
    step = PolicySession_pb2.EpisodeStep(wants_chunk=wants_chunk)
    streamed = PolicySession_pb2.EpisodeRequest.FromString(episode_step_bytes(step, data))
    step.observation.CopyFrom(message)
    assert streamed == PolicySession_pb2.EpisodeRequest(step=step)


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_of_every_size_are_written(make_observation, size) -> None:
    observation = make_observation(cameras={}, instruction="x" * size)
    request = step_request_bytes(PolicyStep_pb2.PolicyStepRequest(), observation_bytes(observation))
    parsed = PolicyStep_pb2.PolicyStepRequest.FromString(request)
    assert parsed.observation == encode_observation(observation)


@pytest.mark.parametrize("num_rows", [10, 60, 110])
@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_threads_change_nothing(make_observation, encoding, num_rows) -> None:
    size = ImageSize(height=num_rows, width=1000)
    observation = make_observation(cameras=dict.fromkeys("abcd", size))
    alone = observation_bytes(observation, encoding=encoding)
    encoder = ObservationEncoder(encoding)
    with ThreadPoolExecutor(3) as threads:
        helped = observation_bytes(observation, encoding=encoding, helpers=threads)
    assert alone.joined() == helped.joined() == encoder.encode(observation).joined()
    takes_long = {"raw": False, "jpeg": num_rows > 100, "png": True}
    assert encoder.takes_long(observation) is takes_long[encoding]
    encoder.close()


def test_depth_is_png_and_takes_long(make_observation) -> None:
    """A pixel of PNG takes 40 times as long as one of JPEG: 35 ms of an event loop for four cameras
    of 224x224."""
    observation = make_observation(cameras={"a": ImageSize(height=100, width=100)})
    view = replace(observation.cameras["a"], depth=np.zeros((100, 100), dtype=np.uint16))
    encoder = ObservationEncoder("jpeg")
    assert not encoder.takes_long(observation)
    assert encoder.takes_long(replace(observation, cameras={"a": view}))
    encoder.close()


def test_encoders_that_work_side_by_side_take_no_threads(make_observation, monkeypatch) -> None:
    """Several keep the cores busy by themselves."""
    monkeypatch.setattr("policy_interface.observation_bytes._NUM_HELPERS", 1)
    size = ImageSize(height=224, width=224)
    observation = make_observation(cameras=dict.fromkeys("abcd", size))

    def num_threads() -> int:
        return sum(each.name.startswith("image-encoder") for each in threading.enumerate())

    before = num_threads()
    encoders = [ObservationEncoder("jpeg") for _ in range(2)]
    for encoder in encoders * 3:
        encoder.encode(observation)
    assert num_threads() == before
    for _ in range(2):
        encoders[0].encode(observation)
    assert num_threads() == before + 1
    for encoder in encoders:
        encoder.close()
