"""Vision-language models: begun with words, trained on pictures, asked about them."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.errors import DataError
from trainer.inference import load_policy
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.backbone import VisionLanguageInput
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.language.generation import GenerationConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.stages.language_data import Vocabulary
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train
from trainer.vision_language_action_configuration import (
    ExpertShape,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_answers import answer
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig
from trainer.vision_language_learner import VisionLanguageLearner

_COLOURS = {"red": (220, 40, 30), "green": (40, 190, 60), "blue": (40, 60, 210)}
_SIDES = ("left", "right")


def picture(colour: str, side: str, seed: int) -> bytes:
    """A JPEG of 40 pixels: a square of a colour, on grey."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 120, (40, 40, 3), dtype=np.uint8)
    row, column = rng.integers(4, 24), 4 if side == "left" else 24
    pixels[row : row + 12, column : column + 12] = _COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_pictures(folder: Path, count: int, *, with_text: bool = True) -> None:
    """Questions about the colour, and captions, in turn; some documents of text alone."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        colour, side = list(_COLOURS)[number % 3], _SIDES[number // 3 % 2]
        (folder / f"{number}.jpg").write_bytes(picture(colour, side, number))
        record = {"image": f"{number}.jpg"}
        if number % 4:
            record |= {"question": "Which colour?", "answer": colour}
        else:
            record |= {"caption": f"A {colour} square on the {side}."}
        lines.append(json.dumps(record))
    if with_text:
        lines += [json.dumps({"text": f"The square is {colour}."}) for colour in _COLOURS]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


_LANGUAGE = LanguageConfig(
    transformer=TransformerConfig(width=32, depth=2, num_heads=2, feed_forward_width=64),
    vocabulary_size=320,
    context_length=64,
)
_VISION = VisionTransformerConfig(
    width=32,
    depth=1,
    num_heads=2,
    feed_forward_width=64,
    patch_size=8,
    image_size=32,
    shuffle_factor=2,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 48)
    return folder


@pytest.fixture(scope="module")
def config(pictures: Path) -> VisionLanguageTrainConfig:
    return VisionLanguageTrainConfig(
        data=str(pictures),
        name="tiny",
        batch_size=8,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_documents=8,
        validation_every=6,
        save_state_every=4,
        sample_tokens=6,
        device="cpu",
        precision="float32",
        num_threads=2,
        model=VisionLanguageShape(language=_LANGUAGE, vision=_VISION, image_size=32),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=4),
    )


@pytest.fixture(scope="module")
def finished(config: VisionLanguageTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config, tmp_path_factory.mktemp("vlm") / "run")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model's checkpoint, of another width than the recipe's."""
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("Which colour has the square? It is red, green or blue. " * 20)
    (text.parent / "more.txt").write_text("A square stands on the left or on the right. " * 20)
    return train(
        LanguageTrainConfig(
            data=str(text.parent),
            num_steps=3,
            validation_documents=0,
            device="cpu",
            precision="float32",
            num_threads=1,
            model=replace(_LANGUAGE, transformer=replace(_LANGUAGE.transformer, width=48)),
        ),
        tmp_path_factory.mktemp("lm") / "run",
    )


def test_a_checkpoint_is_the_model(finished: Path, config: VisionLanguageTrainConfig) -> None:
    checkpoint = read_vision_language_checkpoint(finished)
    assert checkpoint.config == config == config_from_json((finished / "config.json").read_text())
    model = build_vision_language_model(checkpoint)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, checkpoint.weights[name])
    assert checkpoint.provenance["held_out"]["loss"] > 0
    with pytest.raises(CheckpointError, match="expected a policy's checkpoint, got that of"):
        load_policy(finished)
    with pytest.raises(CheckpointError, match="expected a language model, got.*vision_language"):
        read_language_checkpoint(finished)


