"""The console script: one clear line and a right exit code for whatever goes wrong."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from trainer.command_line import main
from trainer.configuration_json import config_to_json
from trainer.learner import Learner
from trainer.policy_configuration import TrainConfig


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trainer:")]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "first a recipe"),
        (["train", "--output", "x"], "first a recipe"),
        (["train", "smokey", "--output", "x", "--data", "y"], "did you mean 'smoke'"),
        (["train", "smoke", "--output", "x"], "--data"),
        (["train", "smoke", "--data", "y"], "--output"),
        (
            ["train", "smoke", "--output", "x", "--data", "nowhere"],
            "nowhere: no such file or folder",
        ),
        (
            ["train", "smoke", "--output", "x", "--data", "y", "--optimizer.learning-rat", "1"],
            "--optimizer.learning-rate",
        ),
        (["train", "smoke", "--output", "x", "--data", "y", "--num-steps", "abc"], "--num-steps"),
        (["train", "smoke", "--output", "x", "--data", "y", "--chunk-length", "15"], "multiple"),
        (["train", "nowhere.json", "--output", "x"], "nowhere.json: cannot be read"),
        (["inspect"], "PATH"),
        (["inspect", "nowhere"], "does not exist"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert told in complaint(capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_verb_prints_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: trainer" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "example:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["train"], ["train", "smoke"], ["inspect"]])
def test_help_of_each_verb_shows_an_example(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert not stopped.value.code
    assert "example: trainer" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_bad_usage(
    tiny_config: TrainConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    arguments = ["train", "smoke", "--data", tiny_config.data, "--output", str(tmp_path / "file/x")]
    assert main(arguments) == 2
    assert "file/x: cannot be" in complaint(capsys)


def test_a_missing_extra_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    for name in [name for name in sys.modules if name.startswith("trainer.verbs")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["inspect", "x"]) == 2
    assert "pip install '.[train]' in Assay's checkout" in complaint(capsys)


def test_train_then_inspect(
    tiny_config: TrainConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stored = tmp_path / "tiny.json"
    stored.write_text(config_to_json(tiny_config))
    output = tmp_path / "run"
    options = ["--output", str(output), "--num-steps", "3", "--checkpoint-steps", "1"]
    options += ["--optimizer.learning-rate", "3e-4"]
    assert main(["train", str(stored), *options]) == 0
    final = output / "checkpoints" / "final"
    assert capsys.readouterr().out.strip() == str(final)

    assert main(["inspect", str(final), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "tiny"
    assert facts["optimizer_step"] == 3
    assert facts["cameras"] == {"scene.right": "48x40", "wrist": "40x40"}
    assert main(["inspect", str(final)]) == 0
    assert facts["sha256"] in capsys.readouterr().out

    assert main(["train", str(stored), *options, "--seed", "9"]) == 2
    assert "seed: 0, now 9" in complaint(capsys)


def test_ctrl_c_saves_and_exits_with_130(
    tiny_config: TrainConfig,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = tmp_path / "tiny.json"
    stored.write_text(config_to_json(tiny_config))
    take_step = Learner.step

    def interrupted(self: Learner, batch, step, generator):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return take_step(self, batch, step, generator)

    monkeypatch.setattr(Learner, "step", interrupted)
    assert main(["train", str(stored), "--output", str(tmp_path / "run")]) == 130
    assert "the same command goes on from here" in complaint(capsys)
    assert (tmp_path / "run" / "training_state" / "step_000003").is_dir()
