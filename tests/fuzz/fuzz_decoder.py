"""Feed the decoder of everything that a peer sends with what no honest peer would send.

    python tests/fuzz/fuzz_decoder.py --seconds 60
    python tests/fuzz/fuzz_decoder.py --reproduce fuzz-findings/crash-...

Only the documented errors (DecodeError, InvalidValueError, ContractError) may come out, within ten
seconds and 2 GiB. What breaks that is saved under --findings, and the exit code is 1. Needs
atheris (pip install '.[dev]' in Assay's checkout).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    sys.exit("fuzz_decoder.py needs atheris: pip install '.[dev]' in Assay's checkout")

import numpy as np
from google.protobuf.message import DecodeError, Message
from message_mutator import mutate_message

from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2

# Only what is imported here is watched for code that an input reaches for the first time.
with atheris.instrument_imports(include=["policy_interface", "policy_server"]):
    from policy_interface.codec import (
        compressed_images,
        decode_action,
        decode_observation,
        encode_action,
        encode_observation,
        images_of,
    )
    from policy_interface.contract import (
        LEFT_ARM,
        LEFT_GRIPPER,
        RIGHT_ARM,
        RIGHT_GRIPPER,
        Contract,
        ContractError,
        ImageSize,
        differences,
        violations,
    )
    from policy_interface.images import Encoding, decode_image
    from policy_interface.pixel_views import SplitRequest, split_request, split_stream_request
    from policy_interface.types import (
        Action,
        CameraView,
        InvalidValueError,
        Observation,
        Pose,
        RobotState,
    )
    from policy_server.observation_messages import check_images, message_violations, require_room

_DOCUMENTED = (DecodeError, InvalidValueError, ContractError)
_MAX_INPUT_BYTES = 1 << 17
_RSS_LIMIT_MB = 2048
_INPUT_TIMEOUT_S = 10

_SIZE = ImageSize(height=16, width=24)
_CONTRACT = Contract(cameras={"scene_right_0": _SIZE}, uses_language=True)


def _step(message: Message, data: bytes) -> None:
    assert isinstance(message, PolicyStep_pb2.PolicyStepRequest)
    split = split_request(data)
    rest = PolicyStep_pb2.PolicyStepRequest.FromString(split.rest)
    _require_same(message, message.observation, rest, rest.observation, split)
    _observation(message.observation, rest.observation, split)


def _episode(message: Message, data: bytes) -> None:
    assert isinstance(message, PolicySession_pb2.EpisodeRequest)
    split = split_stream_request(data)
    rest = PolicySession_pb2.EpisodeRequest.FromString(split.rest)
    if message.WhichOneof("kind") == "begin":
        _station(message.begin.station_contract)
    else:
        _require_same(message, message.step.observation, rest, rest.step.observation, split)
        _observation(message.step.observation, rest.step.observation, split)


def _reset(message: Message, data: bytes) -> None:
    assert isinstance(message, PolicyReset_pb2.PolicyResetRequest)
    _station(message.station_contract)


def _handshake(message: Message, data: bytes) -> None:
    assert isinstance(message, PolicySession_pb2.HandshakeRequest)
    _station(message.station_contract)


def _require_same(
    whole: Message,
    observation: PolicyStep_pb2.MultiarmObservation,
    rest: Message,
    observation_in_rest: PolicyStep_pb2.MultiarmObservation,
    split: SplitRequest,
) -> None:
    """A request without its pixels is the same request, and the pixels are those protobuf finds."""
    if not split.pixels:
        assert rest.SerializeToString() == whole.SerializeToString()
        return
    stripped = type(whole)()
    stripped.CopyFrom(whole)
    of_stripped = (
        stripped.observation
        if isinstance(stripped, PolicyStep_pb2.PolicyStepRequest)
        else stripped.step.observation  # pyright: ignore[reportAttributeAccessIssue]
    )
    for camera, in_stripped, pixels in zip(
        observation.visuo, of_stripped.visuo, split.pixels, strict=True
    ):
        if pixels is not None:
            assert camera.camera_rgb.image.data == pixels
            in_stripped.camera_rgb.image.data = b""
    assert stripped.SerializeToString() == rest.SerializeToString()
    assert len(observation_in_rest.visuo) == len(split.pixels)


def _observation(
    whole: PolicyStep_pb2.MultiarmObservation,
    message: PolicyStep_pb2.MultiarmObservation,
    split: SplitRequest,
) -> None:
    """All that the server does with one, and what it relies on afterwards."""
    pixels = split.views(message)
    # What was found in the request's own bytes is what is decoded from protobuf's.
    if len({camera.camera_serial for camera in whole.visuo}) == len(whole.visuo):
        for camera in whole.visuo:
            for key, image in images_of(camera):
                if key in pixels:
                    np.testing.assert_array_equal(pixels[key], decode_image(image, str(key)))
    # What a step is held to that no plan looks at.
    with contextlib.suppress(InvalidValueError):
        check_images(message, pixels)
    found = message_violations(_CONTRACT, message)
    assert all(isinstance(each, str) for each in found), found
    # As the server decodes: compressed images first, each in a thread of its own.
    compressed = list(compressed_images(message))
    require_room(compressed)
    images = {key: decode_image(image, str(key)) for key, image in compressed}
    observation = decode_observation(message, {**pixels, **images})
    for view in observation.cameras.values():
        assert view.rgb.ndim == 3, view.rgb.shape
        assert not view.rgb.flags.writeable
    if violations(_CONTRACT, observation):
        return
    assert observation.cameras["scene_right_0"].rgb.shape[:2] == (_SIZE.height, _SIZE.width)
    commanded = observation.desired
    action = Action(poses=commanded.poses, gripper_widths_m=commanded.gripper_widths_m)
    again = decode_action(
        PolicyStep_pb2.PosesAndGrippers.FromString(encode_action(action).SerializeToString())
    )
    for arm, pose in action.poses.items():
        np.testing.assert_array_equal(again.poses[arm].matrix(), pose.matrix())


def _station(contract: str) -> None:
    station = Contract.from_json(contract)
    assert all(isinstance(each, str) for each in differences(policy=_CONTRACT, station=station))
    assert Contract.from_json(station.to_json()) == station


# An input's first byte says which message the rest of it is.
_TARGETS: tuple[tuple[type[Message], Callable[[Message, bytes], None]], ...] = (
    (PolicyStep_pb2.PolicyStepRequest, _step),
    (PolicySession_pb2.EpisodeRequest, _episode),
    (PolicyReset_pb2.PolicyResetRequest, _reset),
    (PolicySession_pb2.HandshakeRequest, _handshake),
)


def test_one_input(data: bytes) -> None:
    """What the fuzzer calls. Raises whatever is a finding."""
    if not data:
        return
    message_type, decode = _TARGETS[data[0] % len(_TARGETS)]
    try:
        decode(message_type.FromString(data[1:]), data[1:])
    except _DOCUMENTED:
        return


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    generator = random.Random(seed)
    if not data or generator.random() < 0.2:
        return atheris.Mutate(data, max_size)
    message_type, _ = _TARGETS[data[0] % len(_TARGETS)]
    try:
        message = message_type.FromString(data[1:])
        for _ in range(generator.choice((1, 1, 1, 2, 3))):
            mutate_message(message, generator, atheris.Mutate)
    except DecodeError:
        return atheris.Mutate(data, max_size)
    mutated = data[:1] + message.SerializeToString()
    return mutated if len(mutated) <= max_size else atheris.Mutate(data, max_size)


def _seed_observation(
    encoding: Encoding, *, has_planes: bool, is_grey: bool
) -> PolicyStep_pb2.MultiarmObservation:
    generator = np.random.default_rng(0)
    state = RobotState(
        poses={arm: Pose.identity() for arm in (RIGHT_ARM, LEFT_ARM)},
        gripper_widths_m={RIGHT_GRIPPER: 0.02, LEFT_GRIPPER: 0.04},
        joint_positions_rad={RIGHT_ARM: np.zeros(7)},
        wrenches={LEFT_ARM: np.zeros(6)},
    )
    shape = (_SIZE.height, _SIZE.width)
    plane = generator.integers(0, 9, shape, dtype=np.uint16)
    view = CameraView(
        rgb=generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        intrinsics=np.eye(3),
        X_TC=Pose.identity(),
        depth=plane if has_planes else None,
        label=plane.astype(np.int16) if has_planes else None,
    )
    observation = Observation(
        actual=state,
        desired=state,
        cameras={"scene_right_0": view},
        language_instruction="put it there",
        time_s=0.5,
    )
    message = encode_observation(observation, encoding=encoding)
    if is_grey:
        image = message.visuo[0].camera_rgb.image
        image.channels = 1
    return message


def _seeds() -> Mapping[str, bytes]:
    """Valid messages of every kind, and one that is nearly valid, by name."""
    requests: dict[str, Message] = {}
    encodings: tuple[Encoding, ...] = ("raw", "jpeg", "png")
    for encoding in encodings:
        for has_planes in (False, True):
            for is_grey in (False, True):
                observation = _seed_observation(encoding, has_planes=has_planes, is_grey=is_grey)
                name = f"{encoding}-{has_planes}-{is_grey}"
                requests[f"step-{name}"] = PolicyStep_pb2.PolicyStepRequest(
                    client_identifier="6f1d9f3e-50a4-4d52-8c0e-0e1f6f1b2a3c",
                    observation=observation,
                    wants_chunk=True,
                    control_step=3,
                )
                requests[f"episode-{name}"] = PolicySession_pb2.EpisodeRequest(
                    step=PolicySession_pb2.EpisodeStep(observation=observation)
                )
    station = _CONTRACT.to_json()
    requests["begin"] = PolicySession_pb2.EpisodeRequest(
        begin=PolicySession_pb2.EpisodeBegin(seed=1, station_contract=station, policy="a")
    )
    requests["reset"] = PolicyReset_pb2.PolicyResetRequest(
        client_identifier="6f1d9f3e-50a4-4d52-8c0e-0e1f6f1b2a3c", station_contract=station
    )
    requests["handshake"] = PolicySession_pb2.HandshakeRequest(station_contract=station)
    requests["nested"] = PolicySession_pb2.HandshakeRequest(station_contract="[" * 20_000)
    kinds = [message_type for message_type, _ in _TARGETS]
    return {
        name: bytes([kinds.index(type(request))]) + request.SerializeToString()
        for name, request in requests.items()
    }


def _fuzz(arguments: argparse.Namespace, corpus: Path) -> int:
    """The exit code. corpus: kept and grown; the seeds are added to it."""
    corpus.mkdir(parents=True, exist_ok=True)
    for data in _seeds().values():
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    arguments.findings.mkdir(parents=True, exist_ok=True)
    print(f"fuzzing for {arguments.seconds} s; findings go to {arguments.findings}", flush=True)
    # The fuzzer ends its process, whatever Python still had to do in it.
    child = os.fork()
    if child == 0:
        _fuzz_until_the_process_ends(arguments, corpus)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print("found nothing")
        return 0
    print(f"FOUND SOMETHING (status {status}): see above, and {arguments.findings}/")
    return 1


def _fuzz_until_the_process_ends(arguments: argparse.Namespace, corpus: Path) -> None:
    options = [
        sys.argv[0],
        f"-max_total_time={arguments.seconds}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-rss_limit_mb={_RSS_LIMIT_MB}",
        f"-timeout={_INPUT_TIMEOUT_S}",
        f"-artifact_prefix={arguments.findings}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(options, test_one_input, custom_mutator=_mutate)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="kept between runs; otherwise made anew")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--reproduce", type=Path, help="run this one input and stop")
    arguments = parser.parse_args()
    if arguments.seconds < 1:
        parser.error(f"--seconds: expected at least 1, got {arguments.seconds}")
    # Pillow warns of images that claim to be huge; the decoder refuses them by itself.
    warnings.simplefilter("ignore")
    if arguments.reproduce is not None:
        started_s = time.perf_counter()
        test_one_input(arguments.reproduce.read_bytes())
        print(f"nothing raised, in {time.perf_counter() - started_s:.3f} s")
        return 0
    if arguments.corpus is not None:
        return _fuzz(arguments, arguments.corpus)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as corpus:
        return _fuzz(arguments, Path(corpus))


if __name__ == "__main__":
    sys.exit(main())
