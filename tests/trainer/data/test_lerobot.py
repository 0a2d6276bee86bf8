"""LeRobot data sets made by LeRobot itself, and what is said of those that are not whole."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from trainer.data.episode import Dataset, Episode
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.image_files import decode_image

FIXTURES = Path(__file__).parent / "fixtures" / "lerobot"
ALL = ("v3.0-video", "v3.0-image", "v2.1-video", "v2.1-image")
LENGTHS = (7, 5, 9)
CAMERA = "observation.images.front"


def shown_numbers(episode: Episode, steps: Sequence[int]) -> list[int]:
    """The number that each frame shows in its eight bars."""
    frames = episode.frames("front", steps)
    assert frames.shape == (len(steps), 32, 64, 3)
    bits = frames[:, 16, 4::8, :].mean(axis=-1) > 128
    return [int((row << np.arange(8)).sum()) for row in bits]


@pytest.fixture(params=ALL)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return open_dataset(FIXTURES / request.param)


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a fixture, to break."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name, tmp_path / name))

    return copy


def test_format_is_recognised() -> None:
    assert [open_dataset(FIXTURES / name).format_name for name in ALL] == [
        "lerobot-v3",
        "lerobot-v3",
        "lerobot-v2",
        "lerobot-v2",
    ]


def test_description_tells_what_the_data_set_tells(dataset: Dataset) -> None:
    assert [episode.description.num_steps for episode in dataset] == list(LENGTHS)
    assert [episode.description.success for episode in dataset] == [True, False, True]
    description = dataset.episode(1).description
    assert description.rate_hz == 10.0
    assert description.instructions == {"original": ("close the door",)}
    assert description.task == "close the door"
    state = description.fields["observation.state"]
    assert (state.role, state.shape, state.dtype) == ("observed", (3,), "float32")
    assert state.names == ("joint_0", "joint_1", "gripper")
    assert description.fields["action"].role == "action"
    assert description.fields["next.success"].dtype == "bool"
    assert list(description.cameras) == ["front"]
    assert description.provenance["robot"] == "panda"


def test_rows_are_those_of_the_episode(dataset: Dataset) -> None:
    first = 0
    for episode, length in zip(dataset, LENGTHS, strict=True):
        numbers = np.arange(first, first + length)
        state = episode.read("observation.state")
        assert state.dtype == np.float32
        np.testing.assert_array_equal(state, np.stack([numbers, numbers / 2, -numbers], axis=1))
        np.testing.assert_array_equal(episode.read("action", 2, 4)[:, 0], numbers[2:4] + 1)
        assert episode.read("next.reward").shape == (length, 1)
        assert episode.read("action", 3, 3).shape == (0, 2)
        np.testing.assert_allclose(episode.times_s(), np.arange(length) / 10, atol=1e-6)
        first += length


def test_every_frame_is_the_one_of_its_step(dataset: Dataset) -> None:
    first = 0
    for episode, length in zip(dataset, LENGTHS, strict=True):
        assert shown_numbers(episode, range(length)) == list(range(first, first + length))
        first += length


def test_frames_come_in_any_order_and_several_times(dataset: Dataset) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        index = int(random.integers(len(LENGTHS)))
        steps = random.integers(LENGTHS[index], size=5).tolist()
        first = sum(LENGTHS[:index])
        shown = shown_numbers(dataset.episode(index), steps)
        assert shown == [first + step for step in steps]
    assert dataset.episode(0).frames("front", []).shape == (0, 32, 64, 3)


def test_task_of_each_step(dataset: Dataset) -> None:
    episode = dataset.episode(2)
    texts = episode.description.instructions["original"]
    told = [texts[place] for place in episode.read("instruction_index")]
    assert told == ["put the box on the shelf"] * 4 + ["close the door"] * 5
    assert episode.description.task is None


def test_images_are_given_as_they_are_stored(dataset: Dataset) -> None:
    episode = dataset.episode(0)
    files = episode.encoded_frames("front", [3, 0])
    if episode.description.cameras["front"].encoding == "video":
        assert files is None
    else:
        assert files is not None
        assert all(file.startswith(b"\x89PNG") for file in files)


def test_data_set_travels_to_other_processes(dataset: Dataset) -> None:
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (its own pickle)
    assert shown_numbers(copy.episode(1), [4]) == [11]


def test_misspelt_names_are_answered_with_the_near_ones(dataset: Dataset) -> None:
    episode = dataset.episode(0)
    with pytest.raises(DataError, match=r"did you mean 'observation.state'"):
        episode.read("observation.sate")
    with pytest.raises(DataError, match=r"did you mean 'front'"):
        episode.frames("frnt", [0])
    with pytest.raises(DataError, match="expected steps from 0 to 6, got 7"):
        episode.frames("front", [7])


@pytest.mark.parametrize("version", ["v1.6", "v4.0"])
def test_other_version_is_an_error(broken: Callable[[str], Path], version: str) -> None:
    folder = broken("v3.0-video")
    change_info(folder, codebase_version=version)
    with pytest.raises(DataError, match=f"codebase_version '{version}' is not known"):
        open_dataset(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"codebase_version": "v3.0"}'])
def test_broken_information_is_an_error(broken: Callable[[str], Path], text: str) -> None:
    folder = broken("v3.0-video")
    (folder / "meta" / "info.json").write_text(text)
    with pytest.raises(DataError, match=r"info\.json"):
        open_dataset(folder)


@pytest.mark.parametrize("name", ["v3.0-image", "v2.1-image"])
def test_missing_column_is_named(broken: Callable[[str], Path], name: str) -> None:
    folder = broken(name)
    for file in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        renamed = ["actions" if column == "action" else column for column in table.column_names]
        pq.write_table(table.rename_columns(renamed), file)
    with pytest.raises(DataError, match=r"episode_000000.*no column 'action' \(did you mean"):
        open_dataset(folder).episode(0).read("action")


@pytest.mark.parametrize("name", ["v3.0-video", "v2.1-video"])
def test_fewer_rows_than_steps_is_an_error(broken: Callable[[str], Path], name: str) -> None:
    folder = broken(name)
    for file in sorted((folder / "data").rglob("*.parquet"))[:1]:
        table = pq.read_table(file)
        pq.write_table(table.filter(pa.array(np.arange(len(table)) != 2)), file)
    episode = open_dataset(folder).episode(0)
    with pytest.raises(DataError, match="episode_000000.*has 7 steps.*but 6 rows"):
        episode.read("action")


def test_noted_video_shorter_than_the_rows_is_an_error(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-video")
    file = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    place = table.column_names.index(f"videos/{CAMERA}/to_timestamp")
    table = table.set_column(place, table.field(place), pa.array([0.5, 1.2, 0.9]))
    pq.write_table(table, file)
    dataset = open_dataset(folder)
    with pytest.raises(DataError, match=r"episode_000000.*has 5 frames.*there are 7 rows"):
        dataset.episode(0)
    assert shown_numbers(dataset.episode(1), [0]) == [7]


def test_video_that_ends_early_is_an_error(broken: Callable[[str], Path]) -> None:
    folder = broken("v2.1-video")
    videos = folder / "videos" / "chunk-000" / CAMERA
    # The second episode is shorter than the third.
    shutil.copy(videos / "episode_000001.mp4", videos / "episode_000002.mp4")
    episode = open_dataset(folder).episode(2)
    assert shown_numbers(episode, [4]) == [11]
    with pytest.raises(DataError, match=r"episode_000002.*no frame at 0\.8.*last one is at 0\.4"):
        episode.frames("front", [8])


@pytest.mark.parametrize("name", ["v3.0-video", "v2.1-video"])
@pytest.mark.parametrize("keep", [0, 600, -300])
def test_corrupt_video_is_an_error(broken: Callable[[str], Path], name: str, keep: int) -> None:
    folder = broken(name)
    for file in (folder / "videos").rglob("*.mp4"):
        file.write_bytes(file.read_bytes()[:keep])
    episode = open_dataset(folder).episode(0)
    with pytest.raises(DataError, match=r"episode_000000.*camera 'front'.*\.mp4"):
        episode.frames("front", range(7))


def test_missing_video_is_an_error(broken: Callable[[str], Path]) -> None:
    folder = broken("v2.1-video")
    (folder / "videos" / "chunk-000" / CAMERA / "episode_000001.mp4").unlink()
    dataset = open_dataset(folder)
    assert shown_numbers(dataset.episode(0), [6]) == [6]
    with pytest.raises(DataError, match="no such video"):
        dataset.episode(1).frames("front", [0])


@pytest.mark.parametrize("name", ALL)
def test_corrupt_rows_are_an_error(broken: Callable[[str], Path], name: str) -> None:
    folder = broken(name)
    for file in (folder / "data").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"episode_000000.*cannot be read as parquet"):
        open_dataset(folder).episode(0).read("action")


def test_corrupt_image_names_the_step(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-image")
    (file,) = (folder / "data").rglob("*.parquet")
    table = pq.read_table(file)
    place = table.column_names.index(CAMERA)
    images = table[CAMERA].to_pylist()
    images[2]["bytes"] = images[2]["bytes"][:50]
    images[3]["bytes"] = None
    table = table.set_column(place, table.field(place), pa.array(images, table.field(place).type))
    pq.write_table(table, file)
    episode = open_dataset(folder).episode(0)
    assert shown_numbers(episode, [0, 1, 4]) == [0, 1, 4]
    with pytest.raises(DataError, match="episode_000000.*camera 'front', step 2: corrupt image"):
        episode.frames("front", [2])
    with pytest.raises(DataError, match="camera 'front', step 3: no image"):
        episode.frames("front", [3])


@pytest.mark.parametrize("name", ["v3.0-video", "v2.1-video"])
@pytest.mark.parametrize("key", ["data_path", "video_path"])
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("../secret", "outside the data set: '../secret'"),
        ("/etc/passwd", "outside the data set: '/etc/passwd'"),
        ("data/{station}.parquet", "gives no path with"),
        ("data/{0}.parquet", "gives no path with"),
        ("data/{", "gives no path with"),
        (5, "gives no path with"),
    ],
)
def test_paths_that_lead_nowhere_or_elsewhere_are_an_error(
    broken: Callable[[str], Path], name: str, key: str, template: object, message: str
) -> None:
    folder = broken(name)
    change_info(folder, **{key: template})
    with pytest.raises(DataError, match=message):
        open_dataset(folder)


def test_image_file_outside_the_data_set_is_not_read(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-image")
    (file,) = (folder / "data").rglob("*.parquet")
    table = pq.read_table(file)
    place = table.column_names.index(CAMERA)
    images = table[CAMERA].to_pylist()
    for step, path in enumerate(("inside.png", "../outside.png")):
        (folder / path).write_bytes(images[step]["bytes"])
        images[step] = {"bytes": None, "path": path}
    table = table.set_column(place, table.field(place), pa.array(images, table.field(place).type))
    pq.write_table(table, file)
    episode = open_dataset(folder).episode(0)
    assert shown_numbers(episode, [0]) == [0]
    with pytest.raises(DataError, match="episode_000000.*step 1: .*outside the data set"):
        episode.frames("front", [1])


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("episodes.jsonl", '{"episode_index": "first", "length": 7}'),
        ("episodes.jsonl", '{"episode_index": 0, "length": null}'),
        ("episodes.jsonl", '["episode_index", "length"]'),
        ("episodes_stats.jsonl", '{"episode_index": 0, "stats": []}'),
        ("tasks.jsonl", '{"task_index": [], "task": "open"}'),
        ("tasks.jsonl", "[" * 100_000),
    ],
)
def test_tables_of_other_things_are_an_error(
    broken: Callable[[str], Path], file: str, line: str
) -> None:
    folder = broken("v2.1-video")
    lines = (folder / "meta" / file).read_text().splitlines()
    (folder / "meta" / file).write_text("\n".join([line, *lines[1:]]))
    with pytest.raises(DataError, match=r"v2\.1-video"):
        open_dataset(folder)


def test_no_episodes_is_an_error(broken: Callable[[str], Path]) -> None:
    folder = broken("v2.1-video")
    (folder / "meta" / "episodes.jsonl").write_text("")
    with pytest.raises(DataError, match="no episodes"):
        open_dataset(folder)
    folder = broken("v3.0-video")
    shutil.rmtree(folder / "meta" / "episodes")
    change_info(folder, total_episodes=0)
    with pytest.raises(DataError, match="no episodes"):
        open_dataset(folder)


@pytest.mark.parametrize("name", ["v3.0-video", "v2.1-video"])
def test_tables_that_disagree_are_an_error(broken: Callable[[str], Path], name: str) -> None:
    folder = broken(name)
    change_info(folder, total_episodes=4)
    with pytest.raises(DataError, match=r"tells of 4 episodes.* has 3"):
        open_dataset(folder)


def test_features_are_understood_however_they_are_told(broken: Callable[[str], Path]) -> None:
    folder = broken("v2.1-video")
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    features[CAMERA] |= {"shape": [3, 32, 64], "names": ["channels", "height", "width"]}
    features["observation.state"]["names"] = {"motors": ["waist", "elbow", "grip"]}
    features["action"]["names"] = {"grip": 1, "waist": 0}
    features["observation.note"] = {"dtype": "string", "shape": [1], "names": None}
    depth = {"dtype": "video", "shape": [32, 64, 3], "info": {"video.is_depth_map": True}}
    features["observation.images.depth"] = depth
    change_info(folder, features=features)
    episode = open_dataset(folder).episode(0)
    assert episode.description.fields["observation.state"].names == ("waist", "elbow", "grip")
    assert episode.description.fields["action"].names == ("waist", "grip")
    assert list(episode.description.cameras) == ["front"]
    assert shown_numbers(episode, [3]) == [3]
    left_out = episode.description.provenance["features_left_out"]
    assert "observation.note (holds no numbers but string)" in left_out
    assert "observation.images.depth (a depth map" in left_out


_ANNOTATION = pa.struct(
    {
        "role": pa.string(),
        "content": pa.string(),
        "style": pa.string(),
        "timestamp": pa.float32(),
        "camera": pa.string(),
        "tool_calls": pa.list_(pa.string()),
    }
)


def annotate(folder: Path, annotations: Sequence[object], kind: pa.DataType = _ANNOTATION) -> None:
    """The same of all episodes, as LeRobot repeats them: in every row of `language_persistent`."""
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    column = pa.array([annotations] * table.num_rows, pa.list_(kind))
    pq.write_table(table.append_column("language_persistent", column), file)
    feature = {"dtype": "language", "shape": [1], "names": None}
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    named = {"language_persistent": feature, "language_events": feature}
    change_info(folder, features={**features, **named})


def annotation(style: str, content: str | None, timestamp: float) -> dict[str, object]:
    told = {"role": "assistant", "camera": None, "tool_calls": None}
    return {**told, "style": style, "content": content, "timestamp": timestamp}


def test_subtasks_hold_from_their_time_on(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-image")
    told = [
        annotation("task_aug", "shut the door", 0.0),
        annotation("subtask", "let go", 0.4),
        annotation("plan", "reach, then pull", 0.0),
        annotation("subtask", "reach", 0.1),
        annotation("subtask", "reach", 0.6),
    ]
    annotate(folder, told)
    episode = open_dataset(folder).episode(0)
    original = open_dataset(FIXTURES / "v3.0-image").episode(0).description.instructions
    assert episode.description.instructions == {
        **original,
        "alternative": ("shut the door",),
        "subtask": ("reach", "let go"),
    }
    # Seven steps at 10 Hz.
    assert episode.read("subtask_index").tolist() == [-1, 0, 0, 0, 1, 1, 0]
    assert episode.read("subtask_index", 3, 5).tolist() == [0, 1]
    left_out = episode.description.provenance["features_left_out"]
    assert "language_persistent (its plans, memories and motions)" in left_out
    assert "language_events (words about single moments)" in left_out


def test_nothing_may_be_annotated(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-image")
    annotate(folder, [])
    episode = open_dataset(folder).episode(1)
    assert list(episode.description.instructions) == ["original"]
    assert episode.read("subtask_index").tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        ([annotation("subtask", None, 0.0)], _ANNOTATION, "annotation 0: subtask: expected a text"),
        ([annotation("subtask", "a", float("nan"))], _ANNOTATION, "expected its time, got nan"),
        ([annotation("subtask", text, 0.2) for text in "ab"], _ANNOTATION, "1: a second subtask"),
        (["reach"], pa.string(), "annotation 0: expected style and content, got 'reach'"),
    ],
)
def test_broken_annotations_are_an_error(
    broken: Callable[[str], Path], told: Sequence[object], kind: pa.DataType, said: str
) -> None:
    folder = broken("v3.0-image")
    annotate(folder, told, kind)
    with pytest.raises(DataError, match=said) as raised:
        open_dataset(folder).episode(0)
    assert "field 'language_persistent'" in str(raised.value)


def test_images_may_be_jpeg(broken: Callable[[str], Path]) -> None:
    folder = broken("v3.0-image")
    (file,) = (folder / "data").rglob("*.parquet")
    table = pq.read_table(file)
    place = table.column_names.index(CAMERA)
    images = table[CAMERA].to_pylist()
    for image in images:
        image["bytes"] = simplejpeg.encode_jpeg(decode_image(image["bytes"]), quality=95)
    table = table.set_column(place, table.field(place), pa.array(images, table.field(place).type))
    pq.write_table(table, file)
    episode = open_dataset(folder).episode(1)
    assert episode.description.cameras["front"].encoding == "jpeg"
    assert shown_numbers(episode, range(5)) == [7, 8, 9, 10, 11]
    assert episode.encoded_frames("front", [2]) == [images[9]["bytes"]]


def change_info(folder: Path, **changes: object) -> None:
    file = folder / "meta" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
