"""Two ranks that hold a part each of a policy on a model of Hugging Face's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh

from tests.trainer import hugging_face_folders as folders
from tests.trainer import ranks
from tests.trainer.small_models import EXPERT, TRANSFORMER
from tests.trainer.steps import losses_alone
from trainer.hugging_face_configuration import HuggingFaceVisionLanguage
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.adaptation import AdaptationConfig
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.sharding import shard
from trainer.training_configuration import OptimizerConfig, ShardingConfig
from trainer.vision_language_action_configuration import (
    ExpertShape,
    HuggingFaceActionShape,
    VisionLanguageActionTrainConfig,
)

pytest.importorskip("transformers")
pytest.importorskip("peft")

_FULL = ShardingConfig(kind="full")
_OBSERVING = ExpertShape(transformer=TRANSFORMER, reads="observation_token")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """Of this process alone."""
    meeting = f"file://{tmp_path / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield DeviceMesh("cpu", torch.arange(1))
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    "kind",
    [
        "qwen3_vl",
        pytest.param("smolvlm", marks=pytest.mark.slow),
        pytest.param("paligemma", marks=pytest.mark.slow),
    ],
)
def test_every_block_of_it_is_a_unit(kind: str, mesh: DeviceMesh) -> None:
    from torch.distributed.fsdp import FSDPModule

    depth = "depth" if kind == "qwen3_vl" else "num_hidden_layers"
    vision = {**folders.SEEING[kind]["vision_config"], depth: 3}
    backbone = HuggingFaceConfig(
        model_type=kind, overrides={**folders.SEEING[kind], "vision_config": vision}
    )
    space = ActionSpaceConfig(action_size=4, chunk_length=3)
    network = VisionLanguageAction(
        VisionLanguageActionConfig(backbone=backbone, expert=EXPERT.expert, space=space)
    )
    shard(network, _FULL, "float32", mesh)
    units = [name for name, module in network.named_modules() if isinstance(module, FSDPModule)]
    seeing = [name for name in units if "vis" in name]
    speaking = [name for name in units if name.startswith("backbone.") and name not in seeing]
    acting = [name for name in units if name.startswith("expert.")]
    assert (len(seeing), len(speaking), len(acting)) == (3, 2, EXPERT.transformer.depth), units
    assert units[0] == ""


@pytest.mark.slow
def test_two_ranks_learn_in_parts_what_one_process_learns_and_one_goes_on(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    def acting(kind: str, expert: ExpertShape, adaptation: Any) -> VisionLanguageActionTrainConfig:
        folder = tmp_path / f"{kind}_folder"
        folders.write_vision_language_folder(kind, folder, vision_depth=2)
        return VisionLanguageActionTrainConfig(
            data=str(demonstration_folder),
            chunk_length=8,
            batch_size=4,
            num_steps=4,
            validation_episodes=0,
            save_state_every=10,
            device="cpu",
            precision="float32",
            num_threads=1,
            optimizer=OptimizerConfig(warmup_steps=0, learning_rate=1e-2),
            model=HuggingFaceActionShape(
                backbone=HuggingFaceVisionLanguage(path=str(folder), adaptation=adaptation),
                expert=expert,
                image_size=16,
                instruction_tokens=24,
                repeats=2,
            ),
        )

    full, lora = AdaptationConfig(kind="full"), AdaptationConfig(kind="lora", rank=2)
    cases = {
        "qwen3_vl": acting("qwen3_vl", EXPERT, full),
        "smolvlm": acting("smolvlm", _OBSERVING, full),
        "paligemma": acting("paligemma", EXPERT, lora),
    }
    plan = [
        ranks.run(
            replace(config, sharding=_FULL, checkpoint_activations=name == "qwen3_vl"),
            tmp_path / name,
        )
        for name, config in cases.items()
    ]
    cut = replace(cases["qwen3_vl"], sharding=_FULL)
    plan.append(ranks.run(cut, tmp_path / "stopped", "SIGTERM", step=2))
    notes = ranks.torchrun(plan, tmp_path)
    assert [len(each) for each in notes.by_rank] == [len(plan)] * 2, notes.stderr
    whole: list[float] = []
    for number, (name, config) in enumerate(cases.items()):
        alone = losses_alone(config, tmp_path / f"{name}_alone")
        whole = whole or alone
        for each in notes.by_rank:
            assert each[number]["exit_code"] == 0, notes.stderr
            assert each[number]["losses"] == pytest.approx(alone, abs=1e-5, rel=1e-5), name
    assert [each[-1]["exit_code"] for each in notes.by_rank] == [130, 130], notes.stderr
    # What two have saved in parts, one goes on with; the model's folder is needed no more.
    (tmp_path / "qwen3_vl_folder" / "model.safetensors").unlink()
    rest = losses_alone(cut, tmp_path / "stopped")
    before = notes.by_rank[0][-1]["losses"]
    assert before + rest == pytest.approx(whole, abs=1e-5, rel=1e-5)
