"""A vision-language model of Hugging Face's in the second stage: it learns to answer, and a policy
begins with what it learnt."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.steps import call_after_step
from trainer.checkpoint import read_checkpoint
from trainer.command_line import main
from trainer.data.text.chat_format import FormattedTemplate
from trainer.data.text.documents import Turn
from trainer.data.text.packing import IGNORED
from trainer.data.text.tokenizer import TextTokenizer
from trainer.hugging_face_answers_learner import HuggingFaceAnswersLearner
from trainer.hugging_face_configuration import HuggingFaceVisionLanguage
from trainer.hugging_face_folder import read_vision_language_folder
from trainer.models.adaptation import AdaptationConfig, AdaptationKind
from trainer.models.language.configuration import TransformerConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory
from trainer.stages.vision_language import open_vision_language_stage
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    ExpertShape,
    HuggingFaceActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_checkpoint import read_vision_language_checkpoint
from trainer.vision_language_configuration import (
    HuggingFaceAnswererShape,
    VisionLanguageTrainConfig,
)

pytest.importorskip("transformers")
pytest.importorskip("peft")

_spec = importlib.util.spec_from_file_location(
    "hugging_face_folders_of_answers", Path(__file__).with_name("hugging_face_folders.py")
)
assert _spec is not None
assert _spec.loader is not None
folders = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = folders
_spec.loader.exec_module(folders)

_RUN: dict[str, Any] = {
    "device": "cpu",
    "precision": "float32",
    "num_threads": 2,
    "batch_size": 4,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues about one picture, about two, and words alone."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    lines: list[dict[str, Any]] = []
    for number in range(9):
        colour = ("red", "green", "blue")[number % 3]
        Image.new("RGB", (20, 20), colour).save(folder / f"{number}.png")
        asked = {"image": f"{number}.png", "question": "Which colour?", "answer": colour}
        said = [("user", "<image>\nWhich?"), ("assistant", colour), ("user", "Sure?")]
        turns = [{"role": role, "content": text} for role, text in (*said, ("assistant", "red"))]
        lines += [asked, {"image": f"{number}.png", "messages": turns}]
        lines.append({"text": f"The square is {colour}."})
    (folder / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def answering(
    folder: Path, data: Path, kind: AdaptationKind = "full", **changed: Any
) -> VisionLanguageTrainConfig:
    shape = HuggingFaceAnswererShape(
        backbone=HuggingFaceVisionLanguage(
            path=str(folder), adaptation=AdaptationConfig(kind=kind, rank=2)
        ),
        image_size=16,
        # A picture of SmolVLM stands between marks that these words spell letter by letter.
        context_length=160,
    )
    settings: dict[str, Any] = {
        "optimizer": OptimizerConfig(warmup_steps=0, learning_rate=1e-2),
        **_RUN,
        "num_steps": 2,
        "validation_documents": 5,
        "sample_tokens": 3,
        "num_answers": 1,
        **changed,
    }
    return VisionLanguageTrainConfig(data=str(data), model=shape, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("qwen3_vl", "lora"),
        ("smolvlm", "full"),
        ("paligemma", "full"),
    ],
)
def test_it_learns_to_answer_and_a_policy_begins_with_it(
    family: str,
    kind: AdaptationKind,
    data: Path,
    demonstration_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folder"
    folders.write_vision_language_folder(family, folder)
    config = answering(folder, data, kind)
    path = train(config, tmp_path / "vlm")
    # From here on nothing but the checkpoint is there.
    shutil.rmtree(folder)
    assert train(config, tmp_path / "vlm") == path
    capsys.readouterr()
    asked = ["sample", str(path), "Which colour?", "--image", str(data / "0.png")]
    said = []
    for seed in ("3", "3", "4"):
        assert main([*asked, "--max-new-tokens", "12", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert main(["ask", str(path), "--data", str(data), "--most-documents", "3"]) == 0
    assert main(["inspect", str(path)]) == 0
    assert "tokens per image" in capsys.readouterr().out

    shape = HuggingFaceActionShape(
        backbone=HuggingFaceVisionLanguage(),
        expert=ExpertShape(
            transformer=TransformerConfig(
                width=32, depth=2, num_heads=2, feed_forward_width=64, causal=False
            )
        ),
        image_size=16,
        instruction_tokens=24,
        repeats=2,
    )
    acting = VisionLanguageActionTrainConfig(
        data=str(demonstration_folder),
        model=shape,
        init=str(path),
        chunk_length=8,
        num_steps=1,
        validation_episodes=0,
        optimizer=OptimizerConfig(warmup_steps=0, learning_rate=1e-12),
        ema=EmaConfig(max_decay=0.0),
        **_RUN,
    )
    policy = read_checkpoint(train(acting, tmp_path / "vla")).weights
    learnt = read_vision_language_checkpoint(path).weights
    for name, tensor in learnt.items():
        if "lora_" in name:
            continue
        added = torch.zeros(())
        if ".base_layer." in name:
            owner = name.removesuffix(".base_layer.weight").removesuffix(".base_layer.bias")
            if name.endswith("weight"):
                down, up = (learnt[f"{owner}.lora_{side}.default.weight"] for side in ("A", "B"))
                added = 32.0 / 2 * up @ down
        began = policy[f"model.backbone.{name.replace('.base_layer.', '.')}"]
        torch.testing.assert_close(began, tensor + added, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "family",
    [
        "qwen3_vl",
        pytest.param("smolvlm", marks=pytest.mark.slow),
        pytest.param("paligemma", marks=pytest.mark.slow),
    ],
)
def test_the_loss_is_that_of_each_document_alone(family: str, data: Path, tmp_path: Path) -> None:
    """By transformers' own logits of one document after the other, without padding."""
    folders.write_vision_language_folder(family, tmp_path / "folder")
    # So many sequences that some have pictures and some have none.
    config = answering(tmp_path / "folder", data, batch_size=12)
    assert isinstance(config.model, HuggingFaceAnswererShape)
    backbone = read_vision_language_folder(config.model.backbone, answers=True)
    config = replace(config, model=replace(config.model, backbone=backbone))
    run = RunDirectory(root=tmp_path / "run")
    with run.claimed(config), open_vision_language_stage(config, run)() as stage:
        learner = stage.learner
        assert isinstance(learner, HuggingFaceAnswersLearner)
        batch = next(iter(stage.batches(0, 1)))
        found = learner.cross_entropy(batch)
        sums: list[torch.Tensor] = []
        pictures = backbone.pictures(16)
        network = learner.network
        for row, (start, stop) in enumerate(pairwise(batch.image_starts)):
            held = batch.valid_BS[row]
            token_1S, label_S = batch.token_BS[row][held][None], batch.label_BS[row][held]
            inputs = pictures.inputs(
                batch.images[start:stop] if stop > start else None,
                token_1S,
                torch.ones_like(token_1S, dtype=torch.bool),
                image_token=network._image_token,
                is_prefix_BS=batch.is_prefix_BS[row][held][None],
            )
            pixels = {} if inputs.images is None else {"pixel_values": inputs.images}
            with torch.no_grad():
                logits = network.model(input_ids=token_1S, **pixels, **inputs.extras).logits[0]
            # The observation token is no word.
            told = logits[:, : network.observation_token_id].log_softmax(-1)
            counted = label_S != IGNORED
            sums.append(-told[counted, label_S[counted]])
        assert {len(each) > 0 for each in sums} == {True}
        assert len({stop - start for start, stop in pairwise(batch.image_starts)}) > 1
        assert found == pytest.approx(float(torch.cat(sums).mean()), rel=1e-5)


