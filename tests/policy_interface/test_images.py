"""Images arrive as they were sent, or nearly; what is no image is refused before it is unpacked."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.codec import compressed_images, decode_observation, encode_observation
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import MAX_IMAGE_PIXELS, decode_image, encode_image
from policy_interface.types import CameraView, InvalidValueError, Observation, Pose, RobotState

_DTYPES = ("uint8", "int8", "uint16", "int16")


def _smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """Like a photograph: neighbours are alike."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([2 * x, 4 * y, 255 - x - y], axis=-1).astype(np.uint8)


def _random(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(seed)
    return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@given(
    dtype=st.sampled_from(_DTYPES),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 4]),
    seed=st.integers(0, 99),
)
def test_raw_pixels_come_back_exactly(dtype, height, width, channels, seed) -> None:
    pixels = _random(dtype, (height, width, channels), seed)
    decoded = decode_image(encode_image(pixels), "it")
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)
    assert not decoded.flags.writeable


@given(
    kind=st.sampled_from([("uint8", 1), ("uint8", 3), ("uint16", 1), ("int16", 1)]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_png_comes_back_exactly(kind, height, width, seed) -> None:
    dtype, channels = kind
    pixels = _random(dtype, (height, width, channels), seed)
    message = encode_image(pixels, "png")
    assert message.compression == PolicyStep_pb2.PNG
    decoded = decode_image(message, "it")
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)
    assert not decoded.flags.writeable


@pytest.mark.parametrize("pixels", [_smooth(), _smooth()[:, :, 0]])
def test_jpeg_comes_back_nearly_and_is_small(pixels) -> None:
    message = encode_image(pixels, "jpeg")
    assert message.compression == PolicyStep_pb2.JPG
    assert len(message.data) < pixels.nbytes / 2
    decoded = decode_image(message, "it").reshape(pixels.shape)
    assert np.abs(decoded.astype(int) - pixels).mean() < 2
    coarse = encode_image(pixels, "jpeg", quality=20)
    assert len(coarse.data) < len(message.data)


def test_decoded_jpegs_lie_where_the_decoder_does_not_write_past_the_caches() -> None:
    """At a multiple of 32 bytes libjpeg-turbo does, and takes half as long again."""
    message = encode_image(_smooth(224, 224), "jpeg")
    decoded = [decode_image(message, "it") for _ in range(16)]
    assert {each.ctypes.data % 32 for each in decoded} == {16}


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (_random("uint16", (4, 4)), "jpeg"),
        (_random("uint8", (4, 4, 4)), "jpeg"),
        (_random("int8", (4, 4)), "png"),
        (_random("uint16", (4, 4, 3)), "png"),
        (np.zeros((4, 4)), "raw"),
        (np.zeros(4, dtype=np.uint8), "raw"),
    ],
)
def test_what_an_encoding_does_not_hold_is_refused(pixels, encoding) -> None:
    with pytest.raises(InvalidValueError, match=r"image: .* got \(4"):
        encode_image(pixels, encoding)


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality) -> None:
    with pytest.raises(InvalidValueError, match="quality: expected 1 to 100"):
        encode_image(_smooth(), "jpeg", quality=quality)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def _changed(encoding: str, **fields: object) -> PolicyStep_pb2.Image:
    message = encode_image(_smooth(), encoding)  # type: ignore[arg-type]
    for name, value in fields.items():
        setattr(message, name, value)
    return message


_JPEG = encode_image(_smooth(), "jpeg").data
_PNG = encode_image(_smooth(), "png").data


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (_changed("jpeg", data=b""), "corrupt JPEG"),
        (_changed("jpeg", data=b"\xff\xd8\xff" + bytes(200)), "corrupt JPEG"),
        (_changed("jpeg", data=_JPEG[: len(_JPEG) // 2]), "corrupt JPEG"),
        (_changed("jpeg", data=_PNG), "corrupt JPEG"),
        (_changed("jpeg", height=47), "the image is 64x48, the message says 64x47"),
        (_changed("jpeg", channels=4), "JPEG holds 1 or 3 channels"),
        (_changed("jpeg", dtype=PolicyStep_pb2.DTYPE_UINT16), "JPEG holds"),
        (_changed("png", data=b""), "corrupt PNG"),
        (_changed("png", data=_PNG[: len(_PNG) // 2]), "corrupt PNG"),
        (_changed("png", data=_JPEG), "corrupt PNG"),
        (_changed("png", width=63), "the image is 64x48, the message says 63x48"),
        (_changed("png", channels=1), "the PNG is of mode RGB"),
        (_changed("png", dtype=PolicyStep_pb2.DTYPE_INT8), "PNG holds"),
        # What claims ten gigabytes is refused for what it claims.
        (_changed("png", data=_png_header(60_000, 60_000)), "corrupt PNG: Image size"),
        (_changed("png", width=60_000, height=60_000), f"more than the {MAX_IMAGE_PIXELS} pixels"),
        (_changed("raw", width=60_000, height=60_000), f"more than the {MAX_IMAGE_PIXELS} pixels"),
        (_changed("raw", compression=7), "unknown compression 7"),
    ],
)
def test_what_is_no_image_is_refused_by_name(message, complaint) -> None:
    with pytest.raises(InvalidValueError, match=complaint) as raised:
        decode_image(message, "camera 'left'")
    assert str(raised.value).startswith("camera 'left': ")


@given(
    encoding=st.sampled_from(["jpeg", "png"]),
    position=st.integers(0, 10_000),
    value=st.integers(0, 255),
    keep=st.integers(0, 10_000),
)
def test_damage_is_refused_or_harmless(encoding, position, value, keep) -> None:
    message = encode_image(_smooth(), encoding)
    data = bytearray(message.data)
    data[position % len(data)] = value
    message.data = bytes(data[: max(1, keep % (2 * len(data)))])
    try:
        pixels = decode_image(message, "it")
    except InvalidValueError:
        return
    assert pixels.shape == (48, 64, 3)


def _observation() -> Observation:
    state = RobotState(poses={"a": Pose.identity()}, gripper_widths_m={"g": 0.1})
    view = CameraView(
        rgb=_smooth(),
        intrinsics=np.eye(3),
        X_TC=Pose.identity(),
        depth=_random("uint16", (48, 64)),
        label=_random("int16", (48, 64)),
    )
    return Observation(actual=state, desired=state, cameras={"left": view, "right": view})


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_an_observation_travels_in_any_encoding(encoding) -> None:
    observation = _observation()
    with ThreadPoolExecutor(2) as threads:
        message = encode_observation(observation, encoding=encoding, executor=threads)
    assert message == encode_observation(observation, encoding=encoding)
    compressed = dict(compressed_images(message))
    assert len(compressed) == (0 if encoding == "raw" else 6)
    elsewhere = {key: decode_image(image, str(key)) for key, image in compressed.items()}
    for decoded in (decode_observation(message), decode_observation(message, elsewhere)):
        for name, view in observation.cameras.items():
            got = decoded.cameras[name]
            assert np.abs(got.rgb.astype(int) - view.rgb).mean() < (2 if encoding == "jpeg" else 1)
            assert np.array_equal(got.depth, view.depth)
            assert np.array_equal(got.label, view.label)
