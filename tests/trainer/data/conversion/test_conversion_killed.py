"""A conversion that is killed, interrupted or out of room goes on, without half an episode."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from policy_interface.demonstration import Demonstration, demonstration_path, save_demonstration
from trainer.data.conversion import Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.foundry_writer import FoundryWriter
from trainer.data.formats.lerobot_writer import LeRobotWriter
from trainer.data.formats.native import open_dataset as open_native
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.formats.writer import DatasetWriter
from trainer.data.locations import Location
from trainer.data.verbs import convert as convert_verb

# Converts, and tells after each episode, so that a test knows when to strike. It does not end
# before the test lets it.
_PROGRAM = """
import importlib, resource, sys
from pathlib import Path
from trainer.data.conversion import ConversionOptions, Source, convert

def tell(done, total, outcome):
    print(done, flush=True)
    if done >= 8:
        sys.stdin.read()

if __name__ == "__main__":
    source, destination, workers, most_bytes, module, name = sys.argv[1:]
    writer = getattr(importlib.import_module(module), name)
    if int(most_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
    convert(
        Source.at(source),
        writer(destination=Path(destination)),
        ConversionOptions(num_workers=int(workers)),
        tell,
    )
"""


def _start(
    folder: Path,
    source: Path,
    destination: Path,
    *,
    workers: int = 0,
    most_bytes: int = 0,
    writer: type[DatasetWriter] = NativeWriter,
) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(_PROGRAM)
    words = [str(workers), str(most_bytes), writer.__module__, writer.__name__]
    return subprocess.Popen(
        [sys.executable, program, source, destination, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(process: subprocess.Popen[str], num_done: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= num_done:
            return
    raise AssertionError(f"ended before {num_done} episodes were done")


@pytest.fixture(scope="module")
def whole(demonstration_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed conversion writes."""
    destination = tmp_path_factory.mktemp("whole") / "box"
    convert(Source.at(demonstration_folder), NativeWriter(destination=destination))
    return destination


def _whole_files(destination: Path, reference: Path) -> set[str]:
    """The episodes that have their final name, each of them the same as in `reference`."""
    names = {path.name for path in (destination / "episodes").glob("*.episode")}
    for name in names:
        assert (destination / "episodes" / name).read_bytes() == (
            reference / "episodes" / name
        ).read_bytes()
    return names


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_random_points_it_goes_on_and_ends_the_same(
    demonstration_folder: Path, whole: Path, tmp_path: Path, workers: int
) -> None:
    destination, rng = tmp_path / "box", random.Random(workers)
    num_done, inodes = 0, dict[str, int]()
    while num_done < (6 if workers == 0 else 3):
        num_done += rng.randint(2, 3)
        process = _start(tmp_path, demonstration_folder, destination, workers=workers)
        _wait_for(process, num_done)
        os.kill(process.pid, signal.SIGKILL)
        # Ends when all who hold the pipes have: the workers end with their parent, who cannot
        # tell them.
        process.communicate(timeout=60)
        names = _whole_files(destination, whole)
        assert len(names) >= num_done
        with pytest.raises(DataError, match="the conversion stopped"):
            open_dataset(destination)
        # What had a receipt was not written again.
        for name in inodes:
            assert (destination / "episodes" / name).stat().st_ino == inodes[name]
        receipts = (destination / ".conversion" / "episodes.jsonl").read_text().splitlines()
        told = {f"{number:06d}.episode" for number in range(10)} & {
            name for name in names if any(f'"episodes/{name}"' in line for line in receipts)
        }
        inodes = {name: (destination / "episodes" / name).stat().st_ino for name in told}
    process = _start(tmp_path, demonstration_folder, destination, workers=workers)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    for name in inodes:
        assert (destination / "episodes" / name).stat().st_ino == inodes[name]
    assert (destination / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert _whole_files(destination, whole) == {f"{number:06d}.episode" for number in range(10)}
    # Nothing of the killed attempts is left.
    assert len(list((destination / "episodes").iterdir())) == 10


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_after_ctrl_c_what_is_written_is_valid_and_it_goes_on(
    demonstration_folder: Path, whole: Path, tmp_path: Path, workers: int
) -> None:
    destination = tmp_path / "box"
    process = _start(tmp_path, demonstration_folder, destination, workers=workers)
    _wait_for(process, 2)
    # As a terminal does: to the workers too.
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate()
    assert "KeyboardInterrupt" in complaint
    assert process.returncode == -signal.SIGINT
    unfinished = open_native(Location.parse(destination), unfinished=True)
    assert 2 <= len(unfinished) < 10
    assert set(unfinished.verify()) == {None}
    with pytest.raises(DataError, match=r"stopped after \d episodes; run the same"):
        open_dataset(destination)
    convert(Source.at(demonstration_folder), NativeWriter(destination=destination))
    assert (destination / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_ctrl_c_of_the_command_says_how_to_go_on(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "demos"
    shutil.copytree(demonstration_folder, source)
    # Who opens a pipe waits for its other end: so we know where the conversion is.
    pipe = source / "episode_000002.npz"
    pipe.unlink()
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "trainer.command_line", "data", "convert", "--skip-bad"]
    process = subprocess.Popen(
        [*command, source, tmp_path / "box", "--workers", "0"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with pipe.open("wb"):
        os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from there" in complaint
    assert 2 <= len(open_native(Location.parse(tmp_path / "box"), unfinished=True)) < 9


def test_a_full_disk_leaves_what_is_written_valid(
    make_demonstration: Callable[..., Demonstration], tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk: the third episode does not fit."""
    source, destination = tmp_path / "demos", tmp_path / "box"
    source.mkdir()
    for index, num_steps in enumerate((4, 4, 60, 4)):
        demonstration = make_demonstration(index, num_steps=num_steps)
        save_demonstration(demonstration, demonstration_path(source, index))
    process = _start(tmp_path, source, destination, most_bytes=60_000)
    _, complaint = process.communicate()
    assert process.returncode == 1
    assert "OSError: [Errno 27] episode episode_000002: File too large" in complaint
    unfinished = open_native(Location.parse(destination), unfinished=True)
    assert [episode.description.num_steps for episode in unfinished] == [4, 4]
    assert list(unfinished.verify()) == [None, None]
    assert len(list((destination / "episodes").iterdir())) == 2
    convert(Source.at(source), NativeWriter(destination=destination))
    assert [episode.description.num_steps for episode in open_dataset(destination)] == [4, 4, 60, 4]


@pytest.mark.parametrize(
    ("writer", "most_bytes", "num_staged"),
    [
        # The third episode does not fit.
        (LeRobotWriter, 12_000, 2),
        (FoundryWriter, 200_000, 2),
        # All episodes fit, and the files that they are put together to do not.
        pytest.param(LeRobotWriter, 40_000, 4, marks=pytest.mark.slow),
        pytest.param(FoundryWriter, 1_550_000, 4, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_leaves_staged_episodes_whole(
    make_demonstration: Callable[..., Demonstration],
    tmp_path: Path,
    writer: type[DatasetWriter],
    most_bytes: int,
    num_staged: int,
) -> None:
    source, destination = tmp_path / "demos", tmp_path / "box"
    source.mkdir()
    for index, num_steps in enumerate((4, 4, 60, 4)):
        demonstration = make_demonstration(index, num_steps=num_steps)
        save_demonstration(demonstration, demonstration_path(source, index))
    process = _start(tmp_path, source, destination, most_bytes=most_bytes, writer=writer)
    _, complaint = process.communicate()
    assert process.returncode == 1
    place = "episode episode_000002" if num_staged == 2 else "putting the episodes together"
    assert f"OSError: [Errno 27] {place}: File too large" in complaint
    staged = sorted(path.name for path in (destination / ".parts").iterdir())
    assert staged == [f"{number:06d}" for number in range(num_staged)]
    with pytest.raises(DataError, match="the conversion stopped; run the same"):
        open_dataset(destination)
    summary = convert(Source.at(source), writer(destination=destination))  # pyright: ignore[reportCallIssue]
    assert (summary.num_kept, summary.num_episodes) == (num_staged, 4)
    assert [episode.description.num_steps for episode in open_dataset(destination)] == [4, 4, 60, 4]
    assert not (destination / ".parts").exists()


@pytest.mark.parametrize(
    ("to", "kib", "num_kept"), [("native", 60, 1), ("lerobot-v3", 60, 1), ("foundry", 200, 1)]
)
def test_the_command_names_the_episode_that_a_full_disk_has_no_room_for(
    make_demonstration: Callable[..., Demonstration],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    to: str,
    kib: int,
    num_kept: int,
) -> None:
    source, disk = tmp_path / "demos", tmp_path / "disk"
    for folder in (source, disk):
        folder.mkdir()
    for index, num_steps in enumerate((4, 60, 4)):
        demonstration = make_demonstration(index, num_steps=num_steps)
        save_demonstration(demonstration, demonstration_path(source, index))
    words = [str(source), str(disk / "box"), "--to", to, "--workers", "0"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root mounts a small disk")
    try:
        with pytest.raises(OSError, match=r"box: episode episode_000001: No space left on device;"):
            convert_verb.main(words)
        with pytest.raises(DataError, match="the conversion stopped"):
            open_dataset(disk / "box")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert convert_verb.main(words) == 0
        assert f"{num_kept} of them by an earlier run" in capsys.readouterr().out
        assert len(open_dataset(disk / "box")) == 3
    finally:
        subprocess.run(["umount", disk], check=True)


def test_files_that_a_killed_conversion_was_writing_are_removed(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "box"
    convert(Source.at(demonstration_folder), NativeWriter(destination=destination))
    before = set(destination.rglob("*"))
    for name in ("manifest.json", ".conversion/plan.json", "episodes/000003.episode"):
        path = destination / name
        shutil.copy(path, path.with_name(f".{path.name}.0123456789abcdef.partial"))
    convert(Source.at(demonstration_folder), NativeWriter(destination=destination))
    assert set(destination.rglob("*")) == before


def test_a_line_of_the_ledger_that_was_cut_is_done_again(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    writer = NativeWriter(destination=tmp_path / "box")
    convert(Source.at(demonstration_folder), writer)
    ledger = tmp_path / "box" / ".conversion" / "episodes.jsonl"
    os.truncate(ledger, ledger.stat().st_size - 40)
    summary = convert(Source.at(demonstration_folder), writer)
    assert (summary.num_converted, summary.num_kept) == (1, 9)
