"""A Hugging Face model under a policy of VLA Foundry, by the folder that the hub has of it.

VLA Foundry runs them by transformers 4.57; what that does otherwise than the one here is said
below, as running both side by side showed it.
"""

from __future__ import annotations

import reprlib
from pathlib import Path

import torch
from torch import Tensor

from trainer.hugging_face_folder import model_config
from trainer.importing.errors import ImportingError
from trainer.importing.foundry_shapes import Section
from trainer.importing.foundry_tensors import Tensors, hugging_face_tensors
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.hugging_face_common import shape_of

# Those whose outputs were compared with the original's; PaliGemma's language model is a Gemma.
_COMPARED = ("qwen3_vl", "qwen2_5_vl", "smolvlm", "paligemma")
_WORDS_OF_PALIGEMMA = "gemma"
# Its last hidden state there is the last layer's output as it is; the others' are normed.
_NOT_NORMED = "qwen3_vl"


def is_on_hugging_face(model: Section) -> bool:
    """Whether this is a `diffusion_policy` on such a model."""
    is_policy = model.fields.get("type") == "diffusion_policy"
    return is_policy and model.part("vision_language_backbone").fields.get("type") == "vlm_backbone"


def hugging_face_config(section: Section, folder: Path | None) -> HuggingFaceConfig:
    """Of a `vlm_backbone`. Raises ImportingError, ConfigurationError."""
    origin = reprlib.repr(section.fields.get("hf_pretrained"))
    if folder is None:
        raise ImportingError(
            f"{section.name}: the policy stands on {origin} of Hugging Face: give that model's "
            "folder, as the hub has it (--backbone FOLDER; its weights are not read)"
        )
    config = model_config(str(folder), None, "--backbone")
    kind, words = config.model_type, config.get_text_config()
    if kind not in _COMPARED:
        raise ImportingError(
            f"--backbone {folder}: expected one of {', '.join(_COMPARED)}, got {kind!r}"
        )
    if kind == "paligemma" and words.model_type != _WORDS_OF_PALIGEMMA:
        raise ImportingError(
            f"--backbone {folder}: expected a PaliGemma on {_WORDS_OF_PALIGEMMA!r}, "
            f"got one on {words.model_type!r}"
        )
    most, num_layers = words.num_hidden_layers + 1, section.get("num_vlm_layers_to_use", 4)
    if not 0 < num_layers <= most:
        raise section.unexpected("num_vlm_layers_to_use", f"1 to {most}", num_layers)
    return HuggingFaceConfig(
        **shape_of(config, words.vocab_size),
        normed_outputs=kind != _NOT_NORMED,
        # Without labels the whole prompt is a prefix there, the observation token a part of it.
        prefix_sees_observation=True,
    )


def hugging_face_weights(tensors: Tensors, config: HuggingFaceConfig) -> Tensors:
    """Under a policy's backbone. Raises ImportingError."""
    weights = hugging_face_tensors(tensors)
    if config.model_type == "smolvlm" and _POSITIONS in weights:
        vision = config.overrides["vision_config"]
        side = vision["image_size"] // vision["patch_size"]
        weights[_POSITIONS] = _shifted(weights[_POSITIONS], side)
    return weights


_POSITIONS = "model.model.vision_model.embeddings.position_embedding.weight"


def _shifted(positions: Tensor, side: int) -> Tensor:
    """A SmolVLM's table of positions, so that each patch of a whole picture has what it had there.

    transformers 4.57 gives a patch the row and column before its own (but the first), which later
    versions mended: a policy has learnt with what it was given.
    """
    if positions.ndim != 2 or len(positions) != side * side:
        # Not the model's: said by name with the other tensors.
        return positions
    steps = torch.arange(side, dtype=torch.float32)
    bounds = torch.arange(1 / side, 1.0, 1 / side)
    here = torch.bucketize((steps * (1.0 / side)).clamp(max=1.0 - 1e-6), bounds, right=True)
    if not torch.equal(here, torch.arange(side)):
        raise ImportingError(
            f"--backbone: a SmolVLM of {side} x {side} patches cannot have the positions here that "
            "it had"
        )
    before = (torch.arange(side) - 1).clamp(min=0)
    return positions[(before[:, None] * side + before).flatten()]
