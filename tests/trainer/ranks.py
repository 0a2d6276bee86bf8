"""What tests of several ranks share: small runs of each kind, and torchrun that takes two or more
through a plan of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.small_models import VISION
from trainer.configuration_json import config_to_json
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.policy_configuration import TrainConfig
from trainer.recipes.vision_language_action import tiny_vla
from trainer.run_configuration import RunConfig
from trainer.training_configuration import OptimizerConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

_WORKER = Path(__file__).with_name("rank_at_work.py")
# As long as a slow test may take, but for what is left to tell how it ended.
_PATIENCE_S = 840


def run(config: RunConfig, output: Path, act: str = "", step: int = 0) -> dict[str, Any]:
    """A line of a plan. act: what becomes of rank 1 in a step."""
    file = output.with_suffix(".json")
    file.write_text(config_to_json(config))
    arguments = [str(file), "--output", str(output)]
    return {"arguments": arguments, "act": act, "rank": 1, "step": step}


@dataclass(frozen=True, kw_only=True)
class Notes:
    """returncode: torchrun's. by_rank: of each rank, how each run went."""

    returncode: int
    stderr: str
    by_rank: list[list[dict[str, Any]]]


def torchrun(
    plan: Sequence[dict[str, Any]],
    folder: Path,
    *,
    num_ranks: int = 2,
    **environment: str,
) -> Notes:
    path = folder / "plan.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in plan))
    # By c10d a free port is taken; the machine's name need not be known to anyone.
    options = ["--nproc-per-node", str(num_ranks), "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    own = {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ASSAY_STEP_TIMEOUT_S": "40",
    }
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, str(_WORKER), str(path)],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    notes = [folder / f"notes_{rank}.jsonl" for rank in range(num_ranks)]
    return Notes(
        returncode=done.returncode,
        stderr=done.stderr,
        by_rank=[
            [json.loads(line) for line in each.read_text().splitlines()] if each.exists() else []
            for each in notes
        ],
    )


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> LanguageTrainConfig:
    """Documents of unequal length, so that ranks have unequally many labels to learn."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    words = ("the mug stands", "a bowl falls on the shelf", "the lid", "turns beside the robot.")
    texts = [" ".join(words[k % 4] for k in range(n, n * (n + 5) // 2)) for n in range(1, 20)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return LanguageTrainConfig(
        data=str(path),
        batch_size=8,
        micro_batch_size=2,
        num_steps=10,
        validation_documents=2,
        validation_every=5,
        sample_tokens=2,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(width=32, depth=1, num_heads=2),
            vocabulary_size=300,
            context_length=24,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
    )


@pytest.fixture(scope="module")
def policy(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Of two data sets, whose losses ranks have to add up."""
    more = shutil.copytree(tiny_config.data, tmp_path_factory.mktemp("more") / "again")
    return replace(tiny_config, num_steps=6, more_data=(f"{more}=0.5",))


@pytest.fixture(scope="module")
def instructed(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    return replace(
        tiny_vla(),
        data=tiny_config.data,
        cameras=None,
        chunk_length=8,
        batch_size=4,
        num_steps=3,
        validation_episodes=0,
        device="cpu",
        precision="float32",
        num_threads=1,
    )


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageTrainConfig:
    """Every third document shows nothing, so that ranks have unequally many pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(24):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        shown = {"image": f"{number}.png", "question": "How bright?", "answer": "grey " * number}
        lines.append(shown if number % 3 else {"text": "A page of words alone. " * number})
    lines = [line for line in lines if line.get("text") != ""]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return VisionLanguageTrainConfig(
        data=str(folder),
        batch_size=4,
        micro_batch_size=1,
        num_steps=4,
        validation_documents=2,
        validation_every=2,
        sample_tokens=2,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=VisionLanguageShape(
            language=LanguageConfig(
                transformer=TransformerConfig(width=32, depth=1, num_heads=2),
                vocabulary_size=300,
                context_length=48,
            ),
            vision=VISION,
            image_size=32,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
    )


def weights(output: Path) -> bytes:
    return (output / "checkpoints" / "final" / "model.safetensors").read_bytes()


def require_same_averages(one: Path, other: Path) -> None:
    """Of final checkpoints, whose files are of one format however they were trained."""
    mine, theirs = (
        read_language_checkpoint(each / "checkpoints" / "final").weights for each in (one, other)
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, atol=1e-5, rtol=0)
