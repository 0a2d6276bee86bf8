"""Vision-language models: trained on pictures, resumed, asked about them."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.pictures import COLOURS, SIDES, picture
from tests.trainer.small_models import LANGUAGE, VISION
from tests.trainer.steps import train_until
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.configuration_json import config_from_json
from trainer.data.text.vocabulary import Vocabulary
from trainer.language_checkpoint import read_language_checkpoint
from trainer.learner import Learner
from trainer.models.backbone import VisionLanguageInput
from trainer.models.language.generation import GenerationConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.policy_loading import load_policy
from trainer.run_directory import RunError
from trainer.stages.text_batches import TextBatches
from trainer.training_loop import train
from trainer.vision_language_answers import answer
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig


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
    train_until(config, output, monkeypatch, 7)
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
        colour = list(COLOURS)[number % 3]
        said = answer(
            model,
            vocabulary,
            "Which colour?",
            [picture(colour, SIDES[number % 2], 1000 + number)],
            image_size=32,
            drawn=GenerationConfig(max_new_tokens=4, temperature=0.0),
        )
        right += said == colour
    # One in three by chance: 20 of 30 has a probability of 2 in 10,000.
    assert right >= 25


def test_the_server_says_what_such_a_checkpoint_is(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from policy_server.command_line import main as serve

    assert serve(["serve", str(finished), "--address", "127.0.0.1:0"]) == 2
    said = capfd.readouterr().err
    assert "a vision-language model, which does not act" in said
    assert said.count("\n") == 1


def test_a_bidirectional_prefix_is_each_documents_own(pictures: Path) -> None:
    """In a sequence of several documents each is read as it would be alone, and nothing peeks."""
    torch.manual_seed(0)
    shape = VisionLanguageShape(
        language=LANGUAGE, vision=VISION, image_size=32, bidirectional_prefix=True
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


def test_pictures_of_the_next_steps_are_prepared_while_a_step_is_taken(
    config: VisionLanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [threading.Event() for _ in range(config.total_steps)]
    make, take_step = TextBatches.share, Learner.step

    def make_and_tell(self: TextBatches, step: int, world: Any) -> Any:
        share = make(self, step, world)
        prepared[step].set()
        return share

    def step_once_the_next_is_there(
        self: Learner[Any, Any], batch: Any, step: int, generator: Any
    ) -> Any:
        assert prepared[min(step + 2, config.total_steps - 1)].wait(60)
        return take_step(self, batch, step, generator)

    monkeypatch.setattr(TextBatches, "share", make_and_tell)
    monkeypatch.setattr(Learner, "step", step_once_the_next_is_there)
    train(config, tmp_path / "run")
    assert not [each for each in threading.enumerate() if each.name == "prefetching"]


def test_answers_for_which_there_is_no_memory(
    finished: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["ask", str(finished), "--data", str(pictures), "--max-new-tokens", str(2**44)]
    assert main(asked) == 1
    assert capsys.readouterr().err == (
        "trainer: cpu: out of memory (16 TiB asked for); less is needed with fewer "
        "--most-documents, fewer --max-new-tokens\n"
    )
