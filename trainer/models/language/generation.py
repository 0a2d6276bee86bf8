"""Text from a language model, token by token.

Axes: B sample, S position, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask
from trainer.requirements import require, require_positive

if TYPE_CHECKING:
    from trainer.models.hugging_face_language import HuggingFaceLanguageModel


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How the next token is drawn.

    Attributes:
        max_new_tokens: Tokens a sample, at most.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Only so many of the likeliest tokens may be drawn; None for all.
        top_p: Only the likeliest tokens that together have this probability; 1 for all.
        stop_token: Ends a sample, which is padded with it from there on; None for none.
        seed: Of the draws.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    stop_token: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "max_new_tokens")
        require(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        require(self.top_k is None or self.top_k > 0, "top_k", "1 or more, or None", self.top_k)
        require(0 < self.top_p <= 1, "top_p", "0 < top_p <= 1", self.top_p)


@torch.no_grad()
def generate(
    model: LanguageModel | HuggingFaceLanguageModel,
    token_BS: Tensor,
    config: GenerationConfig,
    *,
    valid_BS: Tensor | None = None,
    embedded_BSD: Tensor | None = None,
    prefix_B: Tensor | None = None,
) -> Tensor:
    """The new tokens (B, up to max_new_tokens).

    Prompts of different lengths are padded in front, and `valid_BS` says where they begin.
    `embedded_BSD` stands in the prompt's place where it holds more than words.
    """
    num_samples, prompt_length = token_BS.shape
    device = token_BS.device
    if valid_BS is None:
        valid_BS = torch.ones_like(token_BS, dtype=torch.bool)
    if not bool(valid_BS[:, -1].all()):
        raise ValueError(
            "valid_BS: a prompt ends in padding; pad in front, so that what is drawn follows it"
        )
    is_padded = not bool(valid_BS.all())
    capacity = prompt_length + config.max_new_tokens
    valid_BC = torch.ones(num_samples, capacity, dtype=torch.bool, device=device)
    valid_BC[:, :prompt_length] = valid_BS
    position_BC = (valid_BC.cumsum(dim=1) - 1).clamp(min=0)
    cache: Any = model.new_cache(num_samples, capacity)
    generator = torch.Generator(device=device).manual_seed(config.seed)
    is_done_B = torch.zeros(num_samples, dtype=torch.bool, device=device)
    drawn: list[Tensor] = []
    inputs = {"token_BS": token_BS} if embedded_BSD is None else {"embedded_BSD": embedded_BSD}
    for _ in range(config.max_new_tokens):
        start, end = cache.length, prompt_length + len(drawn)
        mask = AttentionMask(
            prefix_B=prefix_B if start == 0 else None,
            valid_BK=valid_BC[:, :end] if is_padded else None,
            first_query=start,
        )
        output = model(**inputs, mask=mask, position_BS=position_BC[:, start:end], cache=cache)
        logits_BV = model.logits(output.hidden_BSD[:, -1])
        token_B = next_token(logits_BV, config, generator)
        if config.stop_token is not None:
            token_B = torch.where(is_done_B, config.stop_token, token_B)
            is_done_B = is_done_B | (token_B == config.stop_token)
        drawn.append(token_B)
        if bool(is_done_B.all()):
            break
        inputs = {"token_BS": token_B[:, None]}
    return torch.stack(drawn, dim=1)


def next_token(logits_BV: Tensor, config: GenerationConfig, generator: torch.Generator) -> Tensor:
    """One token (B,) a sample."""
    if config.temperature == 0:
        return logits_BV.argmax(dim=-1)
    logits_BV = logits_BV / config.temperature
    if config.top_k is not None:
        least_B1 = logits_BV.topk(min(config.top_k, logits_BV.shape[-1])).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if config.top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True)
        probability_BV = sorted_BV.softmax(dim=-1)
        # A token stays if those before it have not reached top_p: the first one always does.
        is_cut_BV = probability_BV.cumsum(dim=-1) - probability_BV >= config.top_p
        is_cut_BV = torch.zeros_like(is_cut_BV).scatter(1, order_BV, is_cut_BV)
        logits_BV = logits_BV.masked_fill(is_cut_BV, -torch.inf)
    return torch.multinomial(logits_BV.softmax(dim=-1), 1, generator=generator)[:, 0]