def test_a_run_that_ends_shows_its_answers_in_tensorboard(
    finished: Path, config: VisionLanguageTrainConfig
) -> None:
    events = EventAccumulator(str(finished.parent.parent / "tensorboard")).Reload()
    assert events.Tags()["images"] == ["samples/answers"]
    (shown,) = events.Images("samples/answers")
    assert shown.step == config.num_steps
    with Image.open(io.BytesIO(shown.encoded_image_string)) as image:
        pixels = np.asarray(image.convert("RGB"))
    # The first picture, enlarged, is in its place: grey with a square of a pure colour.
    tile = pixels[20:300, 20:300].astype(int)
    is_colourful = np.ptp(tile, axis=-1) > 80
    assert 0.04 < is_colourful.mean() < 0.15
    assert (pixels[310:370, 20:300].min() < 90).any()


def test_a_resume_gives_the_same_bits(
    config: VisionLanguageTrainConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        own_step = VisionLanguageLearner.step

        def step(self: VisionLanguageLearner, *arguments: object) -> object:
            result = own_step(self, *arguments)  # pyright: ignore[reportArgumentType]
            if arguments[1] == 6:
                signal.raise_signal(signal.SIGTERM)
            return result

        patched.setattr(VisionLanguageLearner, "step", step)
        with pytest.raises(TrainingInterruptedError, match="step 7 of 12"):
            train(config, output)
    again = read_vision_language_checkpoint(train(config, output))
    for name, expected in read_vision_language_checkpoint(finished).weights.items():
        assert torch.equal(again.weights[name], expected), name


@pytest.mark.slow
def test_it_learns_to_see(config: VisionLanguageTrainConfig, tmp_path: Path) -> None:
    """Colours of pictures that it has never seen: what it says hangs on the pixels alone."""
    longer = replace(
        config, num_steps=150, checkpoint_steps=(), validation_every=150, save_state_every=150
    )
    checkpoint = read_vision_language_checkpoint(train(longer, tmp_path / "run"))
    model = build_vision_language_model(checkpoint)
    vocabulary = Vocabulary.of(checkpoint.build_tokenizer(), longer.tokens_per_image)
    right = 0
    for number in range(30):
        colour = list(_COLOURS)[number % 3]
        said = answer(
            model,
            vocabulary,
            "Which colour?",
            [picture(colour, _SIDES[number % 2], 1000 + number)],
            image_size=32,
            drawn=GenerationConfig(max_new_tokens=4, temperature=0.0),
        )
        right += said == colour
    # One in three by chance: 20 of 30 has a probability of 2 in 10,000.
    assert right >= 25


def test_it_begins_with_a_language_model(
    config: VisionLanguageTrainConfig, words: Path, tmp_path: Path
) -> None:
    begun = replace(config, init=str(words), num_steps=1, checkpoint_steps=())
    # So small a step that the weights stay where they began.
    still = replace(begun, optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0))
    checkpoint = read_vision_language_checkpoint(train(still, tmp_path / "run"))
    language = read_language_checkpoint(words)
    assert checkpoint.config.model.language == language.config.model
    assert checkpoint.tokenizer == language.tokenizer
    for name, expected in language.weights.items():
        given = checkpoint.weights[f"language.{name}"]
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)
    mean = language.weights["embedding.weight"].mean(dim=0)
    torch.testing.assert_close(checkpoint.weights["observation_token"], mean, rtol=0, atol=1e-6)


