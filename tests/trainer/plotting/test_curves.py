"""`trainer plot`: what runs wrote is what the page and the picture show."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import signal
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import SummaryWriter

from step_analysis.report.palette import colours as colours_of_reports
from step_analysis.report.palette import policy_role
from trainer.command_line import main
from trainer.learner import Learner
from trainer.plotting.event_files import read_scalars
from trainer.plotting.palette import SCHEMES, colours, series_role
from trainer.plotting.panels import thinned
from trainer.plotting.quantities import in_order, quantity_of
from trainer.plotting.scales import Scale, in_short
from trainer.plotting.smoothing import smoothed
from trainer.policy_configuration import TrainConfig
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train


@pytest.fixture(scope="module")
def runs(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of twelve and six steps, of other learning rates."""
    folder = tmp_path_factory.mktemp("runs")
    train(tiny_config, folder / "slow")
    optimizer = OptimizerConfig(warmup_steps=2, learning_rate=5e-3)
    train(replace(tiny_config, num_steps=6, optimizer=optimizer), folder / "fast")
    return folder / "slow", folder / "fast"


def plot(*words: str | Path) -> int:
    return main(["plot", *map(str, words)])


def page_data(page: Path) -> dict[str, Any]:
    """What the page's script knows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found
    return json.loads(found[1])


def titles(page: Path) -> list[str]:
    return re.findall(r'aria-label="([^"]+)" stroke', page.read_text())


class Cells(HTMLParser):
    """The rows of a page's tables."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def test_what_words_decide_has_a_title_beside_what_pictures_do() -> None:
    names = [f"validation/position_with_other_{what}_mm" for what in ("images", "words")]
    titles = [quantity_of(name).title for name in names]
    assert titles == [
        "Position error with other images",
        "Position error with another task's words",
    ]
    assert in_order({*names, "validation/rotation_deg"})[:2] == names


