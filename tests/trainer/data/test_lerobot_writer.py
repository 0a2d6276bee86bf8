"""What we write as LeRobot data sets comes back. That LeRobot itself reads it is told in
docs/data/lerobot.md: its package is not a dependency."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from policy_interface.contract import ImageSize
from tests.trainer.data.numbered_data import (
    assert_same_numbers,
    robot_dataset,
    robot_episode,
    shown_numbers,
)
from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.episode import Dataset, Field
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.lerobot_language import language_of
from trainer.data.formats.lerobot_writer import LeRobotWriter
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.formats.writer import Origin
from trainer.data.image_files import ImageSettings
from trainer.data.instructions import SUBTASK_FIELD
from trainer.data.video_writing import VideoSettings, encode_video

FIXTURES = Path(__file__).parent / "fixtures" / "lerobot"
SETTINGS = {
    "h264": {},
    "av1": {"video": VideoSettings(codec="av1")},
    "many files": {"max_data_mb": 1e-4, "max_video_mb": 1e-4},
    "png": {"video": None},
    "jpeg": {"video": None, "images": ImageSettings(encoding="jpeg")},
}


def written(destination: Path, dataset: Dataset, **settings: object) -> Dataset:
    destination.mkdir()
    convert(Source.of(dataset), LeRobotWriter(destination=destination, **settings))  # type: ignore[arg-type]
    return open_dataset(destination)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_written_comes_back(tmp_path: Path, name: str) -> None:
    dataset = robot_dataset()
    back = written(tmp_path / "data", dataset, **SETTINGS[name])
    assert back.format_name == "lerobot-v3"
    assert len(back) == 3
    first = 0
    for got, expected in zip(back, dataset, strict=True):
        assert_same_numbers(got, expected)
        cameras = {
            name: replace(camera, encoding=got.description.cameras[name].encoding)
            for name, camera in expected.description.cameras.items()
        }
        assert got.description == replace(expected.description, cameras=cameras)
        num_steps = expected.description.num_steps
        steps = np.random.default_rng(0).permutation(num_steps).tolist()
        assert shown_numbers(got.frames("scene", steps)) == [first + step for step in steps]
        assert shown_numbers(got.frames("wrist", steps)) == [100 + first + step for step in steps]
        worst = np.abs(got.frames("scene", steps).astype(int) - expected.frames("scene", steps))
        assert worst.max() <= (0 if name == "png" else 8)
        first += num_steps


def test_files_are_as_large_as_asked(tmp_path: Path) -> None:
    written(tmp_path / "one", robot_dataset())
    written(tmp_path / "many", robot_dataset(), **SETTINGS["many files"])
    for folder, num_files in (("one", 1), ("many", 3)):
        assert len(list((tmp_path / folder).glob("data/*/*.parquet"))) == num_files
        assert len(list((tmp_path / folder).glob("videos/*.scene/*/*.mp4"))) == num_files
    rows = pq.ParquetFile(tmp_path / "one" / "data" / "chunk-000" / "file-000.parquet")
    assert [rows.metadata.row_group(group).num_rows for group in range(3)] == [12, 7, 20]


def test_vectors_are_put_together_for_lerobots_policies(tmp_path: Path) -> None:
    written(tmp_path / "data", robot_dataset())
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert info["fps"] == 10
    assert not any("/" in name for name in info["features"])
    assert info["features"]["observation.state"]["shape"] == [9 + 1 + 7]
    names = info["features"]["action"]["names"]
    assert names[:4] == [f"action/pose/right::panda.{n}" for n in ("x", "y", "z", "r00")]
    assert names[9:] == ["action/width_m/right::panda_hand"]
    inputs = [name for name in info["features"] if name.startswith(("observation", "action"))]
    cameras = ["observation.images.scene", "observation.images.wrist"]
    assert sorted(inputs) == ["action", *cameras, "observation.state"]
    (file,) = (tmp_path / "data").glob("data/*/*.parquet")
    action = np.stack(pq.read_table(file)["action"].to_numpy())
    pose = robot_dataset().episode(0).read("action/pose/right::panda")
    np.testing.assert_allclose(action[:12, :3], pose[:, :3, 3], atol=1e-6)
    np.testing.assert_allclose(action[:12, 3:9], pose[:, :2, :3].reshape(12, 6), atol=1e-6)


def test_statistics_are_those_of_the_numbers(tmp_path: Path) -> None:
    dataset = robot_dataset()
    written(tmp_path / "data", dataset)
    stats = json.loads((tmp_path / "data" / "meta" / "stats.json").read_text())
    name = "actual/joint_position_rad/right::panda"
    numbers = np.concatenate([episode.read(name) for episode in dataset])
    told = stats["field.actual.joint_position_rad.right::panda"]
    np.testing.assert_allclose(told["mean"], numbers.mean(axis=0))
    np.testing.assert_allclose(told["std"], numbers.std(axis=0))
    np.testing.assert_array_equal(told["min"], numbers.min(axis=0))
    np.testing.assert_array_equal(told["max"], numbers.max(axis=0))
    np.testing.assert_allclose(told["q50"], np.median(numbers, axis=0), atol=0.15)
    assert told["count"] == [39]
    colours = stats["observation.images.scene"]
    assert np.shape(colours["mean"]) == (3, 1, 1)
    assert 20 / 255 <= np.min(colours["min"]) <= np.max(colours["max"]) <= 236 / 255


@pytest.mark.parametrize("name", ["v3.0-video", "v3.0-image", "v2.1-video", "v2.1-image"])
def test_lerobots_own_data_sets_are_written_again(tmp_path: Path, name: str) -> None:
    source = open_dataset(FIXTURES / name)
    back = written(tmp_path / "data", source)
    for got, expected in zip(back, source, strict=True):
        assert_same_numbers(got, expected)
        assert got.description.instructions == expected.description.instructions
        assert got.description.success == expected.description.success
        steps = range(expected.description.num_steps)
        assert shown_numbers(got.frames("front", steps)) == shown_numbers(
            expected.frames("front", steps)
        )
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert {"observation.state", "action", "next.reward"} <= info["features"].keys()
    assert info["total_tasks"] == 2


def test_conversion_by_workers_goes_on_after_a_stop(tmp_path: Path) -> None:
    dataset = robot_dataset((8, 5, 6, 9))
    destination = tmp_path / "data"
    destination.mkdir()

    def stop_at_two(done: int, total: int, outcome: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    writer = LeRobotWriter(destination=destination)
    with pytest.raises(KeyboardInterrupt):
        convert(Source.of(dataset), writer, ConversionOptions(), stop_at_two)
    summary = convert(Source.of(dataset), writer, ConversionOptions(num_workers=2))
    assert summary.num_kept >= 1
    back = open_dataset(destination)
    for got, expected in zip(back, dataset, strict=True):
        assert_same_numbers(got, expected)
    again = convert(Source.of(dataset), writer)
    assert (again.num_converted, again.num_kept) == (0, 4)
    assert not list(destination.glob(".parts*"))


def test_video_that_the_disk_does_not_take_is_not_the_episodes_fault(tmp_path: Path) -> None:
    """A limit on the size of files stands for it; a DataError would skip the episode."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 64, 3), np.uint8)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*video\.mp4'"):
            encode_video(
                tmp_path / "video.mp4", frames, rate_hz=10, size=(32, 64), settings=VideoSettings()
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_finish_that_was_killed_is_done_again(tmp_path: Path) -> None:
    dataset = robot_dataset((8, 5))
    writer = LeRobotWriter(destination=tmp_path)
    first = dataset.episode(0).description
    writer.begin(first)
    receipts = [writer.write_episode(place, episode) for place, episode in enumerate(dataset)]
    origin = Origin(place="memory", format_name="memory", first=first)
    # The state after a kill in the middle: some folders in place, the information not.
    (tmp_path / "data" / "chunk-000").mkdir(parents=True)
    (tmp_path / ".assembling" / "meta").mkdir(parents=True)
    writer.begin(first)
    assert all(writer.is_whole(receipt) for receipt in receipts)
    writer.finish(receipts, origin)
    writer.finish(receipts, origin)
    assert all(writer.is_whole(receipt) for receipt in receipts)
    for got, expected in zip(open_dataset(tmp_path), dataset, strict=True):
        assert_same_numbers(got, expected)


@pytest.mark.parametrize("video", [VideoSettings(), None])
def test_smaller_frames_have_their_own_intrinsics(
    tmp_path: Path, video: VideoSettings | None
) -> None:
    images = ImageSettings(encoding="png", size=ImageSize(height=24, width=32))
    back = written(tmp_path / "data", robot_dataset((5,)), video=video, images=images)
    (episode,) = back
    camera = episode.description.cameras["scene"]
    assert (camera.height, camera.width) == (24, 32)
    assert shown_numbers(episode.frames("scene", [4, 0])) == [4, 0]
    np.testing.assert_allclose(episode.intrinsics("scene")[0, [0, 1], [0, 1]], [25.0, 25.5])


def test_recorded_times_are_kept(tmp_path: Path) -> None:
    times = np.array([0.0, 0.11, 0.19, 0.52])
    episode = robot_episode(0, 4, times_s=times)
    back = written(tmp_path / "data", MemoryDataset([episode]))
    np.testing.assert_array_equal(back.episode(0).times_s(), times)


def test_rate_that_is_no_whole_number(tmp_path: Path) -> None:
    back = written(tmp_path / "data", MemoryDataset([robot_episode(0, 30, rate_hz=12.5)]))
    assert back.episode(0).description.rate_hz == 12.5
    assert shown_numbers(back.episode(0).frames("scene", [29, 3])) == [29, 3]


def _episode(fields: dict[str, tuple[Field, np.ndarray]], **facts: object) -> ArrayEpisode:
    return ArrayEpisode.make("episode", rate_hz=5.0, fields=fields, **facts)  # type: ignore[arg-type]


def _without_rate() -> ArrayEpisode:
    described = replace(_episode({"a": (Field(shape=()), np.zeros(2))}).description, rate_hz=None)
    return ArrayEpisode(described, np.zeros(2), {"a": np.zeros(2)}, {}, {}, {})


def _with_subtasks(places: list[int], name: str = "episode") -> ArrayEpisode:
    subtask = Field(shape=(), dtype="int64")
    told = {"original": ("tidy up",), "verbose": ("tidy all up",), "subtask": ("reach", "lift")}
    fields = {SUBTASK_FIELD: (subtask, np.array(places))}
    return ArrayEpisode.make(name, rate_hz=5.0, fields=fields, instructions=told)


def test_subtasks_are_written_as_lerobot_annotates_them(tmp_path: Path) -> None:
    episodes = [_with_subtasks([-1, 0, 0, 1]), _with_subtasks([1, 1, 0], "another")]
    back = written(tmp_path / "data", MemoryDataset(episodes))
    for got, expected in zip(back, episodes, strict=True):
        assert got.description.instructions == expected.description.instructions
        np.testing.assert_array_equal(got.read(SUBTASK_FIELD), expected.read(SUBTASK_FIELD))
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert info["features"]["language_persistent"]["dtype"] == "language"
    (file,) = (tmp_path / "data").glob("data/*/*.parquet")
    rows = pq.read_table(file)["language_persistent"].to_pylist()
    assert rows[:4] == [rows[0]] * 4
    assert rows[4:] == [rows[4]] * 3
    assert [(one["role"], one["style"], one["content"]) for one in rows[0]] == [
        ("user", "task_aug", "tidy all up"),
        ("assistant", "subtask", "reach"),
        ("assistant", "subtask", "lift"),
    ]
    # At 5 Hz.
    assert [one["timestamp"] for one in rows[0]] == pytest.approx([0.0, 0.2, 0.6])
    assert [one["timestamp"] for one in rows[4]] == pytest.approx([0.0, 0.0, 0.4])
    assert {one["camera"] for one in rows[0]} == {one["tool_calls"] for one in rows[0]} == {None}
    # Those who know nothing of our own columns read the same from LeRobot's.
    language = language_of(rows[0])
    assert language.phrasings == ("tidy all up",)
    assert language.subtask_places(np.float32([0.0, 0.2, 0.4, 0.6])).tolist() == [-1, 0, 0, 1]


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (_without_rate(), "tells of no rate"),
        (_with_subtasks([0, -1, 0]), "a subtask ends at step 1 and none begins"),
        (_with_subtasks([0, 2, 0]), "expected places in 2 subtasks, got 0 to 2"),
        (
            _episode({}, images={"top": np.zeros((2, 33, 64, 3), np.uint8)}),
            "64x33 cannot be a video",
        ),
        (
            _episode({name: (Field(shape=()), np.zeros(2)) for name in ("a/b", "a.b")}),
            "another field becomes",
        ),
        (
            _episode({"note": (Field(shape=(), dtype="U3"), np.array(["a", "b"], "U3"))}),
            "LeRobot holds numbers alone",
        ),
    ],
)
def test_what_lerobot_cannot_hold_is_said_first(
    tmp_path: Path, episode: ArrayEpisode, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        convert(Source.of(MemoryDataset([episode])), LeRobotWriter(destination=tmp_path))
