"""The prompt that a policy of VLA Foundry was told, in words.

It is what the chat template makes of a user's message with pictures before the instruction; without
one it is `<image> ` for each picture and then the instruction.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.importing.errors import ImportingError

# As a prompt names a picture where no template does.
IMAGE_WORD = "<image>"
_TEMPLATE_FILE, _CONFIG_FILE = "chat_template.jinja", "tokenizer_config.json"
# Of a processor, older than the first.
_PROCESSOR_TEMPLATE_FILE = "chat_template.json"
# Stands for the instruction; nothing that a template says.
_STAND_IN = "zqxj"


def words_around(
    tokenizer: Path, num_images: int, *, image_word: str = IMAGE_WORD, is_processor: bool = False
) -> tuple[str, str]:
    """What stands before and after the instruction. tokenizer: its folder, as the hub has it.

    is_processor: the folder is a processor's, whose template, if it has one, comes first.
    Raises ImportingError.
    """
    template = None
    if is_processor and not (tokenizer / _TEMPLATE_FILE).is_file():
        template = _fields(tokenizer / _PROCESSOR_TEMPLATE_FILE).get("chat_template")
    if template is None and not _has_template(tokenizer):
        text = f"{IMAGE_WORD} " * num_images + _STAND_IN
    else:
        text = _rendered(tokenizer, num_images, template)
    parts = text.split(_STAND_IN)
    if len(parts) != 2 or parts[0].count(image_word) != num_images or image_word in parts[1]:
        raise ImportingError(
            f"--tokenizer {tokenizer}: expected a chat template that shows {num_images} times "
            f"{image_word} and then the instruction once, got {text!r:.200}"
        )
    return parts[0], parts[1]


def _has_template(tokenizer: Path) -> bool:
    if (tokenizer / _TEMPLATE_FILE).is_file():
        return True
    return bool(_fields(tokenizer / _CONFIG_FILE).get("chat_template"))


def _fields(file: Path) -> dict[str, Any]:
    """Empty where there is no such file. Raises ImportingError."""
    if not file.is_file():
        return {}
    try:
        fields = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ImportingError(f"{file}: not JSON: {error}") from error
    return fields if isinstance(fields, dict) else {}


def _rendered(tokenizer: Path, num_images: int, template: Any) -> str:
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise ImportingError(
            f"--tokenizer {tokenizer}: its chat template needs transformers: "
            "pip install '.[backbones]' in Assay's checkout"
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
            [{"role": "user", "content": content}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=False,
        )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ImportingError(
            f"--tokenizer {tokenizer}: its chat template cannot be used: {reason}"
        ) from error
