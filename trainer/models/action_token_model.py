"""A vision-language model that tells a chunk of actions in words of their own, one after another.

After pi0-FAST (Pertsch et al. 2025, arXiv:2501.09747). What the policy sees, is told and measures
of itself comes first, then the chunk's words and a last one that ends it; only these are learnt.
They have rows of an embedding and of a head of their own, beside those of the language's words:
where a chunk is told no other word may come.

Axes: B sample, S token of the prefix, N word of a chunk, P proprioception, D width, C position of
the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.backbone import VisionLanguageInput
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.cross_entropy import IGNORED
from trainer.models.language.language_model import LanguageModel, LanguageOutput
from trainer.models.language.masks import AttentionMask
from trainer.models.language.transformer import truncated_normal_
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class ActionTokenModelConfig:
    """A vision-language model and the words of actions.

    Attributes:
        backbone: The vision-language model, on a language model of our own.
        num_words: Words of actions, without the one that ends a chunk.
        most_words: Told of one chunk at most.
        proprioception_size: Numbers of the body's state.
    """

    backbone: VisionLanguageConfig
    num_words: int
    most_words: int
    proprioception_size: int


class ActionTokenModel(nn.Module):
    """Images, instruction and proprioception to words of actions."""

    def __init__(self, config: ActionTokenModelConfig) -> None:
        super().__init__()
        assert isinstance(config.backbone.language, LanguageConfig)
        self.config = config
        self._z_loss = config.backbone.language.z_loss
        self.backbone = VisionLanguageModel(config.backbone)
        width = self.backbone.width
        self.proprioception = nn.Linear(config.proprioception_size, width)
        self.embedding = nn.Embedding(config.num_words + 1, width)
        self.head = nn.Linear(width, config.num_words + 1, bias=False)
        for rows in (self.embedding, self.head):
            truncated_normal_(rows.weight, width**-0.5)

    @property
    def end(self) -> int:
        """The word that ends a chunk."""
        return self.config.num_words

    def checkpoint_activations(self, enabled: bool = True) -> None:
        self.backbone.checkpoint_activations(enabled)

    def compile_blocks(self, **options: object) -> None:
        self.backbone.compile_blocks(**options)

    def say(self, inputs: VisionLanguageInput, **options: Any) -> LanguageOutput:
        """What follows in words of the language: see `VisionLanguageModel.forward`."""
        return self.backbone(inputs, **options)

    def read(self, inputs: VisionLanguageInput, proprioception_BP: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix (B, S, D), padded in front, its last token the body's state; and which tokens
        of it are real."""
        embedded_BSD = self.backbone.embed(inputs.token_BS, inputs.images, inputs.valid)
        state_B1D = self.proprioception(proprioception_BP)[:, None]
        valid_BS = inputs.valid
        return (
            torch.cat([embedded_BSD, state_B1D.to(embedded_BSD.dtype)], dim=1),
            torch.cat([valid_BS, torch.ones_like(valid_BS[:, :1])], dim=1),
        )

    def forward(
        self, inputs: VisionLanguageInput, proprioception_BP: Tensor, word_BN: Tensor
    ) -> Tensor:
        """The sum over all words of the loss of each after what comes before it.

        word_BN: each chunk's words and the end, IGNORED behind them. There are few words, so that
        their logits may be whole in memory; and a batch's are of one shape, whatever it tells: of
        each other one a CPU's bfloat16 kernels would keep a megabyte.
        """
        prefix_BSD, valid_BS = self.read(inputs, proprioception_BP)
        told_BN = word_BN[:, :-1]
        is_told_BN = told_BN != IGNORED
        hidden_BSD = self._hidden(
            torch.cat([prefix_BSD, self.embedding(told_BN.clamp(min=0))], dim=1),
            torch.cat([valid_BS, is_told_BN], dim=1),
            num_prefix=prefix_BSD.shape[1],
        )
        # The body's state is before the first word.
        logits_BNV = self.head(hidden_BSD[:, -word_BN.shape[1] :]).float()
        loss = functional.cross_entropy(
            logits_BNV.flatten(0, 1), word_BN.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if self._z_loss > 0:
            squared_BN = logits_BNV.logsumexp(dim=-1).square()
            loss = loss + self._z_loss * (squared_BN * (word_BN != IGNORED)).sum()
        return loss

    @torch.no_grad()
    def tell(self, prefix_BSD: Tensor, valid_BS: Tensor, *, to_the_end: bool = False) -> Tensor:
        """The likeliest word after the others, and its log-probability, (B, N, 2): N is always the
        same.

        What comes after the end is the end, for certain. to_the_end: no word ends a chunk, so that
        as much is computed as for any.
        """
        num_samples, num_prefix = valid_BS.shape
        most = self.config.most_words + 1
        told_BN2 = prefix_BSD.new_zeros((num_samples, most, 2), dtype=torch.float32)
        told_BN2[..., 0] = self.end
        is_done_B = torch.zeros(num_samples, dtype=torch.bool, device=prefix_BSD.device)
        valid_BC = torch.ones(
            num_samples, num_prefix + most, dtype=torch.bool, device=prefix_BSD.device
        )
        valid_BC[:, :num_prefix] = valid_BS
        cache = self._language.new_cache(num_samples, num_prefix + most)
        embedded_BSD = prefix_BSD
        for place in range(most):
            # Compiled blocks would be compiled anew for every length of the cache.
            with torch.compiler.set_stance("force_eager"):
                hidden_BSD = self._hidden(
                    embedded_BSD,
                    valid_BC[:, : num_prefix + place],
                    num_prefix=num_prefix,
                    cache=cache,
                )
            logits_BV = self.head(hidden_BSD[:, -1]).float()
            sure_B, word_B = logits_BV.log_softmax(dim=-1).max(dim=-1)
            if not to_the_end:
                word_B = word_B.masked_fill(is_done_B, self.end)
                sure_B = sure_B.masked_fill(is_done_B, 0)
                is_done_B = is_done_B | (word_B == self.end)
            told_BN2[:, place] = torch.stack([word_B.float(), sure_B], dim=-1)
            if bool(is_done_B.all()):
                break
            embedded_BSD = self.embedding(word_B)[:, None]
        return told_BN2

    @property
    def _language(self) -> LanguageModel:
        assert isinstance(self.backbone.language, LanguageModel)
        return self.backbone.language

    def _hidden(
        self, embedded_BSD: Tensor, valid_BC: Tensor, *, num_prefix: int, cache: Any = None
    ) -> Tensor:
        """The head's input at the last positions of those that valid_BC tells of.

        The mask is always written out by sample: a kernel for none would add in another order.
        """
        first = valid_BC.shape[1] - embedded_BSD.shape[1]
        prefix_B = None
        if self.config.backbone.bidirectional_prefix and first == 0:
            prefix_B = torch.full_like(valid_BC[:, 0], num_prefix, dtype=torch.long)
        # Padding takes no position.
        position_BC = (valid_BC.cumsum(dim=1) - 1).clamp(min=0)
        return self._language(
            embedded_BSD=embedded_BSD,
            mask=AttentionMask(prefix_B=prefix_B, valid_BK=valid_BC, first_query=first),
            position_BS=position_BC[:, first:],
            cache=cache,
        ).hidden_BSD
