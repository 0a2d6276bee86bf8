"""A language model's checkpoint: loaded, asked, and not trusted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.data.errors import DataError
from trainer.language_checkpoint import (
    LanguageCheckpoint,
    read_language_checkpoint,
    write_language_checkpoint,
)
from trainer.language_configuration import LanguageTrainConfig
from trainer.policy_configuration import TrainConfig
from trainer.run_directory import RunError
from trainer.training_loop import train


def test_a_policy_and_a_language_model_are_not_confused(
    finished: Path,
    trained_checkpoint: Path,
    config: LanguageTrainConfig,
    tiny_config: TrainConfig,
) -> None:
    final = finished / "checkpoints" / "final"
    with pytest.raises(CheckpointError, match="expected a policy's checkpoint, got that of a lang"):
        read_checkpoint(final)
    with pytest.raises(CheckpointError, match="expected a language model, got .* 'policy'"):
        read_language_checkpoint(trained_checkpoint)
    with pytest.raises(RunError, match="kind: 'language', now 'policy'"):
        train(tiny_config, finished)


def test_the_policy_server_says_what_it_was_given(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from policy_server.command_line import main as serve

    final = finished / "checkpoints" / "final"
    assert serve(["serve", str(final), "--address", "127.0.0.1:0"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"{final}: expected a policy's checkpoint, got that of a language model" in err


def test_a_checkpoint_is_loaded_strictly(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished / "checkpoints" / "step_000012", tmp_path / "copy")
    whole = read_language_checkpoint(folder)
    fewer = dict(list(whole.weights.items())[1:])
    for broken in (fewer, {**whole.weights, "extra": torch.zeros(1)}):
        changed: LanguageCheckpoint = replace(whole, weights=broken)
        with pytest.raises(CheckpointError, match="do not fit"):
            changed.build_model()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="model.safetensors: corrupt"):
        read_language_checkpoint(folder)


def test_a_strangers_checkpoint_does_no_harm(finished: Path) -> None:
    checkpoint = read_language_checkpoint(finished / "checkpoints" / "final")
    shape = checkpoint.config.model
    for size in (2**40, 2**62):
        huge = replace(checkpoint.config, model=replace(shape, vocabulary_size=size))
        with pytest.raises(CheckpointError, match=r"not \(1099511627776, 32\)|no model has"):
            replace(checkpoint, config=huge).build_model()
    # Half of a pair, which no text in UTF-8 holds.
    with pytest.raises(DataError, match="no tokenizer"):
        replace(checkpoint, tokenizer={"model": "\ud800"}).build_tokenizer()


def test_a_strangers_text_does_not_reach_the_terminal_raw(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_language_checkpoint(finished / "checkpoints" / "final")
    named = replace(checkpoint.config, name="lm\x1b[2J")
    provenance = {"git_sha": "\x1b]0;title\x07", "versions": {"a\x9b": "b"}}
    strange = tmp_path / "strange"
    write_language_checkpoint(replace(checkpoint, config=named, provenance=provenance), strange)
    assert main(["inspect", str(strange)]) == 0
    assert main(["sample", str(strange), "the\tmug\x1b[2J", "--max-new-tokens", "1"]) == 0
    out = capsys.readouterr().out
    assert r"lm\x1b[2J" in out
    assert r"\x1b]0;title\x07" in out
    assert r"a\x9b b" in out
    assert "the\tmug\\x1b[2J" in out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)


def test_sample_and_inspect(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = str(finished / "checkpoints" / "final")
    options = ["--max-new-tokens", "8", "--num-samples", "2"]
    assert main(["sample", final, "the mug", *options]) == 0
    first = capsys.readouterr().out
    assert first.count("the mug") >= 2
    assert main(["sample", final, "the mug", *options]) == 0
    assert capsys.readouterr().out == first
    assert main(["inspect", final, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["name"], facts["optimizer_step"]) == ("language", "tiny", 12)