def test_the_chain_ends_in_a_policy(
    finished: Path, demonstration_folder: Path, tmp_path: Path
) -> None:
    acting = VisionLanguageActionTrainConfig(
        data=str(demonstration_folder),
        init=str(finished),
        num_steps=1,
        chunk_length=8,
        batch_size=4,
        validation_episodes=0,
        device="cpu",
        precision="float32",
        num_threads=1,
        ema=EmaConfig(max_decay=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0),
        model=VisionLanguageActionShape(
            language=replace(_LANGUAGE, vocabulary_size=300),
            vision=replace(_VISION, width=16),
            expert=ExpertShape(
                transformer=TransformerConfig(width=32, depth=2, num_heads=2, causal=False)
            ),
            image_size=32,
            instruction_tokens=20,
        ),
    )
    policy = load_policy(train(acting, tmp_path / "run"))
    weights = dict(policy.network.named_parameters())
    checkpoint = read_vision_language_checkpoint(finished)
    for name, expected in checkpoint.weights.items():
        torch.testing.assert_close(
            weights[f"model.backbone.{name}"].cpu(), expected, rtol=0, atol=1e-9
        )
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "final").tokenizer == (
        checkpoint.tokenizer
    )
    # A run that has begun needs its beginning no more.
    again = replace(acting, init=str(tmp_path / "gone"))
    assert train(again, tmp_path / "run") == tmp_path / "run" / "checkpoints" / "final"


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


