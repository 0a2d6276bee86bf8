"""`trainer predict`: plans beside what the teacher did, and what it measures of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_interface.contract import RIGHT_ARM, Contract, ImageSize
from policy_interface.demonstration import (
    Demonstration,
    demonstration_path,
    save_demonstration,
)
from policy_interface.types import Action, Observation
from trainer.command_line import main
from trainer.inference import Policy
from trainer.plotting.planning import Subject
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.training_loop import train


@pytest.fixture(scope="module")
def run(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that holds out episodes 8 and 9, with a checkpoint at step 4."""
    output = tmp_path_factory.mktemp("runs") / "box"
    serving = ServingConfig(num_flow_steps=2, open_loop_steps=4)
    train(replace(tiny_config, num_steps=6, serving=serving), output)
    return output


def predict(*words: str | Path) -> int:
    return main(["predict", *map(str, words)])


def panels(page: Path) -> dict[str, list[dict]]:
    """What the page's script knows of each panel, by its title."""
    text = page.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    by_title: dict[str, list[dict]] = {}
    titles = re.findall(r'aria-label="([^"]+)" stroke', text)
    for title, panel in zip(titles, json.loads(found[1])["panels"], strict=True):
        by_title.setdefault(title, []).append(panel)
    return by_title


def stay(self: Policy, observations: Sequence[Sequence[Observation]], noise: object) -> list:
    """Plans of one who stays where it is."""
    return [
        [Action(poses=seen.actual.poses, gripper_widths_m=seen.actual.gripper_widths_m)]
        * self.chunk_length
        for (seen,) in observations
    ]


