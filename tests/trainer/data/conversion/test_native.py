"""The training format: what is written comes back, and what is damaged is told."""

from __future__ import annotations

import io
import json
import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from PIL import Image

from policy_interface.contract import ImageSize
from tests.trainer.data.numbered_data import robot_dataset, shown_numbers
from trainer.data.conversion import Source, convert
from trainer.data.episode import Camera, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.formats.native import NativeDataset, NativeEpisode
from trainer.data.formats.native_layout import FRAME_BOUNDS
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.image_files import ImageSettings, decode_image

_FIXTURES = Path(__file__).parents[1] / "fixtures" / "native"
_DTYPES = ("bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64")


def make_episode(
    number: int, *, num_steps: int = 6, size: tuple[int, int] = (24, 32), cameras: int = 2
) -> ArrayEpisode:
    rng = np.random.default_rng(number)
    images = {
        f"camera_{place}": rng.integers(0, 256, (num_steps, *size, 3), dtype=np.uint8)
        for place in range(cameras)
    }
    matrices = np.tile(np.array([[20.0, 0, 15.5], [0, 20.0, 11.5], [0, 0, 1]]), (num_steps, 1, 1))
    return ArrayEpisode.make(
        f"episode_{number}",
        rate_hz=10.0,
        fields={
            "action": (
                Field(shape=(3,), role="action", unit="m", names=("x", "y", "z")),
                rng.standard_normal((num_steps, 3)),
            ),
            "state": (Field(shape=(), dtype="float32"), rng.random(num_steps, np.float32)),
        },
        images=images,
        intrinsics=dict.fromkeys(images, matrices),
        extrinsics={"camera_0": rng.standard_normal((num_steps, 4, 4))},
        camera_frame="table",
        instructions={"original": ("put it down",), "verbose": ("put", "down")},
        task="PutDown",
        success=number % 2 == 0,
        seed=number,
        provenance={"robot": "panda"},
    )


def write(
    episodes: list[ArrayEpisode], folder: Path, images: ImageSettings | None = None
) -> NativeDataset:
    writer = NativeWriter(destination=folder, images=images or ImageSettings(encoding="png"))
    convert(Source.of(MemoryDataset(episodes)), writer)
    dataset = open_dataset(folder)
    assert isinstance(dataset, NativeDataset)
    return dataset


@pytest.fixture
def written(tmp_path: Path) -> NativeDataset:
    return write([make_episode(number) for number in range(3)], tmp_path / "box")


