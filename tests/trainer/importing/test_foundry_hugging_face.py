"""Policies of VLA Foundry on Hugging Face models give here what they gave there.

data/foundry_hugging_face.json holds numbers and settings alone: configurations, names and shapes of
tensors, seeds of random weights, and the outputs that VLA Foundry's own code (commit 515b045, with
the transformers 4.57.3 that it asks for) computed with those weights in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.trainer.importing.releases import drawn_tensors, pattern
from trainer.importing.foundry import import_foundry
from trainer.models.backbone import VisionLanguageInput
from trainer.models.vision_language_action import VisionLanguageAction

pytest.importorskip("transformers")

MODELS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/foundry_hugging_face.json").read_text()
)
IMAGE, PADDING = 36, 3


def write_release(name: str, folder: Path) -> tuple[Path, Path]:
    """The policy in VLA Foundry's layout, its weights drawn anew from the seed; and the folder of
    the Hugging Face model, as the hub has it but for weights."""
    model = MODELS[name]
    source, backbone = folder / "release", folder / "backbone"
    (source / "checkpoints").mkdir(parents=True)
    backbone.mkdir()
    for file, content in model["files"].items():
        (source / file).write_text(yaml.safe_dump(content))
    (backbone / "config.json").write_text(json.dumps(model["hugging_face"]))
    save(source, drawn_tensors(model, matrices=0.3, vectors=0.2))
    return source, backbone


def save(source: Path, tensors: dict[str, Tensor]) -> None:
    torch.save({"state_dict": tensors}, source / "checkpoints" / "checkpoint_1.pt")


def inputs(name: str) -> VisionLanguageInput:
    """Two samples of two pictures each, the second padded in front."""
    model = MODELS[name]
    token = torch.tensor(model["tokens"])
    extras = {}
    if model["grid"] is not None:
        extras = {
            "image_grid_thw": torch.tensor(model["grid"]),
            "mm_token_type_ids": (token == IMAGE).int(),
        }
    elif name == "paligemma":
        extras = {"token_type_ids": torch.zeros_like(token)}
    pixels = pattern(*model["pixels"], period=37)
    # A sample has as many as its words have places for, whichever row they lie in.
    images = pixels[None] if name == "smolvlm" else pixels
    return VisionLanguageInput(
        token_BS=token, valid_BS=token != PADDING, images=images, extras=extras
    )


def agree(got: Tensor, expected: Any) -> None:
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_it_sees_and_moves_the_same(name: str, tmp_path: Path) -> None:
    source, backbone = write_release(name, tmp_path)
    network = import_foundry(str(source), backbone=backbone).network
    assert isinstance(network, VisionLanguageAction)
    expected, space = MODELS[name]["outputs"], network.config.space
    state = None
    if space.proprioception_size:
        size = space.proprioception_size
        state = pattern(2, space.proprioception_steps, size, step=5, period=17)
    with torch.no_grad():
        features = network.observe(inputs(name))
        agree(features.observation_B1F, expected["observation"])
        conditioning: Any = network.expert.read(features, state)
        noisy = pattern(2, space.chunk_length, space.action_size, step=7, period=23)
        velocity = network.expert(noisy, torch.tensor([3, 17]) / 20, conditioning)
        agree(velocity, expected["velocity"])
        # The original's own steps: from level 19 of 20 down to 1, noise not clamped at first.
        x = torch.tensor(expected["noise"])
        for level in range(19, 0, -1):
            slope = network.expert(x, torch.full((2,), level / 20), conditioning)
            x = (x - slope / 20).clamp(-1.5, 1.5)
        agree(x, expected["chunk"])
