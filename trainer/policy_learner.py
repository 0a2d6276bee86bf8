"""A policy's loss: flow matching on noise levels drawn for each window.

Axes: B sample, R flow times an image, T timestep, A numbers an action.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from trainer.configuration import TrainConfig
from trainer.data.batches import Batch
from trainer.learner import Learner
from trainer.models.flow_head import flow_loss
from trainer.models.policy_network import PolicyNetwork


class PolicyLearner(Learner[PolicyNetwork, Batch]):
    def __init__(
        self,
        network: PolicyNetwork,
        config: TrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        self._repeats = config.model.flow_head.flow_times_per_image

    def parts(self, batch: Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        size = len(batch.chunk)
        noise_RBTA = torch.randn(
            (self._repeats, *batch.chunk.shape), generator=generator, device=self.device
        )
        time_RB = torch.rand((self._repeats, size), generator=generator, device=self.device)
        num_valid = batch.valid.sum()

        def share(rows: slice) -> Tensor:
            part = batch.rows(rows)
            weight = part.valid.sum() / num_valid
            return weight * self._loss(part, noise_RBTA[:, rows], time_RB[:, rows])

        edges = [size * part // self.num_threads for part in range(self.num_threads + 1)]
        return [partial(share, slice(*pair)) for pair in pairwise(edges) if pair[0] < pair[1]]

    def _loss(self, batch: Batch, noise_RBTA: Tensor, time_RB: Tensor) -> Tensor:
        repeats = len(time_RB)
        with self.autocast():
            tokens = self.network.encode(batch.images, batch.proprioception)
            return flow_loss(
                self.network.head,
                self.network.head.read(tokens).repeated(repeats),
                batch.chunk.repeat(repeats, 1, 1),
                batch.valid.repeat(repeats, 1),
                noise_BTA=noise_RBTA.flatten(0, 1),
                time_B=time_RB.flatten(),
            )
