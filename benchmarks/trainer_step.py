"""Time of one optimizer step of a recipe, and of one plan, on random data of the right shapes.

    python benchmarks/trainer_step.py --num-threads 2

Prints JSON. `cpu_s` is the portable figure where the machine is shared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro

from policy_interface.contract import Contract, ImageSize
from trainer.checkpoint import build_network
from trainer.configuration import Precision, TrainConfig
from trainer.data.batches import TrainingData
from trainer.data.demonstrations import DemonstrationSet
from trainer.learner import Learner
from trainer.models.policy_network import images_to_input
from trainer.recipes import find_recipe
from trainer.training_loop import resolve


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time an optimizer step and a plan.

    Attributes:
        recipe: Whose network and batch.
        num_threads: CPU threads.
        precision: Of activations.
        num_steps: Optimizer steps that are timed, after three that are not.
        image_side: Pixels.
    """

    recipe: str = "pick_and_place_box"
    num_threads: int = 1
    precision: Precision = "auto"
    num_steps: int = 20
    image_side: int = 96


def random_demonstrations(config: TrainConfig, image_side: int) -> DemonstrationSet:
    """Eight episodes of 50 steps, of no meaning."""
    rng = np.random.default_rng(0)
    num_frames = 400
    size = ImageSize(height=image_side, width=image_side)
    contract = Contract(cameras=dict.fromkeys(config.cameras or ("camera",), size))
    poses = np.tile(np.eye(4), (num_frames, len(contract.arms), 1, 1))
    poses[..., :3, 3] = rng.uniform(-0.3, 0.3, (*poses.shape[:-2], 3))
    widths_m = rng.uniform(0, 0.08, (num_frames, len(contract.grippers)))
    return DemonstrationSet(
        contract=contract,
        images={
            name: rng.integers(0, 256, (num_frames, image_side, image_side, 3), dtype=np.uint8)
            for name in contract.cameras
        },
        actual_poses=poses,
        actual_widths_m=widths_m,
        action_poses=poses,
        action_widths_m=widths_m,
        episode_starts=np.arange(0, num_frames + 1, 50),
        tasks=("none",),
        seeds=tuple(range(8)),
        digest="",
        num_failed=0,
    )


def timed(act: Callable[[int], object], count: int, warm_up: int) -> dict[str, float]:
    """Seconds a call, by the wall's clock and of CPU."""
    for index in range(warm_up):
        act(index)
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(warm_up, warm_up + count):
        act(index)
    return {
        "wall_s": round((time.perf_counter() - wall) / count, 5),
        "cpu_s": round((time.process_time() - cpu) / count, 5),
    }


def main() -> None:
    arguments = tyro.cli(BenchmarkArguments, description=__doc__)
    torch.set_num_threads(1)
    config = resolve(replace(find_recipe(arguments.recipe), precision=arguments.precision))
    device = torch.device(config.device)
    demonstrations = random_demonstrations(config, arguments.image_side)
    data = TrainingData.prepare(demonstrations, range(demonstrations.num_episodes), config, device)
    learner = Learner(
        build_network(config, demonstrations.contract, data.transform),
        config,
        device,
        num_threads=arguments.num_threads,
    )

    def take_step(step: int) -> None:
        generator = data.generator(step)
        learner.step(data.batch(step, generator), step, generator)

    def make_batch(step: int) -> None:
        data.batch(step, data.generator(step))

    image = images_to_input(
        torch.zeros((1, arguments.image_side, arguments.image_side, 3), dtype=torch.uint8)
    ).to(device)
    images = dict.fromkeys(demonstrations.images, image)
    state = torch.zeros(1, data.transform.num_numbers, device=device)
    noise = torch.zeros(1, config.chunk_length, data.transform.num_numbers, device=device)

    def plan(_: int) -> None:
        with torch.inference_mode():
            learner.network(images, state, noise, config.serving.num_flow_steps)

    result = {
        "recipe": arguments.recipe,
        "device": config.device,
        "precision": config.precision,
        "num_threads": learner.num_threads,
        "num_parameters": sum(p.numel() for p in learner.network.parameters()),
        "torch": torch.__version__,
        "optimizer_step": timed(take_step, arguments.num_steps, warm_up=3),
        "of_which_batch": timed(make_batch, arguments.num_steps, warm_up=3),
        "plan_of_one_request": timed(plan, arguments.num_steps, warm_up=3),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
