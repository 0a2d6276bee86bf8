"""How long the steps of a vision-language model wait for their pictures, which lie on disk.

    python benchmarks/trainer_input.py

The same run's batches are made between its steps, and beside them as `trainer train` does, in
turns. Prints JSON.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from trainer.available_cores import available_cores
from trainer.recipes.catalog import find_recipe
from trainer.run_directory import RunDirectory
from trainer.stages.catalog import open_stage
from trainer.stages.stage import Stage
from trainer.training_loop import resolve
from trainer.vision_language_configuration import VisionLanguageTrainConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time steps and what they wait for.

    Attributes:
        recipe: Of a vision-language model; whose network, batch and picture size.
        num_threads: CPU threads of a step.
        num_steps: Optimizer steps of a turn, the first of which is not counted.
        num_turns: Of each way.
        num_pictures: JPEG files.
        width: Pixels of a file.
        height: Pixels of a file.
    """

    recipe: str = "tiny_vlm"
    num_threads: int = 1
    num_steps: int = 4
    num_turns: int = 2
    num_pictures: int = 128
    width: int = 640
    height: int = 480


def write_pictures(folder: Path, arguments: BenchmarkArguments) -> None:
    """Clouds of colour, which compress as photographs do, each with a question."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(arguments.num_pictures):
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        file = io.BytesIO()
        size = (arguments.width, arguments.height)
        coarse.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
        answer = f"It is cloud number {number}."
        lines.append({"image": f"{number}.jpg", "question": "Which is it?", "answer": answer})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def turn(
    stage: Stage[Any, Any], batches: AbstractContextManager[Iterator[Any]], count: int
) -> tuple[list[float], list[float], list[int]]:
    """Of each step: seconds, those of them that it waited for its batch, and the pictures in it."""
    steps, waits, pictures = [], [], []
    with batches as made:
        for step in range(count):
            begun = time.perf_counter()
            batch = next(made)
            got = time.perf_counter()
            stage.step(batch, step)
            waits.append(got - begun)
            steps.append(time.perf_counter() - begun)
            pictures.append(len(batch.images))
    # The first one's batch is nowhere made beside a step.
    return steps[1:], waits[1:], pictures


def main() -> None:
    arguments = tyro.cli(BenchmarkArguments, description=__doc__)
    recipe = find_recipe(arguments.recipe)
    if not isinstance(recipe, VisionLanguageTrainConfig):
        raise SystemExit(f"--recipe: expected a vision-language model's, got {arguments.recipe}")
    torch.set_num_threads(1)
    steps: dict[str, list[float]] = {"between_steps": [], "beside_steps": []}
    waits: dict[str, list[float]] = {"between_steps": [], "beside_steps": []}
    pictures: list[int] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        (folder / "run").mkdir()
        write_pictures(folder / "data", arguments)
        config = resolve(
            replace(
                recipe,
                data=str(folder / "data"),
                validation_documents=8,
                num_threads=arguments.num_threads,
            )
        )
        with open_stage(config, RunDirectory(root=folder / "run"))() as stage:
            count = arguments.num_steps
            for _ in range(arguments.num_turns):
                for way, batches in (
                    ("between_steps", nullcontext(stage.batches(0, count))),
                    ("beside_steps", stage.batches_ahead(0, count)),
                ):
                    taken, waited, pictures = turn(stage, batches, count)
                    steps[way] += taken
                    waits[way] += waited
    result = {
        "recipe": arguments.recipe,
        "pictures_a_step": round(statistics.mean(pictures), 1),
        "picture": f"{arguments.width}x{arguments.height} JPEG",
        "image_size": config.model.image_size,
        "device": config.device,
        "precision": config.precision,
        "num_threads": arguments.num_threads,
        "cores": available_cores(),
        "torch": torch.__version__,
        **{
            way: {
                "step_s": round(statistics.median(steps[way]), 4),
                "waited_s": round(statistics.median(waits[way]), 4),
                "share_waited": round(sum(waits[way]) / sum(steps[way]), 4),
            }
            for way in steps
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
