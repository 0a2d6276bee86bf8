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


class ToldHead:
    """Of a scene that is the chunk itself: whatever the noise, that chunk."""

    def read(self, *scene: Tensor) -> Tensor:
        (chunk_BTA,) = scene
        return chunk_BTA

    def __call__(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: Any) -> Tensor:
        del time_B
        # Real-time chunking differentiates by the noise: the derivative is nought, but there.
        return conditioning + 0.0 * noisy_BTA


class TellingPolicy(ChunkPolicy):
    """A policy that tells its chunk in tokens, one after the other, before any flow.

    num_told: chunks that `forward` made of them since it was set; num_malformed: of those, told in
    tokens that are no whole chunk, and made to be one.
    """

    num_told = 0
    num_malformed = 0

    @property
    def chunk_head(self) -> ToldHead:
        return ToldHead()

    @abstractmethod
    def tell(self, *scene: Tensor, to_the_end: bool = False) -> Tensor:
        """What is told of each scene, row by row, as many numbers whatever it is. How sure each
        token was is one of them, so that rows with the same numbers were computed alike.

        to_the_end: nothing ends early, so that as much is computed as for any scene.
        """

    @abstractmethod
    def understood(self, told: Tensor) -> tuple[Tensor, list[bool]]:
        """The chunks (B, T, A), and of each whether its tokens were a whole one."""

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
        """See ChunkPolicy; noise and flow have no say in it."""
        del solver
        told = self.tell(*self.encode(images, proprioception_BP, token_BS))
        chunk_BTA, is_whole = self.understood(told)
        self.num_told += len(is_whole)
        self.num_malformed += is_whole.count(False)
        return chunk_BTA


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
