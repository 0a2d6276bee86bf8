"""Training a language model: it learns, it resumes bit by bit, and it says no in time."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.errors import DataError
from trainer.data.text.encoding import EncodedDocument
from trainer.data.text.packing import PackedSequence, pack
from trainer.data.text.tokenizer import train_tokenizer
from trainer.language_checkpoint import (
    LanguageCheckpoint,
    read_language_checkpoint,
    write_language_checkpoint,
)
from trainer.language_configuration import LanguageTrainConfig
from trainer.language_learner import LanguageLearner, TextBatch
from trainer.learner import Learner, TrainingDivergedError, learning_rate_at
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.language.language_model import LanguageModel
from trainer.policy_configuration import TrainConfig
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.throughput import training_flops_per_token
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train

_SUBJECTS, _VERBS = ("the mug", "the box", "a bowl", "the lid"), ("stands", "falls", "turns")
_PLACES = ("on the shelf", "under the table", "beside the robot")


def sentences(seed: int, count: int) -> str:
    """A language of 36 sentences: after its first words each is half told."""
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(words, count) for words in (_SUBJECTS, _VERBS, _PLACES)]
    return " ".join(f"{' '.join(parts)}." for parts in zip(*drawn, strict=True))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four documents of a dozen sentences, as JSON lines."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [json.dumps({"text": sentences(seed, 12)}) for seed in range(24)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def config(texts: Path) -> LanguageTrainConfig:
    """Twelve optimizer steps of a second in all."""
    return LanguageTrainConfig(
        data=str(texts),
        name="tiny",
        batch_size=6,
        micro_batch_size=3,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_documents=3,
        validation_every=6,
        sample_prompts=("the mug", "a bowl"),
        sample_tokens=6,
        save_state_every=5,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(
                width=32, depth=2, num_heads=2, feed_forward_width=64, qk_norm="per_head"
            ),
            vocabulary_size=300,
            context_length=32,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
        ema=EmaConfig(max_decay=0.9),
    )


def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Grows by the loss of each step that is taken from here on."""
    seen: list[float] = []
    take_step = Learner.step

    def step_and_note(self: Learner, batch, step, generator):
        result = take_step(self, batch, step, generator)
        seen.append(result.loss)
        return result

    monkeypatch.setattr(Learner, "step", step_and_note)
    return seen


@pytest.fixture(scope="module")
def whole(
    config: LanguageTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[float]]:
    """A run that nothing stops, and its losses."""
    output = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        seen = losses(patched)
        train(config, output)
    return output, seen


@pytest.fixture(scope="module")
def finished(whole: tuple[Path, list[float]]) -> Path:
    return whole[0]


def weights(run: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return dict(read_language_checkpoint(run / "checkpoints" / name).weights)


def assert_same_weights(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def after_step(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    take_step = Learner.step

    def step_and_act(self: Learner, batch, step, generator):
        result = take_step(self, batch, step, generator)
        if step + 1 == count:
            act()
        return result

    monkeypatch.setattr(Learner, "step", step_and_act)


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


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_stopped_at_any_step_and_resumed_it_gives_the_same_losses(
    whole: tuple[Path, list[float]],
    config: LanguageTrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    finished, expected = whole
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        seen = losses(patched)
        after_step(patched, stop_at, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError, match=f"step {stop_at} of 12"):
            train(config, output)
    assert not (output / "checkpoints" / "final").exists()
    with monkeypatch.context() as patched:
        rest = losses(patched)
        train(config, output)
    assert len(seen) == stop_at
    assert seen + rest == expected
    assert_same_weights(weights(output), weights(finished))


def test_a_killed_run_goes_on_from_its_last_save(
    finished: Path, config: LanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patched:
        after_step(patched, 7, die)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".step_000012.x.partial").mkdir()
    # The run has its text; where it came from is not asked again.
    train(config, tmp_path / "run")
    assert_same_weights(weights(tmp_path / "run"), weights(finished))
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_on_a_process_saves_and_the_same_command_ends_with_the_same_bits(
    finished: Path, config: LanguageTrainConfig, tmp_path: Path
) -> None:
    stored = tmp_path / "config.json"
    # Told after each step, so that there is a line to wait for; measuring changes no bit.
    stored.write_text(config_to_json(replace(config, validation_every=1)))
    command = [sys.executable, "-m", "trainer.command_line", "train", str(stored)]
    command += ["--output", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 3/12"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait() == 130
    assert "the same command goes on from here" in rest
    assert list((tmp_path / "run" / "training_state").iterdir())
    assert main(command[3:]) == 0
    assert_same_weights(weights(tmp_path / "run"), weights(finished))


def test_accumulation_and_threads_change_rounding_and_nothing_else(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    config = replace(config, num_steps=3, checkpoint_steps=())
    whole = train(replace(config, micro_batch_size=None), tmp_path / "whole")
    parts = train(replace(config, micro_batch_size=2, num_threads=2), tmp_path / "parts")
    other = read_language_checkpoint(parts).weights
    for name, tensor in read_language_checkpoint(whole).weights.items():
        torch.testing.assert_close(tensor, other[name], atol=2e-4, rtol=1e-3)


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
        after_step(patched, 2, lambda: signal.raise_signal(signal.SIGINT))
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