def test_everything_comes_back(written: NativeDataset) -> None:
    for number in range(3):
        source, stored = make_episode(number), written.episode(number)
        told, kept = source.description, stored.description
        assert kept == EpisodeDescription(
            **{
                **vars(told),
                "cameras": {
                    name: Camera(**{**vars(camera), "encoding": "png"})
                    for name, camera in told.cameras.items()
                },
            }
        )
        np.testing.assert_array_equal(stored.times_s(), source.times_s())
        for camera, facts in told.cameras.items():
            steps = [5, 0, 0, 3]
            np.testing.assert_array_equal(
                stored.frames(camera, steps), source.frames(camera, steps)
            )
            np.testing.assert_array_equal(
                stored.intrinsics(camera, 1, 4), source.intrinsics(camera, 1, 4)
            )
            if facts.has_extrinsics:
                np.testing.assert_array_equal(
                    stored.extrinsics(camera, 1, 4), source.extrinsics(camera, 1, 4)
                )
    with pytest.raises(DataError, match="camera 'camera_1' has no extrinsics"):
        written.episode(0).extrinsics("camera_1")


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, npt.NDArray[np.generic]]:
    num_steps = draw(st.integers(1, 5))
    names = draw(
        st.lists(
            st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("@")),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    fields: dict[str, npt.NDArray[np.generic]] = {}
    for name in names:
        dtype = np.dtype(draw(st.sampled_from(_DTYPES)))
        shape = draw(numpy_strategies.array_shapes(min_dims=0, max_dims=3, max_side=4))
        # Any bits, such as NaNs with a payload and negative zeros.
        count = num_steps * int(np.prod(shape)) * dtype.itemsize
        data = draw(st.binary(min_size=count, max_size=count))
        if dtype == np.bool_:
            data = bytes(byte & 1 for byte in data)
        if draw(st.booleans()):
            # What no step changes is stored once.
            data = data[: count // num_steps] * num_steps
        fields[name] = np.frombuffer(data, dtype).reshape(num_steps, *shape)
    return fields


@given(fields=_fields(), data=st.data())
@settings(max_examples=30)
def test_low_dimensional_data_are_bit_exact(
    tmp_path_factory: pytest.TempPathFactory,
    fields: dict[str, npt.NDArray[np.generic]],
    data: st.DataObject,
) -> None:
    episode = ArrayEpisode.make(
        "one",
        rate_hz=20.0,
        fields={
            name: (Field(shape=array.shape[1:], dtype=array.dtype.name), array)
            for name, array in fields.items()
        },
    )
    stored = write([episode], tmp_path_factory.mktemp("random") / "data").episode(0)
    for name, array in fields.items():
        start = data.draw(st.integers(0, len(array)))
        stop = data.draw(st.integers(start, len(array)))
        read = stored.read(name, start, stop)
        assert read.dtype == array.dtype
        assert read.shape == array[start:stop].shape
        assert read.tobytes() == array[start:stop].tobytes()


def test_the_same_data_give_the_same_digest_and_others_another(tmp_path: Path) -> None:
    digests = [
        write([make_episode(number)], tmp_path / name).digest
        for name, number in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digests[0] == digests[1] != digests[2]


class _JpegEpisode(ArrayEpisode):
    """Frames that are JPEG files already."""

    files: tuple[bytes, ...] = ()

    @staticmethod
    def of(files: list[bytes], height: int, width: int) -> _JpegEpisode:
        steps = len(files)
        description = EpisodeDescription(
            episode_id="jpeg",
            num_steps=steps,
            rate_hz=10.0,
            fields={"x": Field(shape=())},
            cameras={"front": Camera(height=height, width=width, encoding="jpeg")},
        )
        episode = _JpegEpisode(
            description, np.arange(steps) / 10.0, {"x": np.zeros(steps)}, {}, {}, {}
        )
        episode.files = tuple(files)
        return episode

    def frames(self, camera: str, steps: object) -> npt.NDArray[np.uint8]:
        assert isinstance(steps, range)
        return np.stack([simplejpeg.decode_jpeg(self.files[step]) for step in steps])

    def encoded_frames(self, camera: str, steps: object) -> list[bytes]:
        assert isinstance(steps, range)
        return [self.files[step] for step in steps]


def _jpeg_files(num: int, height: int, width: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (num, height, width, 3), dtype=np.uint8)
    return [simplejpeg.encode_jpeg(frame, quality=70) for frame in frames]


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_jpeg_files_are_copied_byte_for_byte(tmp_path: Path, encoding: str) -> None:
    files = _jpeg_files(4, 16, 24)
    images = ImageSettings(encoding="png" if encoding == "png" else "jpeg", quality=30)
    dataset = write([_JpegEpisode.of(files, 16, 24)], tmp_path / "data", images)
    assert dataset.episode(0).encoded_frames("front", range(4)) == files
    assert dataset.episode(0).description.cameras["front"].encoding == "jpeg"


def test_a_jpeg_file_that_begins_otherwise_is_copied_byte_for_byte_too(tmp_path: Path) -> None:
    files = _jpeg_files(5, 16, 24)
    with Image.open(io.BytesIO(files[3])) as image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=30, optimize=True)
    files[3] = buffer.getvalue()
    dataset = write([_JpegEpisode.of(files, 16, 24)], tmp_path / "data")
    assert dataset.episode(0).encoded_frames("front", range(5)) == files
    (alone,) = write([_JpegEpisode.of(files[3:4], 16, 24)], tmp_path / "alone")
    assert alone.encoded_frames("front", range(1)) == files[3:4]
    assert list(dataset.verify()) == [None]


def test_how_jpeg_files_begin_is_stored_once(tmp_path: Path) -> None:
    files = _jpeg_files(50, 16, 24)
    scan = files[0].index(b"\xff\xda")
    assert all(file[:scan] == files[0][:scan] for file in files)
    dataset = write([_JpegEpisode.of(files, 16, 24)], tmp_path / "data")
    num_bytes = (Path(dataset.where) / dataset.manifest.episodes[0].file).stat().st_size
    # Of a row, the time and where the one frame lies: x is 0 at every step.
    once = 64 + scan + 64 + 50 * (8 + 16)
    assert num_bytes - once - sum(len(file) - scan for file in files) < 1500


@pytest.mark.parametrize("still", [2, 20])
def test_tables_of_frames_that_stand_still_at_first_are_not_taken_for_shared(
    tmp_path: Path, still: int
) -> None:
    rng = np.random.default_rng(0)
    frames = np.full((60, 16, 24, 3), 128, np.uint8)
    frames[still:] = rng.integers(0, 256, (60 - still, 16, 24, 3), dtype=np.uint8)
    dataset = write(
        [ArrayEpisode.make("one", rate_hz=1.0, fields={}, images={"front": frames})],
        tmp_path / "data",
        ImageSettings(),
    )
    files = dataset.episode(0).encoded_frames("front", range(60)) or []
    np.testing.assert_array_equal(
        dataset.episode(0).frames("front", range(60)), [decode_image(file) for file in files]
    )
    tables = files[-1].index(b"\xff\xc4")
    saved = sum(map(len, files)) - dataset.manifest.episodes[0].rows_at
    assert saved > 59 * tables - 500


def test_what_no_step_changes_is_stored_once(tmp_path: Path) -> None:
    def episode(moving: bool) -> ArrayEpisode:
        values = np.tile(np.linspace(0, 1, 1000), (100, 1))
        values += 0.001 * np.arange(100)[:, None] * moving
        fields = {"x": (Field(shape=(1000,)), values)}
        return ArrayEpisode.make(str(moving), rate_hz=1.0, fields=fields)

    dataset = write([episode(False), episode(True)], tmp_path / "data")
    still, moving = (
        (Path(dataset.where) / record.file).stat().st_size for record in dataset.manifest.episodes
    )
    assert still < 8_000 + 100 * 8 + 1_000
    assert moving > 100 * 8_000


def test_data_sets_of_the_first_version_are_read(tmp_path: Path) -> None:
    """Written by the writer of commit 8aa0f65, of `robot_dataset((4, 3))`."""
    dataset = open_dataset(_FIXTURES / "version_1")
    assert isinstance(dataset, NativeDataset)
    assert list(dataset.verify()) == [None, None]
    assert dataset.digest == "67435d9373ee9a5255b42290c335e5e4cd2a1deff24a571f49ac661eb2975374"
    convert(Source.at(_FIXTURES / "version_1"), NativeWriter(destination=tmp_path / "again"))
    for data in (dataset, open_dataset(tmp_path / "again")):
        first = 0
        for got, expected in zip(data, robot_dataset((4, 3)), strict=True):
            num_steps = expected.description.num_steps
            for name in expected.description.fields:
                np.testing.assert_array_equal(got.read(name, 1), expected.read(name, 1))
            np.testing.assert_array_equal(got.extrinsics("scene"), expected.extrinsics("scene"))
            shown = shown_numbers(got.frames("scene", range(num_steps)))
            assert shown == list(range(first, first + num_steps))
            first += num_steps


@pytest.mark.parametrize(("place", "message"), [(-4, "frames share is cut"), (-8, "frames lie")])
def test_a_corrupt_description_of_what_is_shared_is_told(
    tmp_path: Path, place: int, message: str
) -> None:
    dataset = write([_JpegEpisode.of(_jpeg_files(3, 16, 24), 16, 24)], tmp_path / "data")
    record = dataset.manifest.episodes[0]
    path = Path(dataset.where) / record.file
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"\xff\xd8", 0, record.rows_at)
    data[begin + place : begin + place + 4] = b"\xff\xff\xff\x7f" if place == -4 else bytes(4)
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"episode jpeg: .*{message}"):
        dataset.episode(0).read("x")


