"""VLA Foundry's tensors under our names.

Each table says what a part's tensors become; a tensor that no table knows is an error, so that
nothing which the original computes with is lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trainer.importing.errors import ImportingError

Tensors = dict[str, Tensor]
_WRAPPERS = ("_orig_mod.", "module.")

_BLOCK = {
    r"attention\.in_proj\.": "attention.to_qkv.",
    r"attention\.out_proj\.": "attention.from_heads.",
    r"attention\.q_norm\.": "attention.query_norm.",
    r"attention\.k_norm\.": "attention.key_norm.",
    r"attention_norm\.": "attention_norm.",
    r"ffn_norm\.": "feed_forward_norm.",
    r"feed_forward\.(?:w12|0)\.": "feed_forward.to_hidden.",
    r"feed_forward\.(?:w3|2)\.": "feed_forward.from_hidden.",
}
_BLOCKS = {rf"layers\.(\d+)\.{old}": rf"transformer.blocks.\1.{new}" for old, new in _BLOCK.items()}
_LANGUAGE = _BLOCKS | {
    r"embeddings\.": "embedding.",
    r"post_embed_norm\.": "embedding_norm.",
    r"norm\.": "norm.",
    r"output\.": "head.",
}
_VISION_BLOCK = {
    r"ln1\.": "attention_norm.",
    r"attn\.qkv_proj\.": "attention.to_qkv.",
    r"attn\.out_proj\.": "attention.from_heads.",
    r"ln2\.": "feed_forward_norm.",
    r"mlp\.fc1\.": "feed_forward.to_hidden.",
    r"mlp\.fc2\.": "feed_forward.from_hidden.",
}
_VISION = {
    r"patch_embedding\.conv\.": "patches.",
    r"patch_embedding\.position_embedding$": "positions",
    r"layer_norm\.": "norm.",
} | {
    rf"blocks\.(\d+)\.{old}": rf"transformer.blocks.\1.{new}" for old, new in _VISION_BLOCK.items()
}
_EXPERT = {
    r"time_encoding\.": "times.",
    r"condition_encode\.": "from_observation.",
    r"action_encode\.": "from_actions.",
    r"proprioception_encode\.": "from_proprioception.",
    r"output_layer\.": "to_actions.",
}
# As newer versions of transformers name a SigLIP tower's.
_HUGGING_FACE = {r"model\.model\.vision_tower\.vision_model\.": "model.model.vision_tower."}
# Numbers that follow from the configuration. The action head is a whole language model there, whose
# words and final norm nothing reads.
_DERIVED = re.compile(r"(^|\.)(inv_freq|sinusoidal_position_embeddings\.emb)$|^scheduler\.")
_UNREAD_OF_EXPERT = re.compile(r"transformer\.(embeddings|output|norm)\.")


def without_wrappers(tensors: Mapping[str, Tensor]) -> Tensors:
    """Without the prefixes of torch.compile and DDP, in whatever order."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        while name.startswith(_WRAPPERS):
            name = name.removeprefix("_orig_mod.").removeprefix("module.")
        found[name] = tensor
    return found


def without_derived(tensors: Mapping[str, Tensor]) -> Tensors:
    """Without what follows from the configuration, checked where another value would matter."""
    for name, tensor in tensors.items():
        if name.endswith("inv_freq"):
            size = 2 * tensor.numel()
            expected = 10_000.0 ** -(torch.arange(0, size, 2).double() / size)
            # A model that was saved in bfloat16 has them rounded; ours are computed anew.
            if not torch.allclose(tensor.double().flatten(), expected, rtol=1e-2, atol=0):
                raise ImportingError(f"{name}: rotary frequencies of another base than 10,000")
    return {name: tensor for name, tensor in tensors.items() if not _DERIVED.search(name)}


def language_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    return renamed(tensors, _LANGUAGE)


def vision_language_tensors(
    tensors: Mapping[str, Tensor], *, vocabulary_size: int, observation_token: Tensor | None = None
) -> Tensors:
    """Of a `vlm`, and of one under a policy, whose last word is the observation token."""
    parts = split(tensors, ("vit", "transformer", "projection"))
    vision = renamed(parts["vit"], _VISION)
    positions = vision.get("positions")
    if positions is not None and positions.ndim == 3:
        side = math.isqrt(positions.shape[1])
        if positions.shape[:2] == (1, side * side):
            vision["positions"] = positions.reshape(side, side, -1)
    language = language_tensors(parts["transformer"])
    rows = language.get("embedding.weight")
    if rows is None or rows.ndim != 2:
        raise ImportingError("transformer.embeddings.weight is missing, or is no matrix")
    if len(rows) == vocabulary_size + 1:
        observation_token = rows[-1]
        for name in language.keys() & {"embedding.weight", "head.weight"}:
            language[name] = language[name][:-1].clone()
    elif observation_token is None:
        # A model that was made to speak has none: the mean word, as a fresh one begins.
        observation_token = rows.mean(dim=0)
    connector = renamed(parts["projection"], {r"proj\.": "projection."})
    return {
        **prefixed(vision, "vision."),
        **prefixed(connector, "connector."),
        **prefixed(language, "language."),
        "observation_token": observation_token.clone(),
    }


def hugging_face_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Of a Hugging Face model under a policy, whose last word is the observation token."""
    return renamed(tensors, _HUGGING_FACE | {r"model\.": "model."})


def expert_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Of a `diffusion_policy` without its backbone."""
    read = {name: t for name, t in tensors.items() if not _UNREAD_OF_EXPERT.match(name)}
    blocks = {rf"transformer\.{old}": new for old, new in _BLOCKS.items()}
    return renamed(read, _EXPERT | blocks)


def split(tensors: Mapping[str, Tensor], roots: Iterable[str]) -> dict[str, Tensors]:
    """By the first word of their names, which is taken off; any other is an error."""
    parts: dict[str, Tensors] = {root: {} for root in roots}
    for name, tensor in tensors.items():
        root, _, rest = name.partition(".")
        if root not in parts:
            raise ImportingError(f"unexpected tensor {name!r}; expected names in {list(parts)}")
        parts[root][rest] = tensor
    return parts


def renamed(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> Tensors:
    found: Tensors = {}
    for name, tensor in tensors.items():
        for old, new in table.items():
            own, count = re.subn(f"^{old}", new, name)
            if count:
                found[own] = tensor
                break
        else:
            raise ImportingError(f"unexpected tensor {name!r}: no part of the model has it")
    return found


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}
