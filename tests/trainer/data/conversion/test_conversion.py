"""Converting: what is left out, what is bad, and what is refused."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import multiprocessing.synchronize
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from policy_interface.demonstration import Demonstration, save_demonstration
from trainer.command_line import main
from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.episode import Dataset, Field
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.foundry_writer import FoundryWriter
from trainer.data.formats.lerobot_writer import LeRobotWriter
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.formats.writer import DatasetWriter
from trainer.data.selection import Selection


def make_episode(name: str, *, width: int = 8, action_size: int = 2, **facts: Any) -> ArrayEpisode:
    return ArrayEpisode.make(
        name,
        rate_hz=10.0,
        fields={"action": (Field(shape=(action_size,), role="action"), np.ones((5, action_size)))},
        images={"front": np.full((5, 8, width, 3), 40, np.uint8)},
        **facts,
    )


def convert_to(
    folder: Path, episodes: Sequence[ArrayEpisode], **options: Any
) -> tuple[list[str], dict[int, str]]:
    """The names of the episodes that were written, and what was skipped."""
    source = Source.of(MemoryDataset(episodes))
    summary = convert(source, NativeWriter(destination=folder), ConversionOptions(**options))
    dataset = open_dataset(folder)
    assert len(dataset) == summary.num_episodes
    return [episode.description.episode_id for episode in dataset], summary.skipped


def test_demonstrations_become_the_same_data(demonstration_folder: Path, tmp_path: Path) -> None:
    convert(Source.at(demonstration_folder), NativeWriter(destination=tmp_path / "box"))
    source, stored = open_dataset(demonstration_folder), open_dataset(tmp_path / "box")
    assert (source.format_name, stored.format_name) == ("demonstrations", "native")
    assert len(source) == len(stored) == 10
    for before, after in zip(source, stored, strict=True):
        assert before.description.fields == after.description.fields
        assert before.description.provenance == after.description.provenance
        for name in before.description.fields:
            assert before.read(name).tobytes() == after.read(name).tobytes()
        # Quality 95 of a flat picture with a square in it.
        frames = [episode.frames("wrist", range(14)).astype(int) for episode in (before, after)]
        assert np.abs(frames[0] - frames[1]).mean() < 1.0


def test_workers_write_the_very_same_data_set(demonstration_folder: Path, tmp_path: Path) -> None:
    for name, num_workers in (("here", 0), ("workers", 2)):
        convert(
            Source.at(demonstration_folder),
            NativeWriter(destination=tmp_path / name),
            ConversionOptions(num_workers=num_workers),
        )
    assert (tmp_path / "here" / "manifest.json").read_bytes() == (
        tmp_path / "workers" / "manifest.json"
    ).read_bytes()


class _Together(Dataset):
    """Two episodes, each read when a process of its own has asked for the other."""

    format_name, where = "together", "here"

    def __init__(self, both: multiprocessing.synchronize.Barrier) -> None:
        self._both = both

    def __len__(self) -> int:
        return 2

    def episode(self, index: int) -> ArrayEpisode:
        if multiprocessing.parent_process() is not None:
            self._both.wait(timeout=120)
        told = {"on_ctrl_c": str(signal.getsignal(signal.SIGINT))}
        return make_episode(f"{index}", provenance=told)


def test_every_worker_leaves_ctrl_c_to_its_parent(tmp_path: Path) -> None:
    both = multiprocessing.get_context("spawn").Barrier(2)
    convert(
        Source.of(_Together(both)),
        NativeWriter(destination=tmp_path / "a"),
        ConversionOptions(num_workers=2),
    )
    told = [e.description.provenance["on_ctrl_c"] for e in open_dataset(tmp_path / "a")]
    assert told == [str(signal.SIG_IGN)] * 2


def test_on_ray_it_is_the_very_same_data_set(demonstration_folder: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for name, executor in (("here", "local"), ("ray", "ray")):
            convert(
                Source.at(demonstration_folder),
                NativeWriter(destination=tmp_path / name),
                ConversionOptions(executor="ray" if executor == "ray" else "local"),
            )
    finally:
        ray.shutdown()
    assert (tmp_path / "here" / "manifest.json").read_bytes() == (
        tmp_path / "ray" / "manifest.json"
    ).read_bytes()


def test_only_what_was_asked_for_is_converted(tmp_path: Path) -> None:
    episodes = [
        make_episode("good", success=True, task="Put"),
        make_episode("failed", success=False, task="Put"),
        make_episode("unjudged", task="Put"),
        make_episode("elsewhere", success=True, task="Take"),
        make_episode("late", success=True, task="Put"),
    ]
    selection = Selection(end=4, only_success=True, tasks=("Put",))
    source = Source.of(MemoryDataset(episodes))
    summary = convert(
        source, NativeWriter(destination=tmp_path / "a"), ConversionOptions(selection=selection)
    )
    assert summary.left_out == {
        "it failed": 1,
        "success was not noted": 1,
        "its task is 'Take'": 1,
    }
    names = [episode.description.episode_id for episode in open_dataset(tmp_path / "a")]
    assert names == ["good"]


@pytest.mark.parametrize(
    ("episodes", "selection", "message"),
    [
        ([], Selection(), "holds no episode"),
        (["a"], Selection(first=3), "the source has 1"),
        (["a", "b"], Selection(only_success=True), "2 left out because success was not noted"),
        (["a"], Selection(tasks=("Pit",)), "1 left out because its task is None"),
    ],
)
def test_a_source_that_yields_nothing_is_an_error(
    tmp_path: Path, episodes: list[str], selection: Selection, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        convert_to(tmp_path / "a", [make_episode(name) for name in episodes], selection=selection)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"width": 9}, r"episode odd: camera 'front': width 9, but 8 in episode a"),
        ({"action_size": 3}, r"episode odd: field 'action'|field 'action': shape \(3,\), but"),
    ],
)
def test_a_schema_change_half_way_names_episode_and_field(
    tmp_path: Path, odd: dict[str, int], message: str
) -> None:
    episodes = [make_episode("a"), make_episode("b"), make_episode("odd", **odd), make_episode("c")]
    with pytest.raises(DataError, match=message):
        convert_to(tmp_path / "a", episodes)
    names, skipped = convert_to(tmp_path / "a", episodes, max_bad=1)
    assert names == ["a", "b", "c"]
    assert list(skipped) == [2]
    told = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert told["source"]["skipped"][0]["index"] == 2


def test_a_missing_and_an_extra_field_are_named(tmp_path: Path) -> None:
    more = ArrayEpisode.make(
        "more",
        rate_hz=10.0,
        fields={name: (Field(shape=()), np.zeros(3)) for name in ("x", "y")},
    )
    less = ArrayEpisode.make("less", rate_hz=10.0, fields={"x": (Field(shape=()), np.zeros(3))})
    with pytest.raises(DataError, match=r"episode less: field 'y': missing here"):
        convert_to(tmp_path / "a", [more, less])
    with pytest.raises(DataError, match=r"episode more: field 'y': not in episode less"):
        convert_to(tmp_path / "b", [less, more])


class _Disagreeing(ArrayEpisode):
    """Gives a frame too few."""

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        return super().frames(camera, list(steps)[:-1])


def test_frames_and_rows_that_disagree_are_an_error(tmp_path: Path) -> None:
    whole = make_episode("whole")
    short = _Disagreeing(
        replace(whole.description, episode_id="short"),
        whole.times_s(),
        {"action": whole.read("action")},
        {"front": whole.frames("front", range(5))},
        {},
        {},
    )
    with pytest.raises(DataError, match=r"episode short: camera 'front': expected \(5, 8, 8, 3\)"):
        convert_to(tmp_path / "a", [whole, short])


def test_two_episodes_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="number 0 has the same name"):
        convert_to(tmp_path / "a", [make_episode("a"), make_episode("a")])


def _damaged(demonstration_folder: Path, folder: Path, numbers: Sequence[int]) -> Path:
    shutil.copytree(demonstration_folder, folder)
    for number in numbers:
        path = folder / f"episode_{number:06d}.npz"
        path.write_bytes(path.read_bytes()[: 100 * (number + 1)])
    return folder


def test_bad_episodes_are_skipped_counted_and_listed(
    demonstration_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _damaged(demonstration_folder, tmp_path / "demos", [0, 4])
    words = ["data", "convert", str(source), str(tmp_path / "box"), "--workers", "0", "--json"]
    assert main(words) == 2
    assert "episode_000000.npz: cannot be read" in capsys.readouterr().err
    assert main([*words, "--skip-bad"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_converted"] == 8
    assert list(summary["skipped"]) == ["0", "4"]
    assert "episode_000004.npz" in summary["skipped"]["4"]
    assert len(open_dataset(tmp_path / "box")) == 8


def test_too_many_bad_episodes_are_refused_and_listed(
    demonstration_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _damaged(demonstration_folder, tmp_path / "demos", [2, 4, 6])
    words = ["data", "convert", str(source), str(tmp_path / "box"), "--workers", "0"]
    assert main([*words, "--skip-bad", "--max-bad", "2"]) == 2
    told = capsys.readouterr().err
    assert "3 bad episodes, more than the 2 of --max-bad" in told
    assert all(f"number {number}: " in told for number in (2, 4, 6))
    # A line break would be shown as two letters, since it may be somebody else's.
    assert "\\n" not in told
    assert main([*words, "--skip-bad", "--max-bad", "3"]) == 0


def test_what_was_mended_is_converted_when_asked_again(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    source = _damaged(demonstration_folder, tmp_path / "demos", [3])
    writer, options = NativeWriter(destination=tmp_path / "box"), ConversionOptions(max_bad=1)
    assert list(convert(Source.at(source), writer, options).skipped) == [3]
    name = "episode_000003.npz"
    shutil.copy(demonstration_folder / name, source / name)
    summary = convert(Source.at(source), writer, options)
    assert (summary.num_converted, summary.num_kept, summary.skipped) == (1, 9, {})
    assert len(open_dataset(tmp_path / "box")) == 10


@pytest.mark.parametrize("format_writer", [LeRobotWriter, FoundryWriter])
def test_a_complete_data_set_of_joined_files_takes_no_more_episodes(
    tmp_path: Path, format_writer: type[DatasetWriter]
) -> None:
    whole = [make_episode(name, width=16) for name in ("a", "b", "c")]
    short = _Disagreeing(
        whole[1].description, whole[1].times_s(), {"action": np.ones((4, 2))}, {}, {}, {}
    )
    damaged, mended = MemoryDataset([whole[0], short, whole[2]]), MemoryDataset(whole)
    writer = format_writer(destination=tmp_path / "data")  # pyright: ignore[reportCallIssue]
    options = ConversionOptions(max_bad=1)
    for source, reason in (
        (damaged, r"got \(4, 2\)"),
        (damaged, r"got \(4, 2\)"),
        (mended, "is complete and takes no more episodes"),
        (damaged, r"got \(4, 2\)"),
    ):
        summary = convert(Source.of(source), writer, options)
        assert summary.num_episodes == 2
        assert re.search(reason, summary.skipped[1])
        assert [e.description.num_steps for e in open_dataset(tmp_path / "data")] == [5, 5]


def test_asked_again_nothing_is_redone_but_what_is_gone(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    writer = NativeWriter(destination=tmp_path / "box")
    convert(Source.at(demonstration_folder), writer)
    episodes = tmp_path / "box" / "episodes"
    before = {path.name: path.stat().st_ino for path in episodes.iterdir()}
    (episodes / "000004.episode").write_bytes(b"cut")
    summary = convert(Source.at(demonstration_folder), writer)
    assert (summary.num_converted, summary.num_kept) == (1, 9)
    after = {path.name: path.stat().st_ino for path in episodes.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"000004.episode"}


def test_another_conversion_into_the_same_folder_is_refused(
    demonstration_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "convert", str(demonstration_folder), str(tmp_path / "box"), "--workers", "0"]
    assert main([*words, "--episodes", "0:2"]) == 0
    for option in (["--episodes", "0:3"], ["--episodes", "0:2", "--quality", "80"]):
        assert main([*words, *option]) == 2
        assert "holds another conversion" in capsys.readouterr().err


def test_a_source_that_grew_is_refused(
    make_demonstration: Callable[..., Demonstration], tmp_path: Path
) -> None:
    source = tmp_path / "demos"
    source.mkdir()
    writer = NativeWriter(destination=tmp_path / "box")
    for number in range(2):
        save_demonstration(make_demonstration(number), source / f"episode_{number:06d}.npz")
        if number == 0:
            convert(Source.at(source), writer)
    with pytest.raises(DataError, match="source_episodes: it has 1, this is 2"):
        convert(Source.at(source), writer)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(DataError, match="holds files that are no conversion of ours"):
        convert_to(tmp_path, [make_episode("a")])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_conversions_at_once_into_one_folder_are_refused(tmp_path: Path) -> None:
    convert_to(tmp_path / "a", [make_episode("a")])
    with (tmp_path / "a" / ".conversion" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another conversion is running in this folder"):
            convert_to(tmp_path / "a", [make_episode("a")])


def test_the_command_checks_what_it_wrote(
    demonstration_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "convert", str(demonstration_folder), str(tmp_path / "box"), "--verify"]
    words += ["--workers", "0"]
    assert main(words) == 0
    assert "10 episodes; 140 steps" in capsys.readouterr().out
    path = tmp_path / "box" / "episodes" / "000003.episode"
    data = bytearray(path.read_bytes())
    data[-200] ^= 4
    path.write_bytes(data)
    assert main(words) == 2
    assert "episode episode_000003" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["native", "lerobot-v3", "foundry"])
def test_the_command_writes_what_it_reads_again(
    demonstration_folder: Path, tmp_path: Path, name: str
) -> None:
    """From demonstrations to the format, and from there to the training format."""
    written, again = tmp_path / "written", tmp_path / "again"
    words = ["data", "convert", "--workers", "0"]
    assert main([*words, str(demonstration_folder), str(written), "--to", name]) == 0
    assert open_dataset(written).format_name == name
    assert main([*words, str(written), str(again)]) == 0
    assert [episode.description.num_steps for episode in open_dataset(again)] == [14] * 10


@pytest.mark.parametrize(("encoding", "stored"), [(None, "video"), ("png", "png")])
def test_lerobot_takes_videos_or_images(
    demonstration_folder: Path, tmp_path: Path, encoding: str | None, stored: str
) -> None:
    words = ["data", "convert", "--workers", "0", "--to", "lerobot-v3", "--episodes", "0:1"]
    words += [] if encoding is None else ["--encoding", encoding]
    assert main([*words, str(demonstration_folder), str(tmp_path / "written")]) == 0
    cameras = open_dataset(tmp_path / "written").episode(0).description.cameras.values()
    assert {camera.encoding for camera in cameras} == {stored}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--episodes", "3"], "expected FIRST:END"),
        (["--resize", "big"], "expected WIDTHxHEIGHT"),
        (["--quality", "0"], "expected 1 to 100"),
        (["--max-bad", "-1"], "expected 0 or more"),
        (["--from", "demonstration"], "did you mean 'demonstrations'"),
        (["--encoding", "h264"], "--to native holds images, jpeg or png"),
        (["--to", "foundry", "--verify"], "only the native format has checksums"),
    ],
)
def test_bad_options_are_told_in_one_line(
    demonstration_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    words = ["data", "convert", str(demonstration_folder), str(tmp_path / "box"), *options]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "box").exists()