def test_what_cannot_begin_it_is_refused_before_anything_is_written(
    config: VisionLanguageTrainConfig, finished: Path, trained_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="to begin with, got a checkpoint of kind 'policy'"):
        train(replace(config, init=str(trained_checkpoint)), tmp_path / "run")
    with pytest.raises(CheckpointError, match="nowhere: does not exist"):
        train(replace(config, init=str(tmp_path / "nowhere")), tmp_path / "run")
    both = replace(config, init=str(finished), tokenizer=str(finished / "tokenizer.json"))
    with pytest.raises(ConfigurationError, match="tokenizer: expected none beside init"):
        train(both, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    excepted = replace(config, init=str(finished), init_except=("visoin",))
    with pytest.raises(ConfigurationError, match="init_except.*'visoin'"):
        train(excepted, tmp_path / "run")


def test_init_replaces_no_shape_that_was_asked_for(
    config: VisionLanguageTrainConfig,
    words: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stored = tmp_path / "tiny.json"
    stored.write_text(config_to_json(replace(config, num_steps=1, checkpoint_steps=())))
    options = ["train", str(stored), "--init", str(words), "--output", str(tmp_path / "run")]
    asked = ["--model.language.transformer.width", "64"]
    assert main([*options, *asked]) == 2
    said = capfd.readouterr().err
    assert f"transformer.width: expected 48, as {words} has it, got 64" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    # What the recipe says without being asked gives way, and this is told in one line.
    assert main([*options, "--model.language.transformer.depth=2"]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("as ")]
    assert told == [f"as {words} has it: model.language.transformer.width 48 instead of 32"]


def test_a_damaged_beginning_is_refused(
    config: VisionLanguageTrainConfig,
    finished: Path,
    demonstration_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    damaged = Path(shutil.copytree(finished, tmp_path / "damaged"))
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    options = ["--data", str(demonstration_folder), "--output", str(tmp_path / "run")]
    assert main(["train", "tiny_vla", "--init", str(damaged), *options]) == 2
    said = capfd.readouterr().err
    assert "model.safetensors: corrupt: its SHA-256" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


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


def test_the_server_says_what_such_a_checkpoint_is(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from policy_server.command_line import main as serve

    assert serve(["serve", str(finished), "--address", "127.0.0.1:0"]) == 2
    said = capfd.readouterr().err
    assert "a vision-language model, which does not act" in said
    assert said.count("\n") == 1


def test_other_pictures_are_other_data(
    config: VisionLanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "pictures"
    write_pictures(data, 12)
    short = replace(
        config, data=str(data), validation_documents=1, num_steps=3, checkpoint_steps=()
    )
    own_step = VisionLanguageLearner.step

    def step(self: VisionLanguageLearner, *arguments: object) -> object:
        result = own_step(self, *arguments)  # pyright: ignore[reportArgumentType]
        signal.raise_signal(signal.SIGTERM)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(VisionLanguageLearner, "step", step)
        with pytest.raises(TrainingInterruptedError):
            train(short, tmp_path / "run")
    shown = (data / "5.jpg").read_bytes()
    (data / "5.jpg").write_bytes(picture("red", "left", 4321))
    with pytest.raises(RunError, match="the data in .* are not those that the run began with"):
        train(short, tmp_path / "run")
    (data / "5.jpg").write_bytes(shown)
    train(short, tmp_path / "run")


def test_a_bidirectional_prefix_is_each_documents_own(pictures: Path) -> None:
    """In a sequence of several documents each is read as it would be alone, and nothing peeks."""
    torch.manual_seed(0)
    shape = VisionLanguageShape(
        language=_LANGUAGE, vision=_VISION, image_size=32, bidirectional_prefix=True
    )
    model = VisionLanguageModel(shape.network(6)).eval()
    picture_tokens = [6] * shape.tokens_per_image
    documents = [[1, *picture_tokens, 9, 10, 11, 12, 13], [1, 20, *picture_tokens, 21, 22, 23]]
    answers = [2, 2]
    images = torch.randn(2, 3, 32, 32)

    def read(rows: list[list[int]], shown: torch.Tensor) -> torch.Tensor:
        token = torch.tensor([[each for row in rows for each in row]])
        number = torch.tensor([[n for n, row in enumerate(rows) for _ in row]])
        position = torch.tensor([[p for row in rows for p in range(len(row))]])
        lengths = [
            len(row) - answers[documents.index(row) if row in documents else 0] for row in rows
        ]
        is_prefix = torch.tensor(
            [[p < own for row, own in zip(rows, lengths, strict=True) for p in range(len(row))]]
        )
        with torch.no_grad():
            return model(
                VisionLanguageInput(token_BS=token, images=shown),
                document_BS=number,
                position_BS=position,
                is_prefix_BS=is_prefix,
            ).hidden_BSD[0]

    together = read(documents, images)
    split = len(documents[0])
    torch.testing.assert_close(together[:split], read(documents[:1], images[:1]))
    torch.testing.assert_close(together[split:], read(documents[1:], images[1:]))
    # The first token sees the last of its prompt, and nothing of its answer.
    alone = read(documents[:1], images[:1])
    for place, is_seen in ((-3, True), (-1, False)):
        changed = [*documents[0]]
        changed[place] = 40
        other = read([changed], images[:1])
        assert bool((other[0] != alone[0]).any()) == is_seen


def test_it_learns_with_a_bidirectional_prefix(
    config: VisionLanguageTrainConfig, tmp_path: Path
) -> None:
    both_ways = replace(config.model, bidirectional_prefix=True)
    short = replace(config, model=both_ways, num_steps=2, checkpoint_steps=())
    checkpoint = read_vision_language_checkpoint(train(short, tmp_path / "run"))
    assert build_vision_language_model(checkpoint).config.bidirectional_prefix


def test_another_run_is_not_gone_on_with(
    config: VisionLanguageTrainConfig, finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished.parents[1], tmp_path / "copy", symlinks=True)
    with pytest.raises(RunError, match=r"model\.image_size"):
        train(replace(config, model=replace(config.model, image_size=48)), run)


def test_it_is_asked_on_the_command_line(
    finished: Path, words: Path, pictures: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = str(pictures / "0.jpg")
    assert main(["sample", str(finished), "Which colour?", "--image", image]) == 0
    assert capfd.readouterr().err == ""
    assert main(["sample", str(finished), "Which colour?", "--max-new-tokens", "3"]) == 0
    assert main(["inspect", str(finished)]) == 0
    assert "tokens per image" in capfd.readouterr().out
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    for arguments, said in (
        ([str(words), "A", "--image", image], "is a language model, which sees nothing"),
        ([str(finished), "A", "--image", str(tmp_path / "no.jpg")], "JPEG"),
        ([str(finished), "A", "--image", str(tmp_path / "none.jpg")], "none.jpg"),
    ):
        assert main(["sample", *arguments]) != 0
        err = capfd.readouterr().err
        assert said in err
        assert err.count("\n") == 1
