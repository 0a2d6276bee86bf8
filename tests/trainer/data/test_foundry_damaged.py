"""VLA Foundry's shards that are not whole: what is said, and what can be read all the same."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.trainer.data.foundry_shards import rewrite, written
from tests.trainer.data.numbered_data import robot_dataset, shown_numbers
from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.native_writer import NativeWriter


@pytest.mark.parametrize("cut", [2000, 9000, 0.5])
def test_truncated_shard_is_an_error(tmp_path: Path, cut: float) -> None:
    folder = written(tmp_path / "data", robot_dataset())
    shard = folder / "shards" / "shard_000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * cut) if cut < 1 else -int(cut)])
    with pytest.raises(DataError, match=r"shard_000000\.tar: .*of its 39 windows can be read"):
        list(open_dataset(folder))


def test_shard_cut_between_two_windows_is_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((8,)))
    shard = folder / "shards" / "shard_000000.tar"
    with tarfile.open(shard) as archive:
        end = [m.offset for m in archive if m.name.endswith("scene_t-1.jpg")][-1]
    shard.write_bytes(shard.read_bytes()[:end])
    with pytest.raises(DataError, match="the tar file's end is missing"):
        list(open_dataset(folder))
    with shard.open("ab") as file:
        file.write(b"\0" * 1024)
    with pytest.raises(DataError, match="tells of 8 windows, the shard holds 7"):
        list(open_dataset(folder))


def test_skipping_bad_goes_on_past_shards_that_are_not_whole(tmp_path: Path) -> None:
    """One is cut in its middle, one is lost; whom they cost steps is known, in the middle and at
    the end, and no shorter episode passes for a whole one."""
    lengths = (12, 16, 20, 9)
    folder = written(tmp_path / "data", robot_dataset(lengths), windows_per_shard=1)
    by_anchor = _shards_by_anchor(folder)
    _join(folder, [by_anchor["episode_000000", step] for step in (0, 1, 2, 11)], "cut")
    _join(folder, [by_anchor["episode_000001", step] for step in (5, 6)], "lost")
    _join(folder, [by_anchor["episode_000003", step] for step in (4,)], "spared")
    cut = folder / "shards" / "cut.tar"
    with tarfile.open(cut) as archive:
        places = [m.offset for m in archive if m.name.endswith("lowdim.npz")]
    # In the second window: of the four the first can be read.
    cut.write_bytes(cut.read_bytes()[: places[1]])
    (folder / "shards" / "lost.tar").unlink()
    source = Source.at(folder)

    with pytest.raises(DataError, match=r"bad episode, number 0: .*cut\.tar: truncated") as refused:
        convert(source, NativeWriter(destination=tmp_path / "strict"))
    assert "; --skip-bad goes on" in str(refused.value)
    options = ConversionOptions(max_bad=3)
    with pytest.raises(DataError, match="4 bad episodes, more than the 3 of --max-bad"):
        convert(source, NativeWriter(destination=tmp_path / "few"), options)

    options = ConversionOptions(max_bad=4)
    summary = convert(source, NativeWriter(destination=tmp_path / "native"), options)
    told = list(summary.skipped.values())
    assert "cut.tar: truncated" in told[0]
    assert "1 of its 4 windows can be read" in told[0]
    assert "lost.tar: no such shard" in told[1]
    assert "episode episode_000000: its steps end 1 earlier than another episode's" in told[2]
    assert "episode episode_000001: 1 of the steps 0 to 15 are in no window" in told[3]
    assert len(told) == 4
    back = {e.description.episode_id: e for e in open_dataset(tmp_path / "native")}
    assert sorted(back) == ["episode_000002", "episode_000003"]
    assert [back[name].description.num_steps for name in sorted(back)] == [20, 9]
    first = sum(lengths[:3])
    shown = shown_numbers(back["episode_000003"].frames("scene", range(9)))
    assert shown == list(range(first, first + 9))


def test_an_end_that_was_lost_with_a_shard_is_no_shorter_episode(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((12, 16)), windows_per_shard=1)
    by_anchor = _shards_by_anchor(folder)
    _join(folder, [by_anchor["episode_000000", step] for step in (10, 11)], "lost")
    (folder / "shards" / "lost.tar").unlink()
    _, short, whole = _episodes_or_errors(folder)
    assert "episode_000000: its steps end 2 earlier than another episode's" in str(short)
    assert whole == 16


def test_an_episode_of_unknown_length_is_not_guessed_whole(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((12, 16)), windows_per_shard=1)
    by_anchor = _shards_by_anchor(folder)
    _join(folder, [by_anchor["episode_000000", 11]], "lost")
    (folder / "shards" / "lost.tar").unlink()
    for shard in (folder / "shards").glob("*.tar"):
        rewrite(shard, lambda told: {k: v for k, v in told.items() if "length" not in k})
    _, *episodes = _episodes_or_errors(folder)
    assert all("how long it was" in str(error) for error in episodes)


def test_an_episode_a_shard_is_lost_alone(tmp_path: Path) -> None:
    lines = []
    for number in range(3):
        session = written(tmp_path / str(number), robot_dataset((6,)))
        target = tmp_path / "data" / "episodes" / f"episode_{number}.tar"
        target.parent.mkdir(parents=True, exist_ok=True)
        data = (session / "shards" / "shard_000000.tar").read_bytes()
        target.write_bytes(data[: len(data) // 2] if number == 1 else data)
        lines.append(json.dumps({"shard": target.stem, "num_sequences": 6}))
    (tmp_path / "data" / "episodes" / "manifest.jsonl").write_text("\n".join(lines))
    first, second, third = _episodes_or_errors(tmp_path / "data")
    assert (first, third) == (6, 6)
    assert "episode_1.tar: truncated" in str(second)


def test_shards_of_which_none_can_be_read_are_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((8,)))
    shard = folder / "shards" / "shard_000000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"shard_000000\.tar: .*0 of its 8 windows"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("", "names no shard"),
        ("{}", "line 1: expected a shard"),
        ('{"shard": "shard_000009", "num_sequences": 1}', "no such shard"),
        ('{"shard": "../../secret", "num_sequences": 1}', "outside the data set"),
        ("[" * 100_000, "line 1: expected a shard"),
    ],
)
def test_broken_manifest_is_an_error(tmp_path: Path, manifest: str, message: str) -> None:
    folder = written(tmp_path / "data", robot_dataset((8,)))
    (folder / "shards" / "manifest.jsonl").write_text(manifest)
    with pytest.raises(DataError, match=message):
        open_dataset(folder, "foundry")


def test_corrupt_frame_and_array_name_the_episode(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((8,)))
    shard = folder / "shards" / "shard_000000.tar"
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as archive:
        for member in archive:
            if member.name.endswith((".jpg", ".npz")):
                start = member.offset_data + (0 if member.name.endswith(".jpg") else 200)
                data[start : start + 20] = b"\xff" * 20
    dataset = open_dataset(folder)
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"shard_000000\.tar"):
        dataset.episode(0)


def test_corrupt_first_frame_names_episode_camera_and_step(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", robot_dataset((8,)))
    shard = folder / "shards" / "shard_000000.tar"
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                data[member.offset_data : member.offset_data + 20] = b"\0" * 20
    shard.write_bytes(data)
    dataset = open_dataset(folder)
    place = r"shard_000000\.tar, episode \S+: camera '\w+', step 0: expected a JPEG or PNG file"
    with pytest.raises(DataError, match=place):
        dataset.episode(0)


def _shards_by_anchor(folder: Path) -> dict[tuple[str, int], Path]:
    """Of shards with one window each."""
    found = {}
    for shard in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(shard) as archive:
            (name,) = [name for name in archive.getnames() if name.endswith("metadata.json")]
            file = archive.extractfile(name)
            assert file is not None
            told = json.loads(file.read())
        found[told["episode_id"], told["anchor_timestep"]] = shard
    return found


def _join(folder: Path, shards: list[Path], name: str) -> None:
    """These shards as one of that name, the last in the manifest."""
    joined = folder / "shards" / f"{name}.tar"
    with tarfile.open(joined, "w") as target:
        for shard in shards:
            with tarfile.open(shard) as source:
                for member in source:
                    target.addfile(member, source.extractfile(member))
            shard.unlink()
    manifest = folder / "shards" / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    kept = [line for line in lines if (folder / "shards" / f"{line['shard']}.tar").exists()]
    kept.append({"shard": name, "num_sequences": len(shards)})
    manifest.write_text("".join(json.dumps(line) + "\n" for line in kept))


def _episodes_or_errors(folder: Path) -> list[int | DataError]:
    """How many steps each has, or why it cannot be read."""
    dataset = open_dataset(folder)
    found: list[int | DataError] = []
    for index in range(len(dataset)):
        try:
            found.append(dataset.episode(index).description.num_steps)
        except DataError as error:
            found.append(error)
    return found
