"""The prompt that a policy of VLA Foundry was told, in words.

It is what the tokenizer's chat template makes of a user's message with pictures before the
instruction; a tokenizer without one has `<image> ` for each picture and then the instruction.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.foundry.prompts import IMAGE_WORD
from trainer.importing.errors import ImportingError

_TEMPLATE_FILE, _CONFIG_FILE = "chat_template.jinja", "tokenizer_config.json"
# Stands for the instruction; nothing that a template says.
_STAND_IN = "zqxj"


def words_around(tokenizer: Path, num_images: int) -> tuple[str, str]:
    """What stands before and after the instruction. tokenizer: its folder, as the hub has it.

    Raises ImportingError.
    """
    if not _has_template(tokenizer):
        return f"{IMAGE_WORD} " * num_images, ""
    text = _rendered(tokenizer, num_images)
    parts = text.split(_STAND_IN)
    if len(parts) != 2 or parts[0].count(IMAGE_WORD) != num_images or IMAGE_WORD in parts[1]:
        raise ImportingError(
            f"--tokenizer {tokenizer}: expected a chat template that shows {num_images} times "
            f"{IMAGE_WORD} and then the instruction once, got {text!r:.200}"
        )
    return parts[0], parts[1]


def _has_template(tokenizer: Path) -> bool:
    if (tokenizer / _TEMPLATE_FILE).is_file():
        return True
    file = tokenizer / _CONFIG_FILE
    if not file.is_file():
        return False
    try:
        fields = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ImportingError(f"{file}: not JSON: {error}") from error
    return isinstance(fields, dict) and bool(fields.get("chat_template"))


def _rendered(tokenizer: Path, num_images: int) -> str:
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise ImportingError(
            f"--tokenizer {tokenizer}: its chat template needs transformers: "
            "pip install 'assay[backbones]'"
        ) from error
    pictures: list[dict[str, str]] = [{"type": "image"}] * num_images
    content = [*pictures, {"type": "text", "text": _STAND_IN}]
    # A stranger's template runs in jinja2's sandbox, its code never. Whatever it does wrong, it
    # is no template for this.
    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            str(tokenizer), local_files_only=True, trust_remote_code=False
        )
        return loaded.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=False
        )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ImportingError(
            f"--tokenizer {tokenizer}: its chat template cannot be used: {reason}"
        ) from error
