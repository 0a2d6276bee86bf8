"""A policy's loss: flow matching on noise levels drawn for each window, or a baseline's own.

Axes: B sample, R flow times an image, T timestep, A numbers an action, N data set.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.action_token_configuration import ActionTokenShape
from trainer.data.batches import Batch
from trainer.data.robot_sources import source_names
from trainer.learner import Learner, StepResult
from trainer.models.action.flow_matching import sample_times
from trainer.models.chunk_policy import NO_TOKEN, ChunkPolicy
from trainer.models.flow_head import FlowHead, flow_loss
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language_action import ActionBatch, Draws, InputNoise
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.parts_of_rows import parts_of_rows
from trainer.policy_configuration import PolicyConfig, TrainConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

_Policy = TypeVar("_Policy", bound=ChunkPolicy)


class ChunkLearner(Learner[_Policy, Batch]):
    """The network sees each window once, and learns `repeats` draws of time and noise from it.

    Of several data sets each one's loss is told beside the whole, where a step has windows of it.
    """

    repeats: int

    def __init__(
        self,
        network: _Policy,
        config: PolicyConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        self._sources = source_names(config)
        # Of the step's parts: errors and what they count, by data set; threads fill a place each.
        self._sums: list[Tensor] = []

    def parts(self, batch: Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        size = len(batch.chunk)
        # Drawn for all ranks, so that a window's draws do not depend on how many there are.
        drawn, own = size * self.world.size, self.world.rows(size * self.world.size)
        shape = (self.repeats, drawn, *batch.chunk.shape[1:])
        noise_RBTA = torch.randn(shape, generator=generator, device=self.device)[:, own]
        time_RB = self.times(self.repeats * drawn, generator).unflatten(0, shape[:2])[:, own]
        inputs = [
            noise.unflatten(0, shape[:2])[:, own]
            for noise in self.input_noise(self.repeats * drawn, generator)
        ]
        num_valid = batch.valid.sum()
        self.world.sum([num_valid])

        at_once = self.config.micro_batch_size or size
        parts = parts_of_rows(size, at_once, self.num_threads)
        sums = self._sums = [torch.zeros(())] * len(parts)

        def share(place: int, rows: slice) -> Tensor:
            part = batch.rows(rows)
            weight = part.valid.sum() / num_valid
            if len(self._sources) > 1:
                part = replace(part, valid=part.valid.detach().requires_grad_())
            with self.autocast():
                loss = self.loss(
                    part,
                    noise_RBTA[:, rows],
                    time_RB[:, rows],
                    *(noise[:, rows] for noise in inputs),
                )
            if len(self._sources) > 1:
                sums[place] = _sums_by_source(loss, part, len(self._sources))
            return weight * loss

        return [partial(share, *part) for part in enumerate(parts)]

    def step(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        result = super().step(batch, step, generator)
        if len(self._sources) == 1:
            return result
        sums_2N = torch.stack(self._sums).sum(0)
        self.world.sum([sums_2N])
        told = zip(self._sources, *sums_2N.tolist(), strict=True)
        return replace(result, losses={name: error / n for name, error, n in told if n})

    @abstractmethod
    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) in [0, 1], as the network has them."""

    def input_noise(self, count: int, generator: torch.Generator) -> Sequence[Tensor]:
        """What else is drawn for each draw of a window, (count, ...) each: nothing."""
        del count, generator
        return ()

    @abstractmethod
    def loss(self, batch: Batch, noise_RBTA: Tensor, time_RB: Tensor, *inputs_RB: Tensor) -> Tensor:
        """The mean over timesteps by their weights, `batch.valid`, a scalar. inputs_RB: those of
        `input_noise`."""


