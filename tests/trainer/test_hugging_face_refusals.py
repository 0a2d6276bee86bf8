"""What cannot be asked of models of Hugging Face: one line that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer import hugging_face_folders as folders
from tests.trainer.pictures import write_plain
from trainer.command_line import main

pytest.importorskip("transformers")
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("pictures"), 12)


def other_architecture(tmp_path: Path) -> list[str]:
    folders.write_language_folder(tmp_path / "llama")
    return ["vla_on_hugging_face", "--model.backbone.path", str(tmp_path / "llama")]


def no_folder(tmp_path: Path) -> list[str]:
    return ["vla_on_hugging_face", "--model.backbone.path", str(tmp_path / "gone")]


def no_path(tmp_path: Path) -> list[str]:
    return ["smollm2_vlm"]


def empty_folder(tmp_path: Path) -> list[str]:
    (tmp_path / "empty").mkdir()
    return ["smollm2_vlm", "--model.language.path", str(tmp_path / "empty")]


def more_blocks_than_there_are(tmp_path: Path) -> list[str]:
    folders.write_language_folder(tmp_path / "llama")
    path = ["--model.language.path", str(tmp_path / "llama")]
    return ["smollm2_vlm", *path, "--model.language.num-blocks", "3"]


def no_blocks(tmp_path: Path) -> list[str]:
    return ["smollm2_vlm", "--model.language.num-blocks", "0"]


def no_such_gguf(tmp_path: Path) -> list[str]:
    (tmp_path / "empty").mkdir()
    path = ["--model.language.path", str(tmp_path / "empty")]
    return ["smollm2_vlm", *path, "--model.language.gguf-file", "a.gguf"]


def weights_are_missing(tmp_path: Path) -> list[str]:
    import safetensors.torch

    folders.write_language_folder(tmp_path / "llama")
    file = tmp_path / "llama" / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    return ["smollm2_vlm", "--model.language.path", str(tmp_path / "llama")]


def dropout(tmp_path: Path) -> list[str]:
    return ["vla_on_hugging_face", "--model.backbone.adaptation.dropout", "0.1"]


def misspelt_module(tmp_path: Path) -> list[str]:
    folders.write_language_folder(tmp_path / "llama")
    path = ["--model.language.path", str(tmp_path / "llama")]
    return ["smollm2_vlm", *path, "--optimizer.multipliers", "visoin=0.1"]


def nothing_is_trained(tmp_path: Path) -> list[str]:
    folders.write_language_folder(tmp_path / "llama")
    path = ["--model.language.path", str(tmp_path / "llama"), "--optimizer.multipliers"]
    return ["smollm2_vlm", *path, "vision=0", "connector=0", "language=0", "observation_token=0"]


def no_number(tmp_path: Path) -> list[str]:
    return ["smollm2_vlm", "--optimizer.multipliers", "vision"]


def its_own_words(tmp_path: Path) -> list[str]:
    folders.write_language_folder(tmp_path / "llama")
    path = ["--model.language.path", str(tmp_path / "llama")]
    return ["smollm2_vlm", *path, "--tokenizer", str(tmp_path / "llama")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (other_architecture, "model.backbone.path: expected one of qwen2_vl"),
        (no_folder, "expected the folder of a model of Hugging Face"),
        (no_path, "model.language.path: expected the folder"),
        (empty_folder, "model.language.path: no configuration in"),
        (no_such_gguf, "holds no file 'a.gguf'"),
        (more_blocks_than_there_are, "model.language.num_blocks: expected at most 2, which"),
        (no_blocks, "num_blocks: expected a positive number, got 0"),
        (weights_are_missing, "missing model.layers.1.mlp.up_proj.weight"),
        (dropout, "adaptation.dropout: expected 0"),
        (misspelt_module, "did you mean 'vision'"),
        (nothing_is_trained, "optimizer.multipliers"),
        (no_number, "multipliers: expected name=number"),
        (its_own_words, "tokenizer: expected none beside a model of Hugging Face"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: Callable[[Path], list[str]],
    said: str,
    pictures: Path,
    demonstration_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe, *options = arguments(tmp_path)
    data = demonstration_folder if recipe.startswith("vla") else pictures
    options += ["--data", str(data), "--output", str(tmp_path / "run")]
    options += ["--device", "cpu", "--model.image-size", "96"]
    if recipe == "smollm2_vlm":
        options += ["--validation-documents", "1", "--model.language.context-length", "64"]
    assert main(["train", recipe, *options]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("trainer:")]
    assert len(lines) == 1
    assert said in lines[0]
