"""Training a language model: it learns, and it says no in time."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.language.runs import sentences
from tests.trainer.steps import call_after_step
from trainer.command_line import main
from trainer.configuration_json import config_from_json
from trainer.data.errors import DataError
from trainer.data.text.encoding import EncodedDocument
from trainer.data.text.packing import PackedSequence, pack
from trainer.data.text.tokenizer import train_tokenizer
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.language_learner import LanguageLearner, TextBatch
from trainer.learner import TrainingDivergedError, learning_rate_at
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.language_model import LanguageModel
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.throughput import training_flops_per_token
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train


def test_a_run_leaves_what_it_promises(finished: Path, config: LanguageTrainConfig) -> None:
    checkpoints = finished / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["final", "step_000004", "step_000012"]
    assert sorted(p.name for p in (checkpoints / "final").iterdir()) == [
        "MANIFEST.json",
        "config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
    ]
    assert config_from_json((finished / "config.json").read_text()) == config
    checkpoint = read_language_checkpoint(checkpoints / "final")
    assert checkpoint.config == config
    assert checkpoint.provenance["num_documents"] == 21
    assert checkpoint.provenance["held_out"]["perplexity"] == pytest.approx(
        math.exp(checkpoint.provenance["held_out"]["loss"])
    )
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) >= {
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "train/tokens_per_s",
        "train/samples_per_s",
        "train/memory_gib",
        "validation/loss",
        "validation/perplexity",
    }
    told = events.Tensors("samples/0/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert told.startswith("the mug")


def test_without_an_average_the_weights_themselves_are_kept(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    plain = replace(config, ema=EmaConfig(max_decay=0.0), num_steps=5, checkpoint_steps=())
    final = train(plain, tmp_path / "run")
    state = tmp_path / "run" / "training_state" / "step_000005" / "state.safetensors"
    trained = load_file(state)
    assert not any(name.startswith("ema/") for name in trained)
    for name, tensor in read_language_checkpoint(final).weights.items():
        assert torch.equal(tensor, trained[f"network/{name}"]), name


def test_bfloat16_trains_float32_weights(config: LanguageTrainConfig, tmp_path: Path) -> None:
    mixed = replace(config, precision="bfloat16", num_steps=2, checkpoint_steps=())
    train(mixed, tmp_path / "run")
    state = load_file(tmp_path / "run" / "training_state" / "step_000002" / "state.safetensors")
    assert any(name.startswith("optimizer/") for name in state)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_divergence_stops_the_run_and_keeps_what_was_saved(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    wild = OptimizerConfig(learning_rate=1e30, warmup_steps=0, max_gradient_norm=1e30)
    with pytest.raises(TrainingDivergedError, match=r"optimizer step \d+: loss"):
        train(replace(config, optimizer=wild), tmp_path / "run")


def test_it_learns_more_than_how_often_each_token_comes(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    config = replace(config, num_steps=120, checkpoint_steps=(), validation_every=120)
    final = train(config, tmp_path / "run")
    checkpoint = read_language_checkpoint(final)
    tokenizer = checkpoint.build_tokenizer()
    held = Counter(t for seed in range(24) for t in tokenizer.encode(sentences(seed, 12)))
    share = np.array(list(held.values())) / sum(held.values())
    unigram = float(-(share * np.log(share)).sum())
    assert checkpoint.provenance["held_out"]["loss"] < 0.6 * unigram


def test_documents_of_a_sequence_do_not_see_each_other(config: LanguageTrainConfig) -> None:
    torch.manual_seed(0)
    model = LanguageModel(config.model)
    learner = LanguageLearner(model, config, torch.device("cpu"))

    def document(*tokens: int) -> tuple[EncodedDocument, int, int]:
        token = np.array(tokens, np.int32)
        learnt = np.ones(len(tokens), bool)
        return (
            EncodedDocument(token=token, learnt=learnt, image_start=np.zeros(0, np.int64)),
            0,
            len(tokens),
        )

    def entropy(*sequences: PackedSequence) -> tuple[float, int]:
        batch = TextBatch.of(sequences, torch.device("cpu"))
        return learner.cross_entropy(batch), batch.num_learnt

    one, other = document(9, 8, 7, 6), document(20, 21, 22)
    together, count = entropy(pack([one, other], 32, 0))
    first, first_count = entropy(pack([one], 32, 0))
    second, second_count = entropy(pack([other], 32, 0))
    assert (count, first_count, second_count) == (5, 3, 2)
    assert together == pytest.approx((3 * first + 2 * second) / 5, rel=1e-5)


def test_a_given_tokenizer_is_kept_and_another_one_refused(
    config: LanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given.json"
    train_tokenizer([sentences(0, 50)], 290, given)
    other = tmp_path / "other.json"
    train_tokenizer([sentences(0, 50)], 280, other)
    config = replace(config, tokenizer=str(given))
    with monkeypatch.context() as patched:
        call_after_step(patched, 2, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError):
            train(config, tmp_path / "run")
    with pytest.raises(RunError, match=r"it has 280 tokens, that of .* has 290"):
        train(replace(config, tokenizer=str(other)), tmp_path / "run")
    moved = given.rename(tmp_path / "moved.json")
    final = train(replace(config, tokenizer=str(moved)), tmp_path / "run")
    assert read_language_checkpoint(final).tokenizer == json.loads(moved.read_text())


def test_what_cannot_be_is_said_before_the_first_step(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    def refuses(kind: type[Exception], told: str, **changes: object) -> None:
        with pytest.raises(kind, match=told) as raised:
            train(replace(config, **changes), tmp_path / "run")
        assert "\n" not in str(raised.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "nothing.txt").touch()
    refuses(DataError, "holds no documents", data=str(empty))
    refuses(DataError, "no such file", data=str(tmp_path / "nowhere"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "texts.jsonl").write_text('{"text": "A box."}\n' * 30 + "{")
    refuses(DataError, "not JSON", data=str(broken))
    # Or the next one would be refused as another run's.
    assert not (tmp_path / "run").exists()
    refuses(ConfigurationError, "validation_documents: expected fewer", validation_documents=24)
    refuses(ConfigurationError, "divisor of batch_size", micro_batch_size=4)
    refuses(ConfigurationError, "exactly one", num_tokens=1000)
    refuses(ConfigurationError, "num_tokens: expected at least 192", num_steps=None, num_tokens=191)
    given = tmp_path / "tokenizer.json"
    train_tokenizer([sentences(0, 50)], 290, given)
    small = replace(config.model, vocabulary_size=280)
    refuses(ConfigurationError, "expected at least 290", tokenizer=str(given), model=small)
    assert not (tmp_path / "run").exists()
    long = replace(config.model, context_length=2**14)
    refuses(ConfigurationError, r"model\.context_length: expected at most \d+", model=long)
    assert not list((tmp_path / "run" / "training_state").iterdir())


def test_recipes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(RECIPES)
    assert main(["show", "lm_100m", "--device", "cpu", "--optimizer.learning-rate", "1e-4"]) == 0
    shown = config_from_json(capsys.readouterr().out)
    assert isinstance(shown, LanguageTrainConfig)
    assert shown.optimizer.learning_rate == 1e-4
    assert shown.precision in ("float32", "bfloat16")
    assert shown.model == find_recipe("lm_100m").model
    assert main(["show", "lm_100m", "--optimizer.learning-rat", "1"]) == 2
    assert "--optimizer.learning-rate" in capsys.readouterr().err
    assert main(["show", "lm_100"]) == 2
    assert "did you mean 'lm_100m'" in capsys.readouterr().err


def test_constant_decay_stays_and_then_falls() -> None:
    schedule = OptimizerConfig(
        learning_rate=1.0,
        warmup_steps=10,
        schedule="constant_decay",
        decay_fraction=0.2,
        final_learning_rate_fraction=0.0,
    )
    rates = [learning_rate_at(step, 100, schedule) for step in range(100)]
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_flops_of_a_published_shape() -> None:
    # VLA Foundry's 1B: 1233.3M weights in its blocks, and its head.
    config = find_recipe("lm_11m").model
    shape = TransformerConfig(width=2048, depth=24, num_heads=16, norm="layer")
    flops = training_flops_per_token(replace(config, transformer=shape, context_length=2048))
    pairs = 6 * 24 * 2048 * 2048
    assert (flops - pairs) / 6 == pytest.approx(1233.3e6 + 50_432 * 2048, rel=1e-3)


def test_a_model_that_diverged_is_told_where_it_is_measured(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    # The loss is still a number, and its exponential is none any more.
    wild = replace(
        config,
        validation_every=1,
        ema=EmaConfig(max_decay=0.0),
        optimizer=OptimizerConfig(warmup_steps=0, learning_rate=100.0),
        model=replace(config.model, tied_weights=False, z_loss=0.0),
    )
    with pytest.raises(TrainingDivergedError, match=r"held-out loss: .* nats a token, expected"):
        train(wild, tmp_path / "run")
