"""A language model's optimizer step on two or more ranks that hold it whole, and cut. Prints JSON.

    torchrun --nproc-per-node 2 benchmarks/trainer_sharding.py --preset 11m --num-tokens 256

On one machine's CPU, through gloo, in turns. `cpu_s` is all ranks' together, the portable figure
where the machine is shared; `numbers_kept` is what a rank keeps between steps: weights, averages
and moments.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.distributed as dist
import tyro

from trainer.data.text.packing import IGNORED
from trainer.distributed import World, joined_world
from trainer.language_configuration import LanguageTrainConfig
from trainer.language_learner import LanguageLearner, TextBatch
from trainer.models.language.language_model import LanguageModel
from trainer.models.presets import LANGUAGE_PRESETS
from trainer.sharding import local
from trainer.training_configuration import EmaConfig, ShardingConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time optimizer steps.

    Attributes:
        preset: Whose network.
        num_tokens: Of a sequence.
        batch_size: Sequences of all ranks together.
        rounds: In each of which every way takes its turn.
        steps: Optimizer steps a turn.
    """

    preset: Literal["tiny", "11m", "100m"] = "11m"
    num_tokens: int = 256
    batch_size: int = 4
    rounds: int = 5
    steps: int = 2


def configuration(arguments: BenchmarkArguments, sharding: ShardingConfig) -> LanguageTrainConfig:
    shape = replace(LANGUAGE_PRESETS[arguments.preset], context_length=arguments.num_tokens)
    return LanguageTrainConfig(
        batch_size=arguments.batch_size,
        num_steps=1000,
        device="cpu",
        precision="float32",
        num_threads=1,
        ema=EmaConfig(max_decay=0.99),
        model=shape,
        sharding=sharding,
    )


def random_batch(config: LanguageTrainConfig, world: World) -> TextBatch:
    """A rank's share, of no meaning."""
    rows = config.batch_size // world.size
    shape = (rows, config.language.context_length)
    generator = torch.Generator().manual_seed(world.rank)
    token_BS = torch.randint(config.language.vocabulary_size, shape, generator=generator)
    label_BS = torch.cat([token_BS[:, 1:], torch.full((rows, 1), IGNORED)], dim=1)
    return TextBatch(
        token_BS=token_BS,
        label_BS=label_BS,
        document_BS=torch.zeros(shape, dtype=torch.long),
        position_BS=torch.arange(shape[1]).expand(shape),
        num_tokens=config.step_tokens,
        num_learnt=config.batch_size * (shape[1] - 1),
    )


def make_learner(config: LanguageTrainConfig) -> LanguageLearner:
    torch.manual_seed(0)
    return LanguageLearner(LanguageModel(config.model), config, torch.device("cpu"))


def main() -> None:
    arguments = tyro.cli(BenchmarkArguments, description=__doc__)
    torch.set_num_threads(1)
    ways = {
        "whole": ShardingConfig(),
        "gradients": ShardingConfig(kind="gradients"),
        "full": ShardingConfig(kind="full"),
    }
    with joined_world("cpu") as world:
        if world.size == 1:
            raise SystemExit("torchrun: expected two ranks or more, got one process")
        configs = {name: configuration(arguments, sharding) for name, sharding in ways.items()}
        learners = {name: make_learner(config) for name, config in configs.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        losses: dict[str, float] = {}
        batch = random_batch(configs["whole"], world)
        for turn in range(arguments.rounds + 1):
            for name, learner in learners.items():
                gc.collect()
                world.wait()
                wall, cpu = time.perf_counter(), time.process_time()
                for step in range(arguments.steps):
                    number = turn * arguments.steps + step
                    losses[name] = learner.step(batch, number, torch.Generator()).loss
                if turn > 0:
                    passed = (time.perf_counter() - wall, time.process_time() - cpu)
                    taken[name].append(passed)
        report = {
            name: measured(learners[name], passed, arguments.steps)
            for name, passed in taken.items()
        }
    if not int(os.environ["RANK"]):
        told: dict[str, Any] = {
            **vars(arguments),
            "ranks": world.size,
            "torch": torch.__version__,
            "num_parameters": sum(p.numel() for p in learners["whole"].network.parameters()),
            **report,
            "cpu_of_full_to_whole": round(report["full"]["cpu_s"] / report["whole"]["cpu_s"], 3),
            "wall_of_full_to_whole": round(report["full"]["wall_s"] / report["whole"]["wall_s"], 3),
            "last_losses": losses,
        }
        print(json.dumps(told, indent=2))


def measured(
    learner: LanguageLearner, passed: list[tuple[float, float]], steps: int
) -> dict[str, float]:
    """Medians of a step, and what this rank keeps."""
    wall_s = statistics.median(wall for wall, _ in passed) / steps
    cpu_s = torch.tensor(statistics.median(cpu for _, cpu in passed) / steps)
    dist.all_reduce(cpu_s)
    return {
        "wall_s": round(wall_s, 4),
        "cpu_s": round(float(cpu_s), 4),
        "numbers_kept": sum(local(tensor).numel() for tensor in learner.state().values()),
    }


if __name__ == "__main__":
    main()