def test_a_corrupt_jpeg_file_is_not_copied(tmp_path: Path) -> None:
    files = _jpeg_files(4, 16, 24)
    files[2] = files[2][: len(files[2]) // 2]
    with pytest.raises(DataError, match=r"episode jpeg: camera 'front', step 2: corrupt image"):
        write([_JpegEpisode.of(files, 16, 24)], tmp_path / "data")


def test_a_frame_of_another_size_is_told(tmp_path: Path) -> None:
    files = [*_jpeg_files(2, 16, 24), *_jpeg_files(1, 16, 20)]
    with pytest.raises(DataError, match=r"step 2: expected 24x16, got 20x16"):
        write([_JpegEpisode.of(files, 16, 24)], tmp_path / "data")


def test_resized_frames_keep_their_rays(tmp_path: Path) -> None:
    """A pixel's ray before, through the new intrinsics, is the same ray."""
    images = ImageSettings(encoding="jpeg", size=ImageSize(height=12, width=8))
    stored = write([make_episode(0)], tmp_path / "data", images).episode(0)
    assert stored.frames("camera_0", [0]).shape == (1, 12, 8, 3)
    before = make_episode(0).intrinsics("camera_0")[0]
    after = stored.intrinsics("camera_0")[0]
    # The image's corners, half a pixel outside the outermost pixels' centres.
    for corner_before, corner_after in (((-0.5, -0.5), (-0.5, -0.5)), ((31.5, 23.5), (7.5, 11.5))):
        rays = [
            np.linalg.solve(matrix, [*corner, 1.0])
            for matrix, corner in ((before, corner_before), (after, corner_after))
        ]
        np.testing.assert_allclose(*rays, atol=1e-12)


def test_verify_finds_a_changed_byte(written: NativeDataset) -> None:
    assert list(written.verify()) == [None, None, None]
    path = Path(written.where) / "episodes" / "000001.episode"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    first, second, third = written.verify()
    assert first is None
    assert third is None
    assert "000001.episode, episode episode_1" in str(second)
    assert "SHA-256" in str(second)


def test_a_truncated_file_is_told_and_the_others_stay_readable(written: NativeDataset) -> None:
    path = Path(written.where) / "episodes" / "000001.episode"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(DataError, match=r"000001\.episode, episode episode_1: expected \d+ bytes"):
        written.episode(1).read("action")
    assert written.episode(2).read("action").shape == (6, 3)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(written: NativeDataset) -> None:
    reader = written.reader()
    reader.rows(1, 0, 2)
    os.truncate(Path(written.where) / "episodes" / "000001.episode", 64)
    with pytest.raises(DataError, match="cut short while it was read"):
        reader.rows(1, 0, 2)


def test_a_missing_file_names_its_episode(written: NativeDataset) -> None:
    (Path(written.where) / "episodes" / "000002.episode").unlink()
    with pytest.raises(DataError, match="episode episode_2: cannot be opened: No such file"):
        written.episode(2).read("action")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["episodes"][1]["facts"].update(success=True), "changed by hand"),
        (lambda told: told.pop("episodes"), "not a manifest"),
        (lambda told: told.update(format="assay.native/9"), "expected format 'assay.native/2'"),
        (lambda told: told.update(complete=False), "stopped after 3 episodes"),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(
    written: NativeDataset, change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = Path(written.where) / "manifest.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=message):
        open_dataset(written.where)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../secret"}, "outside the data set: '../secret'"),
        ({"file": "/etc/passwd"}, "outside the data set: '/etc/passwd'"),
        ({"rows_at": 1 << 50}, "its rows lie outside the file"),
        ({"rows_at": -(1 << 50)}, "its rows lie outside the file"),
        ({"shared_bytes": 1 << 50}, "its rows lie outside the file"),
        ({"shared_bytes": -64}, "its rows lie outside the file"),
        ({"shared_bytes": 8}, "what its steps share is cut short"),
    ],
)
def test_a_manifest_made_with_bad_intent_reads_nothing_else(
    written: NativeDataset, changes: dict[str, object], message: str
) -> None:
    """Unlike one changed by hand, its checksum is right."""
    first, *others = written.manifest.episodes
    manifest = replace(written.manifest, episodes=(replace(first, **changes), *others))
    manifest.save(Path(written.where) / "manifest.json")
    (Path(written.where).parent / "secret").write_bytes(b"1" * first.num_bytes)
    dataset = open_dataset(written.where)
    with pytest.raises(DataError, match=message):
        dataset.episode(0).read("action")
    assert dataset.episode(1).read("action").shape == (6, 3)


