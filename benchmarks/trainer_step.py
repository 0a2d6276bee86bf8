"""Time of one optimizer step of a recipe, and of one plan, on random data of the right shapes.

    python benchmarks/trainer_step.py --num-threads 2

Prints JSON. `cpu_s` is the portable figure where the machine is shared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tyro

from policy_interface.contract import Contract, ImageSize
from trainer.checkpoint import build_network
from trainer.data.batches import Batch, TrainingData
from trainer.data.episode import Field, FieldRole
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import RobotSource
from trainer.models.policy_network import PolicyNetwork, images_to_input
from trainer.policy_configuration import TrainConfig
from trainer.policy_learner import PolicyLearner
from trainer.recipes.catalog import find_policy_recipe
from trainer.training_configuration import Precision
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


def random_recordings(config: TrainConfig, image_side: int) -> RobotRecordings:
    """Eight episodes of 50 steps, of no meaning."""
    rng = np.random.default_rng(0)
    num_steps = 50
    cameras = config.cameras or ("camera",)
    contract = Contract(
        cameras=dict.fromkeys(cameras, ImageSize(height=image_side, width=image_side))
    )

    def episode(index: int) -> ArrayEpisode:
        fields: dict[str, tuple[Field, npt.NDArray[Any]]] = {}
        roles: tuple[tuple[FieldRole, str], ...] = (("observed", "actual"), ("action", "action"))
        for role, name in roles:
            for arm in contract.arms:
                poses = np.tile(np.eye(4), (num_steps, 1, 1))
                poses[:, :3, 3] = rng.uniform(-0.3, 0.3, (num_steps, 3))
                pose = Field(shape=(4, 4), kind="pose", role=role, part=arm)
                fields[f"{name}/pose/{arm}"] = (pose, poses)
            for gripper in contract.grippers:
                width = Field(shape=(), kind="gripper", role=role, part=gripper, unit="m")
                fields[f"{name}/width_m/{gripper}"] = (width, rng.uniform(0, 0.08, num_steps))
        shape = (num_steps, image_side, image_side, 3)
        return ArrayEpisode.make(
            f"episode_{index:06d}",
            rate_hz=10.0,
            fields=fields,
            images={name: rng.integers(0, 256, shape, dtype=np.uint8) for name in cameras},
            provenance={"contract": contract.to_json()},
        )

    return read_recordings(MemoryDataset([episode(index) for index in range(8)]), cameras)


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
    config = resolve(replace(find_policy_recipe(arguments.recipe), precision=arguments.precision))
    device = torch.device(config.device)
    recordings = random_recordings(config, arguments.image_side)
    every = RobotSource(
        name="all", weight=1.0, training=range(recordings.num_episodes), held_out=()
    )
    data = TrainingData(recordings, [every], config, device)
    network = build_network(config, recordings.contract, data.transform)
    assert isinstance(network, PolicyNetwork)
    learner = PolicyLearner(
        network,
        config,
        device,
        num_threads=arguments.num_threads,
    )

    def make_batch(step: int) -> Batch:
        return next(data.batches(step, step + 1))

    def take_step(step: int) -> None:
        learner.step(make_batch(step), step, data.generator(step))

    image = images_to_input(
        torch.zeros((1, arguments.image_side, arguments.image_side, 3), dtype=torch.uint8)
    ).to(device)
    images = dict.fromkeys(recordings.contract.cameras, image)
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
