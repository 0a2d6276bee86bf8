"""Vision towers of Hugging Face, made from small configurations and saved to disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer import hugging_face_folders as folders
from tests.trainer.small_models import LANGUAGE
from trainer.models.adaptation import AdaptationConfig
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face_vision import HuggingFaceVisionConfig, HuggingFaceVisionTower
from trainer.models.model_folder import read_model, write_model
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.requirements import ConfigurationError
from trainer.sharding import shard
from trainer.training_configuration import ShardingConfig

pytest.importorskip("transformers")

# What stands before the patches in each family's last hidden state.
NUM_OTHERS = {
    "clip": 1,
    "clip_vision_model": 1,
    "siglip": 0,
    "siglip_vision_model": 0,
    "dinov2": 1,
    "dinov2_with_registers": 1 + 3,
}
every_tower = pytest.mark.parametrize("kind", list(folders.TOWERS))


def images(size: int, count: int = 2) -> Tensor:
    """In [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(count, 3, size, size, generator=generator) - 1


def config_of(path: Path, **changed: Any) -> HuggingFaceVisionConfig:
    means: dict[str, Any] = {"image_mean": folders.MEAN, "image_std": folders.STD}
    return HuggingFaceVisionConfig(path=str(path), **means, **changed)


@every_tower
@pytest.mark.parametrize("size", [16, 44])
def test_patches_are_those_of_transformers(kind: str, size: int, tmp_path: Path) -> None:
    """44 pixels: five patches a side, and four pixels that nobody sees. DINOv2 was trained with 16
    then, and sees 44 all the same."""
    from transformers import AutoModel

    is_of_one_size = not kind.startswith("dinov2")
    folders.write_tower_folder(kind, tmp_path, **({"image_size": size} if is_of_one_size else {}))
    tower = HuggingFaceVisionTower(config_of(tmp_path)).train()
    image_NCHW = images(size)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (folders.MEAN, folders.STD))
    pixels = ((image_NCHW + 1) / 2 - mean) / std
    whole: Any = AutoModel.from_pretrained(tmp_path).eval()
    theirs = getattr(whole, "vision_model", whole)
    with torch.no_grad():
        hidden_NPD = theirs(pixel_values=pixels).last_hidden_state[:, NUM_OTHERS[kind] :]
        side = size // 8
        expected = hidden_NPD.unflatten(1, (side, side))
        # In training, too: nothing is dropped by chance, whatever the folder says.
        torch.testing.assert_close(tower(image_NCHW), expected, atol=1e-5, rtol=1e-5)
        tower.compile_blocks(backend="eager")
        torch.testing.assert_close(tower(image_NCHW), expected, atol=1e-5, rtol=1e-5)
    assert tower.width == 16


@every_tower
def test_every_weight_of_it_learns(kind: str, tmp_path: Path) -> None:
    folders.write_tower_folder(kind, tmp_path)
    tower = HuggingFaceVisionTower(config_of(tmp_path)).train()
    tower.checkpoint_activations()
    tower(images(16)).square().sum().backward()
    without = [name for name, each in tower.named_parameters() if each.grad is None]
    assert not without


@every_tower
def test_stored_it_needs_its_folder_no_more(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folders.write_tower_folder(kind, folder)
    torch.manual_seed(0)
    model = VisionLanguageModel(
        VisionLanguageConfig(
            language=LANGUAGE, vision=config_of(folder, shuffle_factor=2), image_token=6
        )
    ).eval()
    write_model(model, tmp_path / "model")
    shutil.rmtree(folder)
    inputs = VisionLanguageInput(token_BS=torch.tensor([[6, 9, 10]]), images=images(16, 1))
    loaded = read_model(tmp_path / "model")
    with torch.no_grad():
        expected = model(inputs).hidden_BSD
        assert torch.equal(loaded(inputs).hidden_BSD, expected)
        other = replace(inputs, images=-images(16, 1))
        assert not torch.allclose(loaded(other).hidden_BSD, expected), "it sees"


def test_as_much_of_it_trains_as_was_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folders.write_tower_folder("siglip", tmp_path)

    def trained(kind: Any) -> set[str]:
        adaptation = AdaptationConfig(kind=kind, rank=2)
        tower = HuggingFaceVisionTower(config_of(tmp_path, adaptation=adaptation))
        return {name for name, each in tower.named_parameters() if each.requires_grad}

    assert not trained("frozen")
    assert trained("lora")
    assert all(".lora_" in name for name in trained("lora"))
    assert not any(".head." in name for name in trained("full") | trained("lora"))


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    folders.write_language_folder(tmp_path / "llama")
    with pytest.raises(
        ConfigurationError, match="^model_type: expected one of clip_vision.*'llama"
    ):
        HuggingFaceVisionTower(config_of(tmp_path / "llama"))
    folders.write_tower_folder("clip", tmp_path / "clip")
    tower = HuggingFaceVisionTower(config_of(tmp_path / "clip"))
    with pytest.raises(ConfigurationError, match="^model.image_size: expected 16, as.*got 24"):
        tower(images(24))
    tower = HuggingFaceVisionTower(config_of(tmp_path / "clip", shuffle_factor=4))
    with pytest.raises(ConfigurationError, match="divisor of the 2 x 2 patches of 8 pixels"):
        tower(images(16))
    with pytest.raises(ConfigurationError, match="^image_std: expected no 0"):
        replace(tower.config, image_std=(1.0, 0.0, 1.0))


def test_every_block_of_it_is_a_unit_of_a_cut_network(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule

    folders.write_tower_folder("dinov2", tmp_path)
    vision = config_of(tmp_path, shuffle_factor=2)
    model = VisionLanguageModel(
        VisionLanguageConfig(language=LANGUAGE, vision=vision, image_token=6)
    )
    meeting = f"file://{tmp_path / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", torch.arange(1))
        shard(model, ShardingConfig(kind="full"), "float32", mesh)
        units = [name for name, each in model.named_modules() if isinstance(each, FSDPModule)]
        assert sum(name.startswith("vision.") for name in units) == 2, units
        # Words alone compute the tower, too, as a rank beside it may have pictures.
        words = VisionLanguageInput(token_BS=torch.tensor([[9, 10]]))
        model(words).hidden_BSD.sum().backward()
        assert all(each.grad is not None for each in model.vision.parameters())
    finally:
        distributed.destroy_process_group()
