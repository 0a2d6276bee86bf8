"""Reading our own demonstration files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from policy_interface.contract import Contract
from policy_interface.demonstration import Demonstration, load_demonstration, save_demonstration
from trainer.data.errors import DataError
from trainer.data.formats import npz_members
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.npz_members import NpzMembers


def test_an_episode_is_what_was_recorded(demonstration_folder: Path) -> None:
    episode = open_dataset(demonstration_folder).episode(3)
    recorded = load_demonstration(demonstration_folder / "episode_000003.npz")
    description = episode.description
    assert (description.episode_id, description.num_steps) == ("episode_000003", 14)
    assert (description.task, description.success, description.seed) == (
        "ReachTheSquare",
        True,
        103,
    )
    assert description.instructions == {"original": ("Reach the square.",)}
    assert description.rate_hz == 10.0
    assert description.provenance["teacher"] == "straight line"
    assert Contract.from_json(description.provenance["contract"]) == recorded.contract
    np.testing.assert_array_equal(episode.times_s(), recorded.time_s)

    pose = description.fields["actual/pose/right::panda"]
    assert (pose.kind, pose.role, pose.unit, pose.part) == ("pose", "observed", "m", "right::panda")
    assert pose.frame == recorded.contract.frame
    width = description.fields["action/width_m/right::panda_hand"]
    assert (width.kind, width.role, width.unit, width.shape) == ("gripper", "action", "m", ())
    np.testing.assert_array_equal(
        episode.read("actual/pose/right::panda", 2, 9), recorded.actual.poses["right::panda"][2:9]
    )

    track = recorded.cameras["wrist"]
    np.testing.assert_array_equal(episode.frames("wrist", [13, 2, 2]), track.rgb[[13, 2, 2]])
    np.testing.assert_array_equal(episode.extrinsics("wrist", 1, 4), track.X_TC[1:4])
    np.testing.assert_array_equal(episode.intrinsics("wrist", 1, 4), [track.intrinsics] * 3)


def test_folders_of_several_tasks_are_one_data_set(
    make_demonstration: Callable[..., Demonstration], tmp_path: Path
) -> None:
    for task in ("B", "A"):
        (tmp_path / task).mkdir()
        save_demonstration(make_demonstration(0), tmp_path / task / "episode_000000.npz")
    names = [episode.description.episode_id for episode in open_dataset(tmp_path)]
    assert names == ["A/episode_000000", "B/episode_000000"]


@pytest.mark.parametrize("length", [0, 30, 0.5, 0.999])
def test_a_cut_file_is_named(demonstration_folder: Path, tmp_path: Path, length: float) -> None:
    data = (demonstration_folder / "episode_000000.npz").read_bytes()
    kept = int(length * len(data)) if length < 1 else int(length)
    (tmp_path / "episode_000000.npz").write_bytes(data[:kept])
    with pytest.raises(DataError, match=r"episode_000000\.npz: cannot be read"):
        open_dataset(tmp_path).episode(0)


def test_a_changed_byte_of_an_array_is_found(demonstration_folder: Path, tmp_path: Path) -> None:
    data = bytearray((demonstration_folder / "episode_000000.npz").read_bytes())
    place = data.index(b"camera/wrist/rgb.npy") + 100
    data[place] ^= 0xFF
    (tmp_path / "episode_000000.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"episode_000000\.npz"):
        open_dataset(tmp_path).episode(0).frames("wrist", range(14))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("time_s", np.zeros(9), r"field '.*': expected \(9,"),
        ("camera/wrist/rgb", np.zeros((5, 40, 40, 3), np.uint8), r"'camera/wrist/rgb'.*\(14, 40"),
        ("metadata", np.array("[" * 100_000), "not a demonstration of assay.demonstration/1"),
        ("metadata", np.array("[1"), "not a demonstration of assay.demonstration/1"),
        ("metadata", np.array(json.dumps({"schema": "other"})), "schema 'other'"),
        ("metadata", np.array([{}], dtype=object), "pickled Python objects, which are never read"),
    ],
)
def test_arrays_that_disagree_are_named(
    demonstration_folder: Path, tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    with np.load(demonstration_folder / "episode_000000.npz") as stored:
        arrays = dict(stored)
    arrays[name] = array
    np.savez(tmp_path / "episode_000000.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path).episode(0)


def test_only_what_lies_before_the_ranges_end_is_inflated(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, wanted=np.random.default_rng(0).random((1000, 500)))

    class Counting:
        """A file that notes how much of it was read."""

        def __init__(self) -> None:
            self._file = path.open("rb")
            self.num_bytes = 0

        def read(self, count: int = -1) -> bytes:
            data = self._file.read(count)
            self.num_bytes += len(data)
            return data

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    files: list[Counting] = []

    def opener() -> Counting:
        files.append(Counting())
        return files[-1]

    members = NpzMembers(opener, "arrays.npz")  # pyright: ignore[reportArgumentType]
    assert members.read("wanted", 0, 10).shape == (10, 500)
    assert files[0].num_bytes < 0.05 * path.stat().st_size
    members.read("wanted")
    assert files[1].num_bytes > 0.99 * path.stat().st_size


def test_headers_are_parsed_by_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11 fails where two threads parse syntax at once, and numpy's headers are syntax."""
    path = tmp_path / "arrays.npz"
    np.savez(path, only=np.zeros(3))
    together = threading.Barrier(2)
    met: list[bool] = []
    parse = npz_members._HEADER_READERS[1, 0]

    def parse_when_joined(member: object) -> object:
        try:
            together.wait(timeout=0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        return parse(member)

    monkeypatch.setitem(npz_members._HEADER_READERS, (1, 0), parse_when_joined)
    members = NpzMembers(lambda: path.open("rb"), "arrays.npz")
    with ThreadPoolExecutor(2) as threads:
        headers = [each.result() for each in [threads.submit(members.headers) for _ in range(2)]]
    assert [each["only"].shape for each in headers] == [(3,), (3,)]
    assert met == [False, False]
