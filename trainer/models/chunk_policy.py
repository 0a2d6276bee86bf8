"""What every policy's network offers to training, validation and serving: see once, then plan.

A scene is what the network made of an observation: tensors whose rows are samples, so that
requests can be put together and taken apart. A head reads it once and is then asked, at each flow
time, which clean chunk it sees in a noisy one.

Axes: B sample, S token of the prompt, T timestep, A numbers an action, P proprioception.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from trainer.models.action.configuration import Solver

# In a prompt (B, S) of tokens: nothing stands here.
NO_TOKEN: Final = -1

Scene = tuple[Tensor, ...]


class ChunkHead(Protocol):
    """Times run from 0, noise, to 1, a chunk."""

    def read(self, *scene: Any) -> Any:
        """All that does not depend on the noisy chunk."""
        ...

    def __call__(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: Any) -> Tensor:
        """The clean chunk (B, T, A), in float32."""
        ...


class ChunkPolicy(nn.Module, ABC):
    """Images, state and perhaps an instruction to chunks of actions in normalised numbers.

    bound: a chunk is kept within this of zero after each flow step; None for no bound.
    """

    bound: float | None = None

    @property
    @abstractmethod
    def chunk_head(self) -> ChunkHead:
        """What is asked at each flow time."""

    @abstractmethod
    def encode(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        token_BS: Tensor | None = None,
    ) -> Scene:
        """Images (B, 3, H, W) by camera, in [-1, 1], states, and the prompt's tokens, padded in
        front with NO_TOKEN, for a network that is told what to do."""

    def start(self, noise_BTA: Tensor) -> Tensor:
        """Where a flow begins that is given this noise."""
        return noise_BTA

    @abstractmethod
    def compile_parts(self) -> None:
        """By torch.compile, in place; the next call pays for it."""

    def forward(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        noise_BTA: Tensor,
        num_flow_steps: int,
        token_BS: Tensor | None = None,
        *,
        solver: Solver = "euler",
    ) -> Tensor:
        """Chunks (B, T, A) in normalised numbers. The images are encoded once."""
        head = self.chunk_head
        conditioning = head.read(*self.encode(images, proprioception_BP, token_BS))
        return integrate_flow(
            head,
            conditioning,
            self.start(noise_BTA),
            num_flow_steps,
            solver=solver,
            bound=self.bound,
        )


def integrate_flow(
    head: ChunkHead,
    conditioning: Any,
    noise_BTA: Tensor,
    num_steps: int,
    *,
    solver: Solver = "euler",
    bound: float | None = None,
) -> Tensor:
    """From noise to a chunk by exactly `num_steps` steps of length 1 / num_steps.

    solver: as `FlowConfig` has it. bound: as ChunkPolicy has it.
    The last step has 1 - t equal to its own length, so it lands on the prediction itself.
    """

    def bounded(x_BTA: Tensor) -> Tensor:
        return x_BTA if bound is None else x_BTA.clamp(-bound, bound)

    def motion(x_BTA: Tensor, step: int) -> Tensor:
        """Along the velocity (clean - x) / (1 - t), as far as one step goes."""
        time_B = torch.full((len(x_BTA),), step / num_steps, device=x_BTA.device)
        clean_BTA = head(x_BTA, time_B, conditioning)
        # (1 / n) / (1 - step / n), without the rounding of the two fractions.
        return (clean_BTA - x_BTA) / (num_steps - step)

    x_BTA = noise_BTA
    for step in range(num_steps):
        first_BTA = motion(x_BTA, step)
        next_BTA = bounded(x_BTA + first_BTA)
        if solver == "heun" and step < num_steps - 1:
            second_BTA = motion(next_BTA, step + 1)
            next_BTA = bounded(x_BTA + (first_BTA + second_BTA) / 2)
        x_BTA = next_BTA
    return x_BTA
