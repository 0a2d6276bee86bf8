"""Attention within each of many images of a Hugging Face vision tower, in one call.

Qwen's towers hold the patches of all images in one sequence. Without the flash-attn package
transformers calls the kernel once an image and layer, which for a batch of robot observations is
thousands of small calls; images of one size, which a batch of observations has, make one batch.

Axes: H attention head, N image, L patch of an image, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# transformers hands over where images begin only to attention whose name says flash.
_NAME = "equal_images_flash"


def attend_images_together(model: Any) -> None:
    """Make the vision tower of a Qwen model attend to images of one size in one call."""
    vision = getattr(model.config, "vision_config", None)
    if vision is None or not model.config.model_type.startswith("qwen"):
        return
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    vision._attn_implementation = _NAME


def _attend(
    _module: Any,
    query_1HSd: Tensor,
    key_1HSd: Tensor,
    value_1HSd: Tensor,
    attention_mask: None = None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int | Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it; (1, S, H, d) comes back."""
    num_images = len(cu_seq_lens_q) - 1
    tensors = (query_1HSd, key_1HSd, value_1HSd)
    if num_images * int(max_length_q) == query_1HSd.shape[2]:
        query, key, value = (x[0].unflatten(1, (num_images, -1)).transpose(0, 1) for x in tensors)
        read_NHLd = functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        return read_NHLd.transpose(1, 2).flatten(0, 1)[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    images = zip(*(x.split(lengths, dim=2) for x in tensors), strict=True)
    read = [
        functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        for query, key, value in images
    ]
    return torch.cat(read, dim=2).transpose(1, 2), None
