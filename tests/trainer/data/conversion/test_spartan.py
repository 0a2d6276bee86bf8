"""Diffusion spartan episodes in the layout that LBM Eval documents for its training data."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.native_writer import NativeWriter

CAMERAS = {"6CD146030E99": "scene_right_0", "BFS_23595718": "wrist_left_minus"}
STEPS = 5


class Unpickled:
    """Says so, where somebody unpickles it."""

    traces: str = ""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (self.traces,)


def episode_folder(root: Path, number: int, skill: str = "PushCoasterToMug") -> Path:
    return (
        root / "tasks" / skill / "riverway/sim/bc/teleop/2025-01-06T14-24-17-05-00"
        f"/diffusion_spartan/episode_{number}/processed"
    )


def write_episode(root: Path, number: int, *, success: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    folder = episode_folder(root, number)
    folder.mkdir(parents=True)
    skills = np.empty(STEPS, dtype=object)
    bait = Unpickled()
    bait.traces = str(root / "unpickled")
    skills[:] = bait
    actions = rng.standard_normal((STEPS, 20))
    np.savez(folder / "actions.npz", allow_pickle=True, actions=actions, skill_type=skills)
    observations: dict[str, Any] = {"robot__version": np.array("1.1")}
    for side in ("left", "right"):
        for source in ("actual", "desired"):
            for quantity, size in (
                (f"poses__{side}::panda__xyz", 3),
                (f"poses__{side}::panda__rot_6d", 6),
                (f"grippers__{side}::panda_hand", 1),
                (f"joint_position__{side}::panda", 7),
            ):
                observations[f"robot__{source}__{quantity}"] = rng.random((STEPS, size))
    observations["robot__desired__wrench__left::panda"] = np.full((STEPS, 6), np.nan)
    for camera in CAMERAS:
        observations[camera] = rng.integers(0, 256, (STEPS, 12, 16, 3), dtype=np.uint8)
        observations[f"{camera}_depth"] = rng.integers(0, 999, (STEPS, 12, 16), dtype=np.uint16)
        observations[f"{camera}_label"] = rng.integers(0, 9, (STEPS, 12, 16), dtype=np.int16)
        (folder / f"images_{camera}").mkdir()
        told = {
            step: {
                "camera_to_world": {"translation": {"x": 0.1, "y": 0.2, "z": 0.3}},
                "rgb_image_filename": f"{step:06d}_rgb.png",
                "timestamp": 100_000 * step + 7,
            }
            for step in range(STEPS)
        }
        (folder / f"images_{camera}" / "pose_data.yaml").write_text(yaml.safe_dump(told))
    np.savez_compressed(folder / "observations.npz", **observations)
    matrices: dict[str, Any] = {camera: rng.random((3, 3)).astype(np.float32) for camera in CAMERAS}
    np.savez(folder / "intrinsics.npz", **matrices)
    poses: dict[str, Any] = {camera: rng.random((STEPS, 4, 4)) for camera in CAMERAS}
    np.savez(folder / "extrinsics.npz", **poses)
    np.savez(folder / "summary.npz", episode_success=np.array([[success]]))
    names = {**CAMERAS, "OFFLINE": "scene_left_0"}
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump({"camera_id_to_semantic_name": names, "skills": {"push": 1}})
    )
    return {"actions": actions, **observations}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "lbm"
    for number in (10, 2, 0):
        write_episode(root, number, success=number != 2)
    return root


@pytest.fixture
def tar(folder: Path) -> Path:
    path = folder.parent / "PushCoasterToMug.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
    return path


@pytest.mark.parametrize("source", ["folder", "tar"])
def test_an_episode_is_what_was_recorded(source: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(source)
    written = write_episode(path.parent / "again", 2)
    dataset = open_dataset(path)
    assert dataset.format_name == "spartan"
    place = "PushCoasterToMug/riverway/2025-01-06T14-24-17-05-00"
    assert [episode.description.episode_id for episode in dataset] == [
        f"{place}/episode_{number}" for number in (0, 2, 10)
    ]
    episode = dataset.episode(1)
    description = episode.description
    assert (description.task, description.success) == ("PushCoasterToMug", False)
    assert description.provenance["station"] == "riverway"
    assert list(description.cameras) == list(CAMERAS.values())
    assert "skill_type" not in description.fields
    np.testing.assert_allclose(episode.times_s(), np.arange(STEPS) * 0.1)
    # The columns that LBM Eval documents: right pose, left pose, right and left gripper.
    for name, columns in (
        ("robot__action__poses__right::panda__xyz", slice(0, 3)),
        ("robot__action__poses__left::panda__rot_6d", slice(12, 18)),
        ("robot__action__grippers__right::panda_hand", slice(18, 19)),
        ("robot__action__grippers__left::panda_hand", slice(19, 20)),
    ):
        np.testing.assert_array_equal(episode.read(name), written["actions"][:, columns])
        assert description.fields[name].role == "action"
    name = "robot__actual__joint_position__left::panda"
    np.testing.assert_array_equal(episode.read(name, 1, 4), written[name][1:4])
    np.testing.assert_array_equal(
        episode.frames("wrist_left_minus", [3, 0]), written["BFS_23595718"][[3, 0]]
    )
    assert episode.intrinsics("scene_right_0").shape == (STEPS, 3, 3)
    assert episode.extrinsics("scene_right_0", 2, 4).shape == (2, 4, 4)
    assert not (path.parent / "lbm" / "unpickled").exists()


def test_the_bait_would_have_told(tmp_path: Path) -> None:
    """That nothing was unpickled is shown by a trap that works."""
    write_episode(tmp_path, 0)
    with np.load(episode_folder(tmp_path, 0) / "actions.npz", allow_pickle=True) as stored:
        stored["skill_type"]
    assert (tmp_path / "unpickled").is_dir()


@pytest.mark.parametrize("source", ["folder", "tar"])
def test_it_converts_exactly_and_unpickles_nothing(
    source: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(source)
    convert(Source.at(path), NativeWriter(destination=tmp_path / "native"))
    for before, after in zip(open_dataset(path), open_dataset(tmp_path / "native"), strict=True):
        for name in before.description.fields:
            assert before.read(name).tobytes() == after.read(name).tobytes()
    assert not (tmp_path / "lbm" / "unpickled").exists()


def test_an_episodes_own_folder_is_a_data_set(folder: Path) -> None:
    assert len(open_dataset(episode_folder(folder, 2).parent)) == 1
    assert len(open_dataset(folder / "tasks" / "PushCoasterToMug")) == 3


def test_a_folder_of_tars_is_one_data_set(tar: Path, tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    shutil.move(tar, tmp_path / "download" / tar.name)
    assert len(open_dataset(tmp_path / "download")) == 3


def test_a_cut_tar_names_the_episode_where_it_ends(tar: Path, tmp_path: Path) -> None:
    with tarfile.open(tar) as archive:
        cut = next(m for m in archive if m.name.endswith("episode_10/processed/observations.npz"))
    os.truncate(tar, cut.offset_data + cut.size // 2)
    dataset = open_dataset(tar)
    # episode_0 was packed first, and is whole; episode_10 second, and cut.
    assert dataset.episode(0).read("robot__action__poses__right::panda__xyz").shape == (STEPS, 3)
    with pytest.raises(DataError, match=r"episode_10: the tar file is cut short.* are lost"):
        dataset.episode(1)
    summary = convert(
        Source.at(tar), NativeWriter(destination=tmp_path / "out"), ConversionOptions(max_bad=1)
    )
    assert summary.num_converted == 1
    assert "cut short" in summary.skipped[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "metadata.yaml").write_text("a: [1"), "metadata.yaml: "),
        (lambda f: (f / "metadata.yaml").write_text("[" * 10_000), "metadata.yaml: "),
        (
            lambda f: (f / "metadata.yaml").write_text("camera_id_to_semantic_name: {1: [a]}"),
            "expected a camera's name to be text",
        ),
        (lambda f: (f / "metadata.yaml").unlink(), "no metadata.yaml"),
        (lambda f: (f / "observations.npz").write_bytes(b"PK"), r"observations\.npz: cannot be"),
        (lambda f: (f / "observations.npz").unlink(), r"no observations\.npz"),
        (lambda f: (f / "actions.npz").unlink(), r"no actions\.npz"),
        (lambda f: np.savez(f / "actions.npz", other=np.zeros(3)), "holds no array 'actions'"),
        (lambda f: np.savez(f / "actions.npz", actions=np.zeros((4, 20))), "5 rows.* 4 actions"),
        (
            lambda f: np.savez(f / "extrinsics.npz", BFS_23595718=np.zeros((3, 4, 4))),
            "'extrinsics of BFS_23595718': has 3 rows",
        ),
    ],
)
def test_a_damaged_episode_is_named_and_the_others_stay_readable(
    folder: Path, damage: object, message: str
) -> None:
    assert callable(damage)
    damage(episode_folder(folder, 2))
    dataset = open_dataset(folder)
    with pytest.raises(DataError, match=rf"episode_2.*{message}"):
        dataset.episode(1)
    assert dataset.episode(2).description.num_steps == STEPS
