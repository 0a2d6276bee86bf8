"""Parameter counts against the published ones; nothing is allocated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.models.hugging_face import HuggingFaceBackbone
from trainer.models.language.language_model import LanguageModel
from trainer.models.presets import (
    LANGUAGE_PRESETS,
    VISION_LANGUAGE_ACTION_PRESETS,
    VISION_LANGUAGE_PRESETS,
    VISION_PRESETS,
)
from trainer.models.vision.vision_transformer import VisionTransformer
from trainer.models.vision_language import VisionLanguageModel
from trainer.models.vision_language_action import VisionLanguageAction


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "without_embeddings", "total"),
    # VLA Foundry's transformer presets at its default vocabulary of 50,432, in millions.
    [("11m", 0.9, 10.6), ("100m", 40.9, 92.6), ("400m", 308.4, 411.7), ("1b", 1233.3, 1439.9)],
)
def test_language_models(name: str, without_embeddings: float, total: float) -> None:
    with torch.device("meta"):
        model = LanguageModel(LANGUAGE_PRESETS[name])
    millions = (count(model) - count(model.embedding, model.head)) / 1e6
    assert millions == pytest.approx(without_embeddings, abs=0.05)
    assert count(model) / 1e6 == pytest.approx(total, abs=0.05)


@pytest.mark.parametrize(("name", "millions"), [("base", 86), ("so400m", 412)])
def test_vision_transformers(name: str, millions: float) -> None:
    with torch.device("meta"):
        assert count(VisionTransformer(VISION_PRESETS[name])) / 1e6 == pytest.approx(
            millions, abs=0.5
        )


def test_foundrys_vision_language_action_model() -> None:
    # Table 3: embeddings 0.20, language 1.23, vision 0.09, head 0.33, 1.85 in all, in billions;
    # the head of four layers' outputs has 325.0 million.
    with torch.device("meta"):
        model = VisionLanguageAction(VISION_LANGUAGE_ACTION_PRESETS["foundry_1.7b"])
    backbone = model.backbone
    assert isinstance(backbone, VisionLanguageModel)
    language = backbone.language
    billions = {
        "embeddings": count(language.embedding, language.head),
        "language": count(language.transformer, language.norm),
        "vision": count(backbone.vision, backbone.connector),
        "head": count(model.expert),
        "total": count(model),
    }
    assert {part: round(number / 1e9, 2) for part, number in billions.items()} == {
        "embeddings": 0.20,
        "language": 1.23,
        "vision": 0.09,
        "head": 0.33,
        "total": 1.85,
    }
    assert count(model.expert) / 1e6 == pytest.approx(325.0, abs=0.05)
    assert VISION_LANGUAGE_PRESETS["foundry_1.3b"].vision.num_tokens(224, 224) == 64


def test_qwens_vision_language_action_model() -> None:
    # Table 3: language 1.41, vision 0.41, head 0.31, embeddings 0.62 counted untied.
    pytest.importorskip("transformers")
    with torch.device("meta"):
        model = VisionLanguageAction(VISION_LANGUAGE_ACTION_PRESETS["qwen3_vl_2b"])
    assert isinstance(model.backbone, HuggingFaceBackbone)
    network = model.backbone.model.model
    embedding = count(network.language_model.embed_tokens)
    billions = [
        count(network.language_model) - embedding,
        count(network.visual),
        count(model.expert),
        2 * embedding,
    ]
    assert [round(number / 1e9, 2) for number in billions] == [1.41, 0.41, 0.31, 0.62]
    assert count(model.expert) / 1e6 == pytest.approx(312.6, abs=0.05)
