"""The loss of a policy that tells actions in words: each word after those before it.

Axes: B sample, N word of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from trainer.data.batches import Batch
from trainer.learner import Learner
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.language.cross_entropy import IGNORED
from trainer.parts_of_rows import parts_of_rows
from trainer.policy_learner import without_padding
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig


class ActionTokenLearner(Learner[ActionTokenPolicy, Batch]):
    """Whole chunks are told: beyond an episode's end they hold its last action."""

    def __init__(
        self,
        network: ActionTokenPolicy,
        config: VisionLanguageActionTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(network, config, device, num_threads=num_threads)
        network.model.checkpoint_activations(config.checkpoint_activations)
        if config.compile:
            network.model.compile_blocks()

    @property
    def root(self) -> nn.Module:
        return self.network.model

    def parts(self, batch: Batch, generator: torch.Generator) -> list[Callable[[], Tensor]]:
        """Together the mean over the words of all samples."""
        del generator
        word_BN = self.network.words(batch.chunk)
        num_words = (word_BN != IGNORED).sum().float()
        self.world.sum([num_words])

        def share(rows: slice) -> Tensor:
            part = batch.rows(rows)
            inputs = self.network.inputs(part.images, without_padding(part.prompt))
            with self.autocast():
                loss = self.network.model(inputs, part.proprioception, word_BN[rows])
            return loss / num_words

        size = len(word_BN)
        at_once = self.config.micro_batch_size or size
        return [partial(share, rows) for rows in parts_of_rows(size, at_once, self.num_threads)]
