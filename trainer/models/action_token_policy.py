"""A vision-language model that tells actions in words as a policy's network.

Axes: B sample, S token of the prompt or the prefix, N word of a chunk, T timestep, A numbers an
action, P proprioception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trainer.action_token_configuration import ActionTokenShape
from trainer.models.action.action_tokens import ActionTokenizer
from trainer.models.action_token_model import ActionTokenModel
from trainer.models.backbone import VisionLanguageInput
from trainer.models.chunk_policy import NO_TOKEN, Scene, TellingPolicy
from trainer.models.language.cross_entropy import IGNORED
from trainer.models.vision_language_policy import squares

_LENGTHS = 16


class ActionTokenPolicy(TellingPolicy):
    """cameras: in the order in which the prompt shows them. proprioception_size: P.

    image_token: the vocabulary's place holder for one token of an image. pretrained: see
    `ActionTokenShape.network`.
    """

    def __init__(
        self,
        shape: ActionTokenShape,
        tokenizer: ActionTokenizer,
        *,
        cameras: Sequence[str],
        proprioception_size: int,
        image_token: int,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.camera_names, self._image_size = tuple(cameras), shape.image_size
        shape.require_views(len(self.camera_names))
        self.model = ActionTokenModel(
            shape.network(
                image_token=image_token,
                tokenizer=tokenizer,
                proprioception_size=proprioception_size,
                pretrained=pretrained,
            )
        )

    def inputs(self, images: Mapping[str, Tensor], token_BS: Tensor | None) -> VisionLanguageInput:
        """Images (B, 3, H, W) by camera become squares, those of one sample side by side."""
        if token_BS is None:
            raise ValueError("this policy is told what to do: expected a prompt, got none")
        return VisionLanguageInput(
            token_BS=token_BS.clamp(min=0),
            valid_BS=token_BS != NO_TOKEN,
            images=squares(images, self.camera_names, self._image_size),
        )

    def words(self, chunk_BTA: Tensor) -> Tensor:
        """(B, N): each chunk's words and the end, IGNORED behind them.

        N is a multiple of a few, so that memory of one step fits the next one's.
        """
        told = self.tokenizer.encode_all(chunk_BTA.cpu().double().numpy())
        longest = 1 + max(map(len, told))
        word_BN = np.full((len(told), longest + -longest % _LENGTHS), IGNORED, np.int64)
        for row, words in zip(word_BN, told, strict=True):
            row[: len(words)] = words
            row[len(words)] = self.model.end
        return torch.from_numpy(word_BN).to(chunk_BTA.device)

    def encode(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        token_BS: Tensor | None = None,
    ) -> Scene:
        """The prefix (B, S, D), and which tokens of it are real (B, S)."""
        return self.model.read(self.inputs(images, token_BS), proprioception_BP)

    def tell(self, *scene: Tensor, to_the_end: bool = False) -> Tensor:
        """(B, N, 2): words, and the log-probability of each."""
        prefix_BSD, valid_BS = scene
        return self.model.tell(prefix_BSD, valid_BS, to_the_end=to_the_end)

    def understood(self, told: Tensor) -> tuple[Tensor, list[bool]]:
        """See `ActionTokenizer.decode_anyhow`; without an end, the words there are."""
        word_BN = told[..., 0].cpu().long().numpy()
        decoded = [self.tokenizer.decode_anyhow(_before(row, self.model.end)) for row in word_BN]
        chunk_BTA = torch.from_numpy(np.stack([chunk for chunk, _ in decoded])).float()
        return chunk_BTA.to(told.device), [is_whole for _, is_whole in decoded]

    def compile_parts(self) -> None:
        """What sees alone: words come through a cache whose length is another each time."""
        self.model.backbone.vision.compile_blocks()


def _before(words: np.ndarray, end: int) -> np.ndarray:
    (places,) = (words == end).nonzero()
    return words[: places[0]] if len(places) else words
