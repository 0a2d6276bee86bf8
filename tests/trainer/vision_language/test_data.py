"""What vision-language models are trained on: pictures, text alone, and what is no data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.pictures import picture, write_pictures
from tests.trainer.steps import train_until
from trainer.command_line import main
from trainer.data.errors import DataError
from trainer.models.vision_language import VisionLanguageModel
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.training_loop import train
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageTrainConfig


def test_text_alone_is_learnt_too(config: VisionLanguageTrainConfig, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text(
        "\n".join(json.dumps({"text": f"Number {n} is no picture."}) for n in range(40))
    )
    plain = replace(config, data=str(text), num_steps=2, checkpoint_steps=())
    checkpoint = read_vision_language_checkpoint(train(plain, tmp_path / "run"))
    assert isinstance(build_vision_language_model(checkpoint), VisionLanguageModel)


def test_what_is_said_of_one_picture_is_held_out_together(
    config: VisionLanguageTrainConfig, tmp_path: Path
) -> None:
    data = tmp_path / "pictures"
    write_pictures(data, 12, with_text=False)
    lines = (data / "captions.jsonl").read_text().splitlines()
    (data / "captions.jsonl").write_text("\n".join(lines * 3) + "\n")
    short = replace(
        config, data=str(data), num_steps=1, checkpoint_steps=(), validation_documents=7
    )
    checkpoint = read_vision_language_checkpoint(train(short, tmp_path / "run"))
    is_held_out = np.load(tmp_path / "run" / "corpus" / "is_held_out.npy").reshape(3, 12)
    # Three pictures of three sentences each: the first number of whole ones that is enough.
    assert is_held_out[0].sum() == 3
    np.testing.assert_array_equal(is_held_out, is_held_out[:1].repeat(3, axis=0))
    assert checkpoint.provenance["num_held_out_documents"] == 9
    with pytest.raises(ConfigurationError, match="validation_documents.*left to learn from"):
        train(replace(short, validation_documents=35), tmp_path / "other")


def test_a_picture_beside_another_is_not_held_out_alone(
    config: VisionLanguageTrainConfig, tmp_path: Path
) -> None:
    data = tmp_path / "pictures"
    data.mkdir()
    # Each on its own, and some in pairs.
    shown = [(n,) for n in range(24)] + [(2 * n, 2 * n + 1) for n in range(6)] * 2
    for number in range(24):
        (data / f"{number}.jpg").write_bytes(picture("red", "left", number))
    with (data / "questions.jsonl").open("w") as file:
        for numbers in shown:
            images = [f"{n}.jpg" for n in numbers]
            record = {"images": images, "question": "Which colour?", "answer": "red"}
            file.write(json.dumps(record) + "\n")
    short = replace(
        config, data=str(data), num_steps=1, checkpoint_steps=(), validation_documents=12
    )
    train(short, tmp_path / "run")
    is_held_out = np.load(tmp_path / "run" / "corpus" / "is_held_out.npy")
    pictures: dict[bool, set[int]] = {True: set(), False: set()}
    for numbers, is_held in zip(shown, is_held_out.tolist(), strict=True):
        pictures[is_held].update(numbers)
    assert any(len(shown[n]) == 2 for n in np.nonzero(is_held_out)[0])
    assert pictures[True]
    assert pictures[False]
    assert not pictures[True] & pictures[False]


def broken_picture(folder: Path) -> None:
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"no picture")


def missing_picture(folder: Path) -> None:
    (folder / "5.jpg").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(broken_picture, "picture of the data cannot be read"), (missing_picture, "5.jpg")],
)
def test_spoilt_pictures_are_one_line(
    config: VisionLanguageTrainConfig,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    data = tmp_path / "pictures"
    write_pictures(data, 12)
    spoil(data)
    with pytest.raises(DataError, match=said):
        train(replace(config, data=str(data), validation_documents=1), tmp_path / "run")


@pytest.mark.parametrize("content", [None, "", '{"text": ""}\n'])
def test_no_data_is_one_line(
    content: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if content is not None:
        (data / "captions.jsonl").write_text(content)
    options = ["--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["train", "tiny_vlm", *options, "--validation-documents", "0"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("trainer:")]
    assert len(said) == 1
    assert str(data) in said[0] or "no text" in said[0]


def test_other_pictures_are_other_data(
    config: VisionLanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "pictures"
    write_pictures(data, 12)
    short = replace(
        config, data=str(data), validation_documents=1, num_steps=3, checkpoint_steps=()
    )
    train_until(short, tmp_path / "run", monkeypatch, 1)
    shown = (data / "5.jpg").read_bytes()
    (data / "5.jpg").write_bytes(picture("red", "left", 4321))
    with pytest.raises(RunError, match="the data in .* are not those that the run began with"):
        train(short, tmp_path / "run")
    (data / "5.jpg").write_bytes(shown)
    train(short, tmp_path / "run")
