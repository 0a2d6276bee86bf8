"""What is evaluated in simulation while a policy is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainer.requirements import require, require_positive

# Seeds have 32 bits, and lie a hundred million above.
_MOST_EPISODES = 4_000_000_000


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Closed-loop evaluations beside the training: never what is learnt, so that they may be others
    when a run goes on.

    Attributes:
        every: Optimizer steps between evaluations, each of a checkpoint that is kept; the last one
            is evaluated too. None evaluates nothing.
        tasks: Of the simulation, by name; without any those of the demonstrations.
        episodes: START:END of each task, without END. Those from 0 on are for judging policies that
            are trained: who chooses among checkpoints by some episodes has to judge by others.
        workers: Simulators that run at once.
        device: Where the policy is served: cpu, cuda or cuda:N.
    """

    every: int | None = None
    tasks: tuple[str, ...] = ()
    episodes: str = "1000000:1000010"
    workers: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self.every is None or self.every > 0, "evaluate.every", "1 or more", self.every)
        require_positive(self, "workers")
        match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", self.episodes)
        require(
            match is not None and int(match[1]) < int(match[2]) <= _MOST_EPISODES,
            "evaluate.episodes",
            f"START:END with START < END <= {_MOST_EPISODES}",
            self.episodes,
        )
        require(
            len(set(self.tasks)) == len(self.tasks)
            and all(re.fullmatch(r"\w+", t) for t in self.tasks),
            "evaluate.tasks",
            "names of tasks, each once",
            self.tasks,
        )
        require(
            self.device in ("cpu", "cuda") or self.device.removeprefix("cuda:").isdigit(),
            "evaluate.device",
            "cpu, cuda or cuda:N",
            self.device,
        )
