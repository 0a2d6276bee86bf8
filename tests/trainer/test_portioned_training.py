"""A language model on text that becomes tokens beside its steps, a portion at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.steps import losses_alone
from trainer.data.errors import DataError
from trainer.data.text import portions
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.training_loop import train


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanguageTrainConfig:
    """Of some hundred lines in portions of a few, and steps for more than one time through."""
    monkeypatch.setattr(portions, "_LEAST_BYTES", 2**12)
    path = tmp_path / "text.jsonl"
    lines = [{"text": f"Box {number} stands on shelf {number % 7}. " * 4} for number in range(200)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return LanguageTrainConfig(
        data=str(path),
        portions_above_mib=0.001,
        batch_size=16,
        num_steps=20,
        validation_documents=5,
        validation_every=10,
        save_state_every=5,
        sample_tokens=1,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(width=16, depth=1, num_heads=2),
            vocabulary_size=300,
            context_length=64,
        ),
    )


def test_it_goes_on_bit_by_bit_and_needs_no_data_that_it_has_as_tokens(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    whole = losses_alone(config, tmp_path / "whole")
    parts = losses_alone(config, tmp_path / "parts", stop_after=2)
    corpus = tmp_path / "parts" / "corpus"
    made = len(list(corpus.glob("portion_*.safetensors")))
    assert 0 < made < len(portions.Portions.read(corpus / "portions.json", config.data))
    parts += losses_alone(config, tmp_path / "parts", stop_after=13)
    Path(config.data).unlink()
    parts += losses_alone(config, tmp_path / "parts")
    assert parts == whole
    final = read_language_checkpoint(tmp_path / "whole" / "checkpoints" / "final")
    assert final.provenance["num_documents"] == 195
    assert final.provenance["num_held_out_documents"] == 5


def test_data_that_changed_meanwhile_stop_the_run(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    losses_alone(config, tmp_path / "run", stop_after=1)
    with Path(config.data).open("a") as file:
        file.write('{"text": "One box more."}\n')
    with pytest.raises(DataError, match=r"expected [\d,]+ bytes, as when the run began, got"):
        train(config, tmp_path / "run")


def test_a_broken_line_is_told_in_the_step_that_needs_it(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    with Path(config.data).open("a") as file:
        file.write('{"text": \n')
    with pytest.raises(DataError, match=r"text\.jsonl, the line at byte [\d,]+: not JSON"):
        train(replace(config, validation_documents=0), tmp_path / "run")


def test_small_data_are_read_whole(config: LanguageTrainConfig, tmp_path: Path) -> None:
    train(replace(config, portions_above_mib=1.0, num_steps=1), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run" / "corpus").iterdir()}
    assert names == {"training", "held_out", "origin.json"}