@pytest.mark.slow
def test_stopped_and_gone_on_with_it_has_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.write_vision_language_folder("smolvlm", tmp_path / "folder")
    config = answering(tmp_path / "folder", data, num_steps=3, save_state_every=1)
    whole = read_vision_language_checkpoint(train(config, tmp_path / "whole")).weights

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patched:
        call_after_step(patched, 2, die)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "folder")
    resumed = read_vision_language_checkpoint(train(config, tmp_path / "run")).weights
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


# In the manner of SmolVLM's own: what is said before words and before pictures differs by a space.
_OTHER = (
    "<|im_start|>{% for turn in messages %}{{ turn.role | capitalize }}"
    "{% if turn.content[0].type == 'image' %}:{% else %}: {% endif %}"
    "{% for part in turn.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


@pytest.mark.parametrize("other", [False, True])
def test_dialogues_are_written_as_its_template_does(other: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folders.write_vision_language_folder("qwen3_vl", tmp_path)
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)
    if other:
        theirs.chat_template = _OTHER
        theirs.save_pretrained(tmp_path)
    backbone = HuggingFaceVisionLanguage(path=str(tmp_path))
    chat = read_vision_language_folder(backbone, answers=True).chat
    template = FormattedTemplate(TextTokenizer(tmp_path), chat, 1)
    turns = [
        Turn(role="user", text="Which colour?", num_images=2),
        Turn(role="assistant", text="red"),
        Turn(role="user", text="green?"),
        Turn(role="assistant", text="blue"),
    ]
    for part in (turns, turns[2:]):
        messages = [
            {
                "role": turn.role,
                "content": [
                    *[{"type": "image"}] * turn.num_images,
                    {"type": "text", "text": turn.text},
                ],
            }
            for turn in part
        ]
        tokens, said = template.encode_turns(part, "")
        expected = theirs.apply_chat_template(messages, tokenize=False)
        assert theirs.decode(tokens) == expected
        learnt = [token for token, is_said in zip(tokens, said, strict=True) if is_said]
        lead = " " if other else ""
        words = [turn.text for turn in part if turn.role == "assistant"]
        assert theirs.decode(learnt) == "".join(f"{lead}{word}<|im_end|>" for word in words)


def test_what_cannot_be_begun_with_is_told(data: Path, tmp_path: Path) -> None:
    shape = HuggingFaceAnswererShape(backbone=HuggingFaceVisionLanguage())
    config = VisionLanguageTrainConfig(data=str(data), num_steps=1, model=shape)
    with pytest.raises(ConfigurationError, match="model.backbone.path: expected the folder"):
        train(replace(config, **_RUN), tmp_path / "run")
    sharded = {"sharding": replace(config.sharding, kind="full")}
    with pytest.raises(ConfigurationError, match="sharding.kind: expected none"):
        replace(config, **sharded)
