"""Folders as Hugging Face publishes models, small and random: weights, words and processors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

WIDTH, VOCABULARY = 32, 320
_SPECIAL = ("<|im_start|>", "<|im_end|>", "<bos>", "<pad>", "<image>", "<spare>")
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 16,
}
_IMAGE = _SPECIAL.index("<image>")
# Each takes a picture of 16 pixels a side: as one token, or PaliGemma as four.
SEEING: Mapping[str, dict[str, Any]] = {
    "qwen3_vl": {
        "image_token_id": _IMAGE,
        "text_config": {
            **_TEXT,
            "model_type": "qwen3_vl_text",
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": WIDTH,
            "patch_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    },
    "smolvlm": {
        "image_token_id": _IMAGE,
        "scale_factor": 2,
        "pad_token_id": 3,
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_VISION, "model_type": "smolvlm_vision"},
    },
    "paligemma": {
        "image_token_id": _IMAGE,
        "text_config": {**_TEXT, "model_type": "gemma"},
        "vision_config": {**_VISION, "model_type": "siglip_vision_model"},
        "projection_dim": WIDTH,
    },
}
# Towers, as they are published: CLIP and SigLIP with the words that they were trained with. Each
# takes a picture of 16 pixels a side as 2 x 2 patches.
_READING: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 8,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_DINO: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 8,
    "image_size": 16,
    # As no resume could repeat it.
    "hidden_dropout_prob": 0.1,
    "drop_path_rate": 0.5,
}
_TOWER: dict[str, Any] = {**_VISION, "num_hidden_layers": 2, "attention_dropout": 0.1}
TOWERS: Mapping[str, dict[str, Any]] = {
    "clip": {"text_config": _READING, "vision_config": _TOWER, "projection_dim": 8},
    "siglip": {"text_config": _READING, "vision_config": _TOWER},
    "clip_vision_model": _TOWER,
    "siglip_vision_model": _TOWER,
    "dinov2": _DINO,
    "dinov2_with_registers": {**_DINO, "num_register_tokens": 3},
}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
_DIALOGUES = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QUESTIONS = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{% for part in turn.content %}"
    "{% if part.type == 'image' %}[<image>]{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_vision_language_folder(kind: str, folder: Path, *, vision_depth: int = 1) -> None:
    """kind: one of SEEING. vision_depth: blocks of its vision tower."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    name = "depth" if kind == "qwen3_vl" else "num_hidden_layers"
    vision = {**SEEING[kind]["vision_config"], name: vision_depth}
    shape = AutoConfig.for_model(kind, **{**SEEING[kind], "vision_config": vision})
    AutoModelForImageTextToText.from_config(shape).save_pretrained(folder)
    # Base models such as PaliGemma have no dialogues.
    _write_words(folder, None if kind == "paligemma" else _QUESTIONS)
    _write_processor(folder)


def write_tower_folder(kind: str, folder: Path, **changed: Any) -> None:
    """kind: one of TOWERS. changed: of the tower's configuration."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    fields = TOWERS[kind]
    if "vision_config" in fields:
        fields = {**fields, "vision_config": {**fields["vision_config"], **changed}}
    else:
        fields = {**fields, **changed}
    model = AutoModel.from_config(AutoConfig.for_model(kind, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            # Beginnings of nought and one would hide what is left out.
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _write_processor(folder)


def write_language_folder(folder: Path, *, template: str | None = _DIALOGUES) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(**{**_TEXT, "tie_word_embeddings": True, "attention_dropout": 0.1})
    LlamaForCausalLM(shape).save_pretrained(folder)
    _write_words(folder, template)


def _write_processor(folder: Path) -> None:
    processor = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def _write_words(folder: Path, template: str | None) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Words enough that text has them; and that some rows of the vocabulary are left.
    tokenizer.train_from_iterator(["Reach the square. Which colour? red green blue"], trainer)
    marks = dict(zip(("eos_token", "bos_token", "pad_token"), _SPECIAL[1:4], strict=True))
    others = [_SPECIAL[0], *_SPECIAL[4:]]
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=others, **marks
    )
    words.chat_template = template
    words.save_pretrained(folder)