def _sums_by_source(loss: Tensor, batch: Batch, num_sources: int) -> Tensor:
    """(2, N): errors of the timesteps of each data set, and how many they are.

    A mean's derivative by a weight is how far the error there is from the mean, over the sum of
    the weights: so whatever computes the loss, each error is known, its draws' mean.
    """
    valid_BT = batch.valid.detach()
    (slope_BT,) = torch.autograd.grad(loss, batch.valid, retain_graph=True, materialize_grads=True)
    error_BT = loss.detach() + slope_BT * valid_BT.sum()
    told_2B = torch.stack([(error_BT * valid_BT).sum(1), valid_BT.sum(1)])
    return told_2B.new_zeros(2, num_sources).index_add_(1, batch.source, told_2B)


class PolicyLearner(ChunkLearner[PolicyNetwork]):
    def __init__(
        self,
        network: PolicyNetwork,
        config: TrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        network.checkpoint_activations(config.checkpoint_activations)
        if config.compile:
            network.compile_parts()
        head = network.head
        self.repeats = (
            config.model.flow_head.flow_times_per_image
            if isinstance(head, FlowHead)
            else head.repeats
        )

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, generator=generator, device=self.device)

    def loss(self, batch: Batch, noise_RBTA: Tensor, time_RB: Tensor, *inputs_RB: Tensor) -> Tensor:
        assert not inputs_RB
        repeats = len(time_RB)
        scene = self.network.encode(batch.images, batch.proprioception)
        head = self.network.head
        if not isinstance(head, FlowHead):
            return head.loss(
                head.read(*scene),
                batch.chunk,
                batch.valid,
                noise_RBTA=noise_RBTA,
                time_RB=time_RB,
            )
        return flow_loss(
            head,
            head.read(*scene).repeated(repeats),
            batch.chunk.repeat(repeats, 1, 1),
            batch.valid.repeat(repeats, 1),
            noise_BTA=noise_RBTA.flatten(0, 1),
            time_B=time_RB.flatten(),
        )


class VisionLanguageActionLearner(ChunkLearner[VisionLanguagePolicy]):
    def __init__(
        self,
        network: VisionLanguagePolicy,
        config: VisionLanguageActionTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        assert not isinstance(config.model, ActionTokenShape)
        self.repeats, self._time = config.model.repeats, config.model.time
        network.model.checkpoint_activations(config.checkpoint_activations)
        if config.compile:
            network.compile_parts()

    @property
    def root(self) -> nn.Module:
        return self.network.model

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        return sample_times(self._time, count, generator, self.device)

    def input_noise(self, count: int, generator: torch.Generator) -> Sequence[Tensor]:
        drawn = self.network.model.draw_input_noise(count, generator, self.device)
        return [noise for noise in drawn if noise is not None]

    def loss(self, batch: Batch, noise_RBTA: Tensor, time_RB: Tensor, *inputs_RB: Tensor) -> Tensor:
        # The draws of one sample stand next to each other there.
        noise_BTA, time_B, *inputs_B = (
            drawn.transpose(0, 1).flatten(0, 1) for drawn in (noise_RBTA, time_RB, *inputs_RB)
        )
        past_BPA, state_BNQ = self.network.known(batch.proprioception)
        past = past_BPA.shape[1]
        return self.network.model(
            ActionBatch(
                inputs=self.network.inputs(batch.images, without_padding(batch.prompt)),
                chunk_BTA=torch.cat([past_BPA, batch.chunk], dim=1),
                # What is given is not learnt.
                weight_BT=functional.pad(batch.valid, (past, 0)),
                is_known_BT=torch.arange(past + batch.chunk.shape[1], device=self.device)
                .lt(past)
                .expand(len(batch.chunk), -1)
                if past
                else None,
                proprioception_BPQ=state_BNQ,
            ),
            draws=Draws(functional.pad(noise_BTA, (0, 0, past, 0)), time_B, InputNoise(*inputs_B)),
        )


def without_padding(prompt_BS: Tensor | None) -> Tensor | None:
    """Without the columns in front that pad every prompt: they cost as much as words do.

    On a CPU alone: on a GPU the host would wait to know how many, and compiled blocks like one
    length best.
    """
    if prompt_BS is None or prompt_BS.device.type != "cpu":
        return prompt_BS
    first = int((prompt_BS != NO_TOKEN).any(dim=0).int().argmax())
    return prompt_BS[:, first:]