def test_the_page_shows_every_scalar_as_it_was_written(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plot(*runs, "--output", tmp_path / "plots", "--smoothing", 0) == 0
    page, picture = tmp_path / "plots" / "curves.html", tmp_path / "plots" / "curves.png"
    assert capsys.readouterr().out.splitlines() == [str(picture), str(page)]
    data = page_data(page)
    assert data["names"] == ["slow", "fast"]
    shown = dict(zip(titles(page), data["panels"], strict=True))
    names = {
        "train/loss": "Loss",
        "train/gradient_norm": "Gradient norm",
        "train/learning_rate": "Learning rate",
        "validation/position_mm": "Position error over all windows, mm",
        "validation/position_with_other_images_mm": "Position error with other images, mm",
        "validation/rotation_deg": "Rotation error over all windows, deg",
        "validation/gripper_mm": "Gripper error over all windows, mm",
        "train/samples_per_s": "Samples per second",
        "train/memory_gib": "Most memory held, GiB",
    }
    for number in (1, 2, 4, 8):
        for what, unit in (("position", "mm"), ("rotation", "deg"), ("gripper", "mm")):
            title = f"{what.capitalize()} error over all windows at action {number}, {unit}"
            names[f"validation/{what}_at_action_{number}_{unit}"] = title
    assert set(shown) == set(names.values())
    for series, run in enumerate(runs):
        written = EventAccumulator(str(run / "tensorboard")).Reload()
        assert set(written.Tags()["scalars"]) == set(names)
        for name, title in names.items():
            (curve,) = [each for each in shown[title]["curves"] if each["run"] == series]
            events = written.Scalars(name)
            assert curve["x"] == [event.step for event in events]
            np.testing.assert_allclose(curve["y"], [event.value for event in events], rtol=1e-4)
    with Image.open(picture) as image:
        image.load()
        assert image.width > 2000
        found = {colour for _, colour in image.getcolors(2**24) or []}
        drawn = colours("light")
        for role in ("paper", "ink", series_role(0), series_role(1)):
            assert tuple(bytes.fromhex(drawn[role][1:])) in found


def test_the_page_needs_no_network_and_runs_its_own_script_alone(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    assert plot(*runs, "--output", tmp_path) == 0
    text = (tmp_path / "curves.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"\bsrc=|@import|url\(", text)


def test_what_differs_between_configurations_is_told_and_nothing_else(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    assert plot(*runs, "--output", tmp_path) == 0
    rows = Cells(tmp_path / "curves.html").rows
    start = rows.index(["Field", "slow", "fast"])
    assert rows[start + 1 :] == [
        ["num_steps", "12", "6"],
        ["optimizer.learning_rate", "0.002", "0.005"],
    ]
    assert [row[:3] for row in rows[1:3]] == [
        ["slow", "policy", "12 of 12"],
        ["fast", "policy", "6 of 6"],
    ]
    # Alone, a run differs from nothing.
    assert plot(runs[0], "--output", tmp_path) == 0
    assert "differences" not in (tmp_path / "curves.html").read_text()


def test_a_resumed_run_has_each_step_once(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a report that its resume makes again, then stopped right after one."""
    take_step = Learner.step

    def stop_after(count: int, act: Any) -> None:
        def step_and_act(self: Learner, batch, step, generator):
            result = take_step(self, batch, step, generator)
            if step + 1 == count:
                act()
            return result

        monkeypatch.setattr(Learner, "step", step_and_act)

    def die() -> None:
        raise BrokenPipeError("killed")

    run = tmp_path / "run"
    stop_after(7, die)
    with pytest.raises(BrokenPipeError):
        train(tiny_config, run)
    stop_after(6, lambda: signal.raise_signal(signal.SIGINT))
    assert main(["train", str(run / "config.json"), "--output", str(run)]) == 130
    monkeypatch.setattr(Learner, "step", take_step)
    train(tiny_config, run)
    assert len(list((run / "tensorboard").iterdir())) == 3
    scalars = read_scalars(run / "tensorboard", pytest.fail)
    assert scalars["train/loss"].steps.tolist() == [4, 6, 10, 12]
    assert scalars["validation/position_mm"].steps.tolist() == [4, 6, 12]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """An event file of losses 1 to 20 at steps 1 to 20, in a folder that is a run but for them."""
    with SummaryWriter(str(tmp_path / "run" / "tensorboard")) as writer:
        for step in range(1, 21):
            writer.add_scalar("train/loss", step, step)
    (tmp_path / "run" / "config.json").write_text("{}")
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    return file


def test_a_broken_record_is_left_out_and_told(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(written.read_bytes())
    place = content.index(b"train/loss", len(content) // 2)
    content[place] ^= 0xFF
    written.write_bytes(content)
    warnings: list[str] = []
    steps = read_scalars(written.parent, warnings.append)["train/loss"].steps.tolist()
    assert len(steps) == 19
    assert sorted({*steps}) == steps
    (warning,) = warnings
    assert re.fullmatch(rf"{re.escape(str(written))}: broken record at byte \d+, left out", warning)
    # A configuration that cannot be read costs the table, not the curves.
    assert plot(written.parent.parent, "--output", tmp_path / "plots") == 0
    told = capsys.readouterr().err
    assert "warning: " + warning in told
    assert "config.json: missing configuration keys" in told


@pytest.mark.parametrize("kept", [0.3, 0.77, 0.999])
def test_of_a_file_that_was_cut_off_the_whole_records_stay(written: Path, kept: float) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: int(kept * len(content))])
    warnings: list[str] = []
    steps = read_scalars(written.parent, warnings.append)["train/loss"].steps.tolist()
    assert steps == list(range(1, len(steps) + 1))
    assert 0 < len(steps) < 20
    assert len(warnings) == 1


def test_a_length_that_is_broken_ends_the_file(written: Path) -> None:
    content = bytearray(written.read_bytes())
    # The first record's length claims a terabyte.
    content[5] = 1
    written.write_bytes(content)
    warnings: list[str] = []
    assert read_scalars(written.parent, warnings.append) == {}
    assert "broken record at byte 0" in warnings[0]


def test_a_strangers_event_does_no_harm(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SummaryWriter(str(written.parent)) as writer:
        writer._get_file_writer().add_event(Event(meta_graph_def=b"no graph"))
    assert plot(written.parent.parent, "--output", written.parent.parent / "plots") == 2
    assert "tensorboard: cannot be read as events" in complaint(capsys)


def test_numbers_that_are_none_leave_a_gap(written: Path, tmp_path: Path) -> None:
    with SummaryWriter(str(written.parent), purge_step=10) as writer:
        for step in range(10, 15):
            writer.add_scalar("train/loss", [1.0, float("nan"), float("inf")][step % 3], step)
            writer.add_scalar("validation/loss", float("nan"), step)
    assert plot(written.parent.parent, "--output", tmp_path / "plots") == 0
    page = tmp_path / "plots" / "curves.html"
    assert not re.search(r"nan|inf\b", "".join(re.findall(r' d="[^"]*"', page.read_text())))
    assert page_data(page)["panels"][1]["curves"][0]["y"] == []


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_plotted_is_told_in_a_line(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, _ = runs
    output = ["--output", tmp_path / "plots"]
    eventless = tmp_path / "eventless"
    eventless.mkdir()
    shutil.copy(slow / "config.json", eventless)
    other = tmp_path / "slow"
    shutil.copytree(slow, other, symlinks=True)
    (tmp_path / "file").write_text("")
    for words, told in (
        ([tmp_path / "nowhere", *output], "nowhere: no such folder"),
        ([f"a={tmp_path}/nowhere", *output], "nowhere: no such folder"),
        ([tmp_path, *output], "no run: it has no config.json"),
        ([eventless, *output], "no events: tensorboard/ holds no scalars"),
        ([slow, other, *output], "would both be called 'slow'; give a name in front of one"),
        ([slow, "--output", tmp_path / "file"], "expected a folder, got a file"),
        ([slow, *output, "--smoothing", 2], "--smoothing: expected 0 to 1, got 2"),
        ([slow, *output, "--scheme", "pink"], "pink"),
        ([slow], "--output"),
        (output, "first the folder of a run"),
    ):
        assert plot(*words) == 2, words
        line = complaint(capsys)
        assert line.startswith("trainer: ")
        assert told in line
    assert not (tmp_path / "plots").exists()


def test_names_of_strangers_stay_names(runs: tuple[Path, Path], tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>&\u0007"
    assert plot(f"{name}={runs[0]}", f"b={runs[1]}", "--output", tmp_path) == 0
    text = (tmp_path / "curves.html").read_text()
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert page_data(tmp_path / "curves.html")["names"] == [name, "b"]
    assert "\u0007" not in text


def test_other_files_of_the_folder_stay(runs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "curves.html").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    assert plot(runs[0], "--output", tmp_path, "--scheme", "dark") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curves.html",
        "curves.png",
        "notes.txt",
    ]
    assert (tmp_path / "curves.html").read_text().startswith("<!doctype html>")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == tuple(
            bytes.fromhex(colours("dark")["paper"][1:])
        )


def test_the_colours_are_those_of_the_reports() -> None:
    for scheme in SCHEMES:
        ours, theirs = colours(scheme), colours_of_reports(scheme)
        for role in ("paper", "ink", "muted", "line", "wash"):
            assert ours[role] == theirs[role]
        for index in range(24):
            assert ours[series_role(index)] == theirs[policy_role(index)]


def test_smoothing_keeps_lines_and_takes_noise_away() -> None:
    x = np.arange(10.0, 3000.0, 10.0)
    line = 2.0 - 5e-4 * x
    at, kept = smoothed(x, line, 60.0)
    np.testing.assert_allclose(kept, 2.0 - 5e-4 * at, atol=1e-3)
    noise = np.random.default_rng(0).standard_normal(len(x))
    at, quiet = smoothed(x, line + noise, 60.0)
    assert (quiet - 2.0 + 5e-4 * at).std() < 0.35
    # Of logarithms, so that nothing becomes negative, and gaps are left out.
    decay = np.exp(-x / 100)
    decay[5] = np.nan
    at, kept = smoothed(x, decay, 45.0, in_logarithm=True)
    np.testing.assert_allclose(kept, np.exp(-at / 100), rtol=0.02)


def test_a_long_curve_keeps_its_peaks() -> None:
    x = np.arange(100_000.0)
    y = np.zeros(100_000)
    y[31_415], y[92_653] = 7.0, -3.0
    few_x, few_y = thinned(x, y)
    assert len(few_x) < 1000
    assert dict(zip(few_x, few_y, strict=True))[31_415.0] == 7.0
    assert few_y.min() == -3.0
    assert (np.diff(few_x) > 0).all()


@given(st.lists(st.floats(-1e12, 1e12), min_size=1), st.booleans())
@example([1.0, 1.2e-308], True)
def test_an_axis_holds_its_values_and_its_ticks(values: list[float], logarithmic: bool) -> None:
    numbers = np.array(values)
    scale = Scale.over(numbers, may_be_logarithmic=logarithmic)
    parts = scale.parts(numbers)
    assert ((parts >= 0) & (parts <= 1)).all()
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 12
    assert all(-1e-6 <= part <= 1 + 1e-6 for part in scale.parts(ticks))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (5000, "5000"),
        (12_000, "12 k"),
        (1.5e6, "1.5 M"),
        (2e-5, "2e-05"),
    ],
)
def test_numbers_at_an_axis_are_short(value: float, told: str) -> None:
    assert in_short(value) == told