def test_errors_are_those_of_the_geometry(
    run: Path,
    tmp_path: Path,
    make_demonstration: Callable[..., Demonstration],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The teacher moves along a line at an even pace: who stays is off by so many of its steps."""
    monkeypatch.setattr(Policy, "plan", stay)
    assert predict(run, "--output", tmp_path) == 0
    shown = panels(tmp_path / "predictions.html")
    goals = []
    for index in (8, 9):
        taught = make_demonstration(index).action.poses[RIGHT_ARM][:, :3, 3]
        goals.append(np.linalg.norm(taught[-1] - taught[0]) / 13)
    (horizon,) = shown["Position error, mm"]
    (curve,) = horizon["curves"]
    np.testing.assert_allclose(curve["x"], np.arange(8) / 10)
    # Plans begin at steps 0, 4, 8 and 12 of 14; the last has two actions within its episode.
    np.testing.assert_allclose(curve["y"], 1e3 * np.mean(goals) * np.arange(1, 9), rtol=1e-3)
    # Of each episode: x, y and z of the arm that moves, what it turns, and its gripper.
    assert {title: len(found) for title, found in shown.items()} == {
        "Position error, mm": 1,
        "Rotation error, deg": 3,
        "Gripper error, mm": 1,
        "x, m": 2,
        "y, m": 2,
        "z, m": 2,
        "Gripper, mm": 2,
    }
    taught, *planned = shown["x, m"][0]["curves"]
    assert taught["run"] is None
    demonstration = make_demonstration(8)
    np.testing.assert_allclose(
        taught["y"], demonstration.action.poses[RIGHT_ARM][:, 0, 3], rtol=1e-4
    )
    starts = [curve["x"][0] for curve in planned]
    np.testing.assert_allclose(starts, [0, 0.4, 0.8, 1.2])
    np.testing.assert_allclose(
        [curve["y"][0] for curve in planned],
        demonstration.actual.poses[RIGHT_ARM][::4, 0, 3],
        rtol=1e-4,
        atol=1e-9,
    )


def test_two_checkpoints_of_a_run_are_compared(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = run / "checkpoints" / "step_000004"
    assert predict(early, run, "--output", tmp_path) == 0
    files = [str(tmp_path / f"predictions.{kind}") for kind in ("png", "html")]
    assert capsys.readouterr().out.splitlines() == files
    text = (tmp_path / "predictions.html").read_text()
    assert "box/step_000004 and box on " in text
    assert re.findall(r"<h2>(Episode [^<]*)</h2>", text) == ["Episode 8", "Episode 9"]
    assert text.count("8 on 2 episodes") == 2
    assert text.count("<td>0 of 2</td>") == 2
    (horizon,) = panels(tmp_path / "predictions.html")["Position error, mm"]
    assert [curve["run"] for curve in horizon["curves"]] == [0, 1]
    with Image.open(files[0]) as image:
        image.load()
    # The same noise, whatever else is asked for: the same plans.
    subject = Subject.load("box", run, None, "cpu")
    both, last = subject.plan([8, 9]), subject.plan([9])
    here = both.episode == 9
    np.testing.assert_allclose(both.poses[here], last.poses, atol=1e-6)


def test_episodes_that_were_learnt_from_are_told_apart(run: Path, tmp_path: Path) -> None:
    assert predict(run, "--episodes", "9,0", "--output", tmp_path) == 0
    text = (tmp_path / "predictions.html").read_text()
    assert re.findall(r"<h2>(Episode [^<]*)</h2>", text) == [
        "Episode 9",
        "Episode 0, on which box was trained",
    ]
    assert "<td>1 of 2</td>" in text


def test_what_cannot_be_planned_is_told_in_a_line(
    run: Path,
    tmp_path: Path,
    make_demonstration: Callable[..., Demonstration],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cameras = {"wrist": ImageSize(height=40, width=40)}
    fewer = make_demonstration(3, contract=Contract(cameras=cameras, control_rate_hz=10.0))
    for name in ("fewer", "others"):
        (tmp_path / name).mkdir()
    save_demonstration(fewer, demonstration_path(tmp_path / "fewer", 0))
    save_demonstration(make_demonstration(3), demonstration_path(tmp_path / "others", 0))
    output = ["--output", tmp_path / "plots"]
    for words, told in (
        ([tmp_path / "nowhere", *output], "nowhere: no such folder"),
        ([tmp_path, *output], "neither a checkpoint nor a run that has ended in one"),
        ([run, *output, "--data", tmp_path / "nothing"], "nothing: no such file or folder"),
        ([run, *output, "--data", tmp_path / "fewer"], "camera 'scene.right' missing"),
        ([run, *output, "--data", tmp_path / "others"], "box was trained on other data"),
        ([run, *output, "--episodes", "12"], "no episode 12 that succeeded; there are 10"),
        ([run, *output, "--episodes", "one"], "--episodes: expected numbers as in 3,7, got 'one'"),
        ([run, *output, "--device", "abacus"], "--device abacus: "),
        ([run, run, *output], "would both be called 'box'"),
        (output, "first a checkpoint or a run"),
    ):
        assert predict(*words) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("trainer: ")
        assert told in line
    assert not (tmp_path / "plots").exists()
    # What nobody knows the policy to have seen is drawn where it is asked for.
    assert predict(run, *output, "--data", tmp_path / "others", "--episodes", "0") == 0


def test_a_run_that_ends_shows_its_plans_in_tensorboard(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert events.Tags()["images"] == ["samples/plans"]
    (picture,) = events.Images("samples/plans")
    assert picture.step == 6
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > 1000


def test_plans_for_which_there_is_no_memory(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Policy, "plan", lambda *_: torch.empty(2**50))
    assert predict(run, f"too={run}", "--output", tmp_path) == 1
    assert capsys.readouterr().err == (
        "trainer: cpu: out of memory (4,096 TiB asked for); less is needed with fewer --episodes, "
        "fewer policies\n"
    )

    def load(*_: object, **__: object) -> None:
        torch.empty(2**50)

    # Nor is the device to blame where a policy finds no room.
    monkeypatch.setattr("trainer.plotting.planning.load_policy", load)
    assert predict(run, "--output", tmp_path) == 1
    assert capsys.readouterr().err.endswith("; less is needed with fewer --episodes\n")