def test_bounds_of_frames_that_are_out_of_order_are_told(written: NativeDataset) -> None:
    record, dtype = written.manifest.episodes[1], written.reader().dtype
    path = Path(written.where) / record.file
    place = record.rows_at + (dtype.fields or {})[FRAME_BOUNDS][1] + 8
    with path.open("r+b") as file:
        file.seek(place)
        file.write((1 << 60).to_bytes(8, "little"))
    with pytest.raises(DataError, match="episode_1: step 0: its frames lie outside the file"):
        written.episode(1).frames("camera_1", [0])


def test_a_jpeg_file_that_claims_gigabytes_is_refused_unread() -> None:
    data = bytearray(_jpeg_files(1, 16, 24)[0])
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(DataError, match="corrupt image: 65500x65500 is more than"):
        decode_image(bytes(data))


def test_a_misspelt_field_gets_a_suggestion(written: NativeDataset) -> None:
    with pytest.raises(DataError, match="did you mean 'action'"):
        written.episode(0).read("acton")


def test_a_window_is_the_same_as_the_episodes_own_data(written: NativeDataset) -> None:
    reader = pickle.loads(pickle.dumps(written.reader()))  # noqa: S301 (our own)
    assert reader.num_steps.tolist() == [6, 6, 6]
    rows = reader.rows(2, 1, 5)
    np.testing.assert_array_equal(rows["action"], make_episode(2).read("action", 1, 5))
    out = {"camera_1": np.zeros((2, 24, 32, 3), np.uint8)}
    images = reader.images(2, [4, 1], ["camera_1"], out)
    assert images["camera_1"] is out["camera_1"]
    np.testing.assert_array_equal(images["camera_1"], make_episode(2).frames("camera_1", [4, 1]))
    with pytest.raises(DataError, match="expected steps from 0 to 5, got 6"):
        reader.images(2, [6])


def test_few_files_are_open_and_threads_may_share_a_reader(tmp_path: Path) -> None:
    dataset = write([make_episode(number, num_steps=3) for number in range(12)], tmp_path / "data")
    reader = dataset.reader(max_open_files=2)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    wrong: list[int] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for number in rng.integers(0, 12, 300).tolist():
            rows = reader.rows(number, 0, 3)
            if rows["action"].tobytes() != expected[number]:
                wrong.append(number)

    expected = [make_episode(number, num_steps=3).read("action").tobytes() for number in range(12)]
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 2


def test_an_episode_gives_all_its_rows_at_once(written: NativeDataset) -> None:
    episode = written.episode(1)
    assert isinstance(episode, NativeEpisode)
    np.testing.assert_array_equal(episode.rows()["state"], make_episode(1).read("state"))


def test_a_field_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for name, dtype in (("x", "complex64"), ("@time_s", "float64")):
        episode = ArrayEpisode.make(
            "one", rate_hz=1.0, fields={name: (Field(shape=(), dtype=dtype), np.zeros(2, dtype))}
        )
        with pytest.raises(DataError, match=f"field '{name}'"):
            write([episode], tmp_path / dtype)
