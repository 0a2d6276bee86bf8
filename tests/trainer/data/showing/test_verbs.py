"""`trainer data inspect`, `doctor` and `play`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.command_line import main
from trainer.data.conversion import Source, convert
from trainer.data.episode import Field
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.formats.native_writer import NativeWriter


@pytest.fixture
def source(demonstration_folder: Path) -> list[str]:
    """Ten synthetic demonstrations of two cameras."""
    return [str(demonstration_folder), "--from", "demonstrations"]


def test_inspect_prints_what_there_is(source: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "inspect", *source]) == 0
    told = capsys.readouterr().out
    assert "episodes   10, of 14 to 14 steps; 140 steps, 14.0 s" in told
    assert "rate       10 Hz" in told
    assert "Reach the square." in told
    assert "scene.right  48x40  raw     intrinsics, extrinsics" in told
    assert "actual/width_m/left::panda_hand" in told


def test_inspect_tells_machines_the_same(source: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "inspect", *source, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["num_steps"] == 140
    assert facts["tasks"] == {"ReachTheSquare": 10}
    assert facts["outcomes"] == {"success": 10}
    width = facts["fields"]["action/width_m/right::panda_hand"]
    assert (width["low"], width["high"], width["unit"]) == ([0.0], [0.08], "m")
    assert facts["cameras"]["wrist"][0]["num_episodes"] == 10


def test_contact_sheet_shows_the_frames(source: list[str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    options = ["--output", str(sheet), "--episodes", "3", "--columns", "4"]
    assert main(["data", "inspect", *source, *options]) == 0
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture).astype(int)
    # Of every tile, the ground and the square that the synthetic cameras show.
    assert (np.abs(pixels - (60, 60, 60)).max(axis=-1) < 4).sum() > 0.2 * pixels[..., 0].size
    assert (np.abs(pixels - (230, 40, 30)).max(axis=-1) < 40).sum() > 24 * 100
    assert list(tmp_path.iterdir()) == [sheet]


def test_contact_sheet_refuses_other_files(
    source: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", "inspect", *source, "--output", "sheet.gif"]) == 2
    assert "expected a .png or .jpg file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--columns", "--episodes"])
@pytest.mark.parametrize("number", ["0", "100000000"])
def test_contact_sheet_refuses_sizes_that_nothing_opens(
    source: list[str], option: str, number: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", "inspect", *source, "--output", "sheet.png", option, number]) == 2
    assert f"{option}: expected 1 to" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inspect", "doctor", "stats"])
def test_what_data_says_does_not_speak_to_the_terminal(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spoken = "\x1b]0;mine\x07"
    episodes = [
        ArrayEpisode.make(
            f"{spoken}{number}",
            rate_hz=10.0,
            fields={
                f"width{spoken}": (
                    Field(shape=(), kind="gripper", role="observed"),
                    np.full(3, np.nan if number else 0.0),
                )
            },
            instructions={"original": (f"Wave.{spoken}",)},
            task=spoken,
        )
        for number in range(2)
    ]
    convert(Source.of(MemoryDataset(episodes)), NativeWriter(destination=tmp_path / "data"))
    main(["data", verb, str(tmp_path / "data")])
    told = capsys.readouterr().out
    assert "\\x1b]0;mine\\x07" in told
    assert "\x1b" not in told
    assert "\x07" not in told


def test_doctor_exits_by_the_worst_finding(
    source: list[str], capsys: pytest.CaptureFixture
) -> None:
    # The synthetic cameras are still by construction, and the doctor says so; nothing is an error.
    assert main(["data", "doctor", *source]) == 0
    assert "140 steps" in capsys.readouterr().out
    shared = ["--train", source[0], "--validation", source[0], "--from", "demonstrations"]
    assert main(["data", "doctor", *shared]) == 1
    told = capsys.readouterr().out
    assert "10 of 10 validation episodes are in training too" in told
    assert told.rstrip().splitlines()[-1].startswith("1 error")


def test_doctor_tells_machines_the_same(source: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "doctor", *source, "--json", "--fail-on", "warning"]) in (0, 1)
    (examined,) = json.loads(capsys.readouterr().out)["data_sets"]
    assert (examined["num_episodes"], examined["num_steps"]) == (10, 140)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a source"),
        (["--train", "a"], "go together"),
        (["a", "--fail-on", "never"], "--fail-on"),
        (["a", "--frames", "-1"], "--frames"),
    ],
)
def test_doctor_says_what_it_was_not_told(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", "doctor", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_play_writes_a_film(source: list[str], tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    arguments = [source[0], "episode_000003", *source[1:], "--width", "480"]
    assert main(["data", "play", *arguments, "--output", str(film)]) == 0
    assert film.stat().st_size > 1000


@pytest.mark.parametrize(
    ("episode", "options", "complaint"),
    [
        ("10", [], "expected an episode from 0 to 9"),
        ("episode_00000", [], "did you mean 'episode_000009'"),
        ("0", ["--fields", "action/pose/rihgt::panda"], "did you mean"),
        ("0", ["--output", "film.avi"], "--to mp4 writes .mp4 files"),
        ("0", ["--to", "rerun", "--output", "film.mp4"], "--to rerun writes .rrd files"),
        ("0", ["--speed", "0"], "--speed"),
        ("0", ["--width", "10"], "--width"),
        ("²", [], "no episode '²'"),
        ("-1", [], "expected an episode from 0 to 9"),
    ],
)
def test_play_says_what_is_wrong(
    source: list[str],
    episode: str,
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture,
) -> None:
    assert main(["data", "play", source[0], episode, *source[1:], *options]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inspect", "doctor", "play"])
def test_help_shows_an_example(verb: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["data", verb, "--help"])
    assert stopped.value.code == 0
    assert f"trainer data {verb} demos" in capsys.readouterr().out
