"""VLA Foundry's shards: what we write comes back.
That Foundry's own loader reads them is told in docs/data/foundry.md."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from policy_interface.contract import ImageSize
from tests.trainer.data.foundry_shards import rewrite, written
from tests.trainer.data.numbered_data import (
    robot_dataset,
    robot_episode,
    shown_numbers,
)
from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.foundry_writer import FoundryWriter
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.image_files import ImageSettings
from trainer.data.instructions import INSTRUCTION_FIELD
from trainer.data.windows import WindowSpec

ACTUAL = "robot__actual__poses__right::panda"
ACTION = "robot__action__poses__right::panda"


def samples(folder: Path) -> list[dict[str, Any]]:
    """As a plain reader of tars sees them, by suffix."""
    found: dict[str, dict[str, Any]] = {}
    for shard in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                file = archive.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[suffix] = file.read()
    return list(found.values())


def lowdim(sample: dict[str, Any]) -> dict[str, Any]:
    return dict(np.load(io.BytesIO(sample["lowdim.npz"]), allow_pickle=False))


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    dataset = robot_dataset()
    back = open_dataset(written(tmp_path / "data", dataset, windows_per_shard=10))
    assert back.format_name == "foundry"
    assert len(list((tmp_path / "data" / "shards").glob("*.tar"))) == 4
    assert len(back) == 3
    first = 0
    for got, expected in zip(back, dataset, strict=True):
        described, source = got.description, expected.description
        num_steps = source.num_steps
        assert (described.episode_id, described.num_steps) == (source.episode_id, num_steps)
        assert described.instructions == source.instructions
        assert (described.success, described.task) == (source.success, source.task)
        assert (described.rate_hz, described.seed) == (10.0, source.seed)
        pose = expected.read("action/pose/right::panda")
        np.testing.assert_array_equal(got.read(f"{ACTION}__xyz"), pose[:, :3, 3])
        rows = pose[:, :2, :3].reshape(num_steps, 6)
        np.testing.assert_array_equal(got.read(f"{ACTION}__rot_6d", 1, 5), rows[1:5])
        joints = got.read("robot__actual__joint_position__right::panda")
        np.testing.assert_array_equal(
            joints, expected.read("actual/joint_position_rad/right::panda")
        )
        counts = got.read("count")
        assert counts.dtype == np.int32
        np.testing.assert_array_equal(counts, expected.read("count"))
        steps = np.random.default_rng(0).permutation(num_steps).tolist()
        assert shown_numbers(got.frames("scene", steps)) == [first + step for step in steps]
        assert shown_numbers(got.frames("wrist", steps)) == [100 + first + step for step in steps]
        np.testing.assert_array_equal(
            got.intrinsics("scene", 2, 4), expected.intrinsics("scene", 2, 4)
        )
        np.testing.assert_array_equal(got.extrinsics("scene"), expected.extrinsics("scene"))
        assert not described.cameras["wrist"].has_intrinsics
        first += num_steps


def test_fields_are_known_by_their_names(tmp_path: Path) -> None:
    back = open_dataset(written(tmp_path / "data", robot_dataset((5,))))
    fields = back.episode(0).description.fields
    assert fields[f"{ACTUAL}__xyz"].kind == "translation"
    assert fields[f"{ACTUAL}__rot_6d"].kind == "rotation_6d_rows"
    assert fields["robot__actual__grippers__right::panda_hand"].role == "observed"
    assert not any(name.endswith("_relative") or "mask" in name for name in fields)


def test_windows_are_laid_out_as_foundry_has_them(tmp_path: Path) -> None:
    dataset = robot_dataset((12,))
    folder = written(tmp_path / "data", dataset)
    manifest = (folder / "shards" / "manifest.jsonl").read_text()
    assert json.loads(manifest) == {"shard": "shard_000000", "num_sequences": 12}
    config = yaml.safe_load((folder / "shards" / "preprocessing_config.yaml").read_text())
    assert (config["camera_names"], config["image_indices"]) == (["scene", "wrist"], [-1, 0])
    found = {json.loads(s["metadata.json"])["anchor_timestep"]: s for s in samples(folder)}
    assert sorted(found) == list(range(12))
    first, last = found[0], found[11]
    assert set(first) == {
        "scene_t-1.jpg",
        "scene_t0.jpg",
        "wrist_t-1.jpg",
        "wrist_t0.jpg",
        "lowdim.npz",
        "metadata.json",
        "language_instructions.json",
    }
    metadata = json.loads(first["metadata.json"])
    assert metadata["image_timesteps"] == [0, 0]
    assert (metadata["past_padding"], metadata["future_padding"]) == (1, 3)
    assert metadata["original_image_sizes"] == {"scene": [64, 48], "wrist": [64, 32]}
    arrays = lowdim(first)
    assert arrays["past_mask"].tolist() == [False] * 16
    assert arrays["future_mask"].tolist() == [False] + [True] * 12 + [False] * 3
    arrays = lowdim(last)
    assert arrays["past_mask"].tolist() == [True] + [False] * 15
    assert arrays["future_mask"].tolist() == [False, True] + [False] * 14
    pose = dataset.episode(0).read("action/pose/right::panda")
    np.testing.assert_array_equal(arrays[f"{ACTION}__xyz"][0], pose[10, :3, 3])
    np.testing.assert_array_equal(arrays[f"{ACTION}__xyz"][1:], np.tile(pose[11, :3, 3], (15, 1)))
    assert arrays["original_intrinsics.scene"].shape == (16, 3, 3)
    assert json.loads(first["language_instructions.json"]) == {
        "original": ["do task 0"],
        "verbose": ["a", "b"],
    }


def test_relative_poses_refer_to_the_measured_pose_at_the_anchor(tmp_path: Path) -> None:
    dataset = robot_dataset((20,))
    folder = written(tmp_path / "data", dataset)
    measured = dataset.episode(0).read("actual/pose/right::panda")
    action = dataset.episode(0).read("action/pose/right::panda")
    for sample in samples(folder):
        anchor = json.loads(sample["metadata.json"])["anchor_timestep"]
        arrays = lowdim(sample)
        steps = np.clip(np.arange(anchor - 1, anchor + 15), 0, 19)
        relative = np.linalg.inv(measured[anchor]) @ action[steps]
        np.testing.assert_allclose(
            arrays[f"{ACTION}__xyz_relative"], relative[:, :3, 3], atol=1e-12
        )
        np.testing.assert_allclose(
            arrays[f"{ACTION}__rot_6d_relative"], relative[:, :2, :3].reshape(16, 6), atol=1e-12
        )
        np.testing.assert_allclose(arrays[f"{ACTUAL}__xyz_relative"][1], 0, atol=1e-12)


def test_statistics_are_those_of_the_windows(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((30, 25)))
    told = json.loads((folder / "shards" / "stats.json").read_text())
    name = f"{ACTION}__xyz_relative"
    windows = [lowdim(sample) for sample in samples(folder)]
    numbers = np.stack([window[name] for window in windows])
    real = np.stack([window["past_mask"] | window["future_mask"] for window in windows])
    masked = np.where(real[..., None], numbers, np.nan)
    stats = told[name]
    np.testing.assert_allclose(stats["mean"], np.nanmean(masked, axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose(stats["mean_per_timestep"], np.nanmean(masked, axis=0), atol=1e-12)
    np.testing.assert_allclose(
        stats["std_per_timestep"], np.nanstd(masked, axis=0, ddof=1), atol=1e-12
    )
    np.testing.assert_allclose(stats["std"], np.nanstd(masked, axis=(0, 1)), rtol=0.05)
    np.testing.assert_array_equal(stats["max_per_timestep"], np.nanmax(masked, axis=0))
    expected = np.nanpercentile(masked, 95, axis=(0, 1))
    np.testing.assert_allclose(stats["percentile_95"], expected, atol=0.05)
    assert np.shape(stats["percentile_1_per_timestep"]) == (16, 3)
    assert stats["count"] == real.sum(axis=0).tolist()
    for state in (stats["tdigest_state"], stats["tdigest_state_per_timestep"]):
        digests = state["digests"]
        for place, weights in zip(digests["indices"], digests["weights"], strict=True):
            assert sum(weights) == np.array(state["counts"])[tuple(place)]


def test_same_data_gives_the_same_files(tmp_path: Path) -> None:
    one = written(tmp_path / "one", robot_dataset())
    other = tmp_path / "other"
    other.mkdir()
    options = ConversionOptions(num_workers=2)
    convert(Source.of(robot_dataset()), FoundryWriter(destination=other), options)
    names = sorted(path.name for path in (one / "shards").iterdir())
    assert names == sorted(path.name for path in (other / "shards").iterdir())
    for name in names:
        assert (one / "shards" / name).read_bytes() == (other / "shards" / name).read_bytes(), name


def test_steps_without_frames_are_cut_off(tmp_path: Path) -> None:
    window = WindowSpec(
        past=1, future=14, max_padding_left=1, max_padding_right=7, image_offsets=(-1, 0)
    )
    episode = open_dataset(written(tmp_path / "data", robot_dataset((30,)), window=window)).episode(
        0
    )
    # The last anchor is 30 - 1 - 14 + 7 = 22.
    assert episode.description.num_steps == 23
    assert episode.description.provenance["steps_cut"].startswith("0 at the start and 7 at the end")
    assert shown_numbers(episode.frames("scene", [22])) == [22]
    with pytest.raises(DataError, match="expected steps within 0 to 23"):
        episode.read("count", 0, 24)


def test_missing_steps_are_an_error(tmp_path: Path) -> None:
    window = WindowSpec(past=1, future=14, stride=3, image_offsets=(-1, 0))
    dataset = open_dataset(written(tmp_path / "data", robot_dataset((30,)), window=window))
    with pytest.raises(DataError, match=r"episode_000000.*are in no window, such as step 1"):
        dataset.episode(0)


def test_smaller_frames_have_their_own_intrinsics(tmp_path: Path) -> None:
    images = ImageSettings(size=ImageSize(height=24, width=32))
    episode = open_dataset(written(tmp_path / "data", robot_dataset((5,)), images=images)).episode(
        0
    )
    camera = episode.description.cameras["scene"]
    assert (camera.height, camera.width) == (24, 32)
    assert episode.frames("scene", [3]).shape == (1, 24, 32, 3)
    np.testing.assert_allclose(episode.intrinsics("scene")[0, [0, 1], [0, 1]], [25.0, 25.5])


def test_two_recordings_of_one_id_are_told_apart(tmp_path: Path) -> None:
    """Released data sets number each session's episodes from 0."""
    sessions = [written(tmp_path / str(n), _session(n, num_steps=15)) for n in (1, 2)]
    merged = tmp_path / "merged"
    merged.mkdir()
    lines = []
    for number, session in enumerate(sessions):
        name = f"shard_{number:06d}"
        (merged / f"{name}.tar").write_bytes((session / "shards" / "shard_000000.tar").read_bytes())
        lines.append(json.dumps({"shard": name, "num_sequences": 15}))
    (merged / "manifest.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(merged)
    assert [e.description.episode_id for e in dataset] == ["episode_0", "episode_0~2"]
    seen = [shown_numbers(episode.frames("scene", range(15))) for episode in dataset]
    assert sorted(seen) == [list(range(20, 35)), list(range(40, 55))]
    # The same shard twice holds each window twice, which is no second episode.
    (merged / "shard_000001.tar").write_bytes((merged / "shard_000000.tar").read_bytes())
    assert len(open_dataset(merged)) == 1


def test_folder_of_an_episode_a_shard(tmp_path: Path) -> None:
    """Foundry writes its windows a second time, a tar an episode, named by the session too."""
    for number in (1, 2):
        session = written(tmp_path / str(number), _session(number, num_steps=6))
        target = tmp_path / "data" / "episodes" / f"episode_2025-0{number}_episode_0.tar"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((session / "shards" / "shard_000000.tar").read_bytes())
    names = [f"episode_2025-0{number}_episode_0" for number in (1, 2)]
    lines = [json.dumps({"shard": name, "num_sequences": 6}) for name in names]
    (tmp_path / "data" / "episodes" / "manifest.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(tmp_path / "data")
    ids = [episode.description.episode_id for episode in dataset]
    assert ids == ["2025-01_episode_0", "2025-02_episode_0"]


def test_windows_that_foundry_made_of_lerobot(tmp_path: Path) -> None:
    """Their metadata have LeRobot's columns at the anchor, and no length of the episode."""
    folder = written(tmp_path / "data", robot_dataset((8,)))
    shard = folder / "shards" / "shard_000000.tar"

    def as_lerobot(told: dict[str, Any]) -> dict[str, Any]:
        step = told["anchor_timestep"]
        return {
            "camera_names": told["camera_names"],
            "anchor_relative_idx": 1,
            "frame_index": str(step),
            "episode_index": "4",
            "timestamp": str(step / 10),
        }

    rewrite(shard, as_lerobot)
    (episode,) = open_dataset(folder)
    assert episode.description.episode_id == "episode_000004"
    assert episode.description.num_steps == 8
    assert shown_numbers(episode.frames("wrist", range(8))) == list(range(100, 108))
    np.testing.assert_array_equal(episode.read("count")[:, 0], np.arange(0, 16, 2))
    assert episode.times_s()[3] == pytest.approx(0.3)


def test_data_set_travels_to_other_processes(tmp_path: Path) -> None:
    dataset = open_dataset(written(tmp_path / "data", robot_dataset((8,))))
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (its own pickle)
    assert shown_numbers(copy.episode(0).frames("scene", [7])) == [7]


def test_what_foundry_cannot_hold_is_said(tmp_path: Path) -> None:
    window = WindowSpec(past=5, future=5, padding="none")
    writer = FoundryWriter(destination=tmp_path, window=window)
    with pytest.raises(DataError, match="no window of 5 past"):
        convert(Source.of(robot_dataset((3,))), writer)
    lost = ArrayEpisode.make(
        "lost",
        rate_hz=1.0,
        fields={INSTRUCTION_FIELD: (Field(shape=(), dtype="int64"), np.full(9, 3))},
        images={"front": np.zeros((9, 16, 16, 3), np.uint8)},
        instructions={"original": ("open it",)},
    )
    with pytest.raises(DataError, match="expected places in 1 instructions, got 3 to 3"):
        convert(Source.of(MemoryDataset([lost])), FoundryWriter(destination=tmp_path / "lost"))
    blind = ArrayEpisode.make("a", rate_hz=1.0, fields={"a": (Field(shape=()), np.zeros(9))})
    with pytest.raises(DataError, match="no camera"):
        writer.begin(blind.description)


def _session(number: int, num_steps: int) -> MemoryDataset:
    """Whose one episode is called episode_0."""
    episode = robot_episode(number, num_steps, first_frame=20 * number)
    described = replace(episode.description, episode_id="episode_0")
    episode._description = described
    return MemoryDataset([episode])
