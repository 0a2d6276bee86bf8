"""What a folder of Hugging Face's says of the model in it: shape, words, dialogues, pictures.

Nothing of a folder is run: no code that it carries, and of its chat template only what comes out
for a few made-up turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.data.text.chat_format import ChatFormat
from trainer.data.text.tokenizer import TextTokenizer
from trainer.hugging_face_configuration import HuggingFaceLanguage, HuggingFaceVisionLanguage
from trainer.models.hugging_face_common import first_blocks, shape_of
from trainer.models.hugging_face_images import FAMILIES, Family
from trainer.requirements import ConfigurationError

# What stands for words while a template is asked; text that no template has.
_SYSTEM, _USER, _ASSISTANT, _AGAIN = "@system@", "@user@", "@assistant@", "@again@"

_ROLES = {_SYSTEM: "system", _ASSISTANT: "assistant"}

# In which files an image processor, or a chat template beside one, may be.
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_TEMPLATES = "chat_template.json"

# What surrounds a picture's place holders in SmolVLM's prompts, where a picture is not cut up.
_SMOLVLM_AROUND = ("<fake_token_around_image><global-img>", "<fake_token_around_image>")


def read_language_folder(language: HuggingFaceLanguage) -> HuggingFaceLanguage:
    """With what its folder says. Raises ConfigurationError, DataError."""
    name = "model.language"
    config = model_config(language.path, language.gguf_file, f"{name}.path")
    vocabulary = config.get_text_config().vocab_size
    tokenizer = hub_tokenizer(language.path, language.gguf_file, name)
    chat = language.chat
    if chat == ChatFormat():
        chat = _dialogues(tokenizer, f"{name}.chat")
        chat = replace(chat, image=_free_token(tokenizer, chat, f"{name}.chat.image"))
    shape = shape_of(config, vocabulary)
    if language.num_blocks is not None:
        overrides = shape["overrides"]
        words = overrides.get("text_config", overrides)
        first_blocks(words, language.num_blocks, f"{name}.num_blocks")
    return replace(language, shape=shape, chat=chat)


def read_vision_language_folder(
    backbone: HuggingFaceVisionLanguage, *, answers: bool = False
) -> HuggingFaceVisionLanguage:
    """With what its folder says. answers: how whole dialogues are written, too, not only prompts.

    Raises ConfigurationError, DataError.
    """
    name = "model.backbone"
    config = model_config(backbone.path, None, f"{name}.path")
    if config.model_type not in FAMILIES:
        raise ConfigurationError(
            f"{name}.path: expected one of {', '.join(FAMILIES)}, got a {config.model_type!r} in "
            f"{backbone.path}"
        )
    chat = backbone.chat
    if chat == ChatFormat():
        tokenizer = hub_tokenizer(backbone.path, None, name)
        image = tokenizer.convert_ids_to_tokens(config.image_token_id)
        template = tokenizer.chat_template or _json(backbone.path, _TEMPLATES).get("chat_template")
        family = FAMILIES[config.model_type]
        chat = _prompts_with_images(tokenizer, template, image, family, name)
        if answers and template:
            chat = _dialogues_with_images(tokenizer, template, chat, image, family, f"{name}.chat")
    mean, std = backbone.image_mean, backbone.image_std
    if not (mean and std):
        processor = image_processor(backbone.path, name)
        mean, std = mean or processor["image_mean"], std or processor["image_std"]
    return replace(
        backbone,
        shape=shape_of(config, config.get_text_config().vocab_size),
        chat=chat,
        image_mean=tuple(map(float, mean)),
        image_std=tuple(map(float, std)),
    )


def folder_tokenizer(model: HuggingFaceLanguage | HuggingFaceVisionLanguage) -> TextTokenizer:
    """The words of a folder. Raises ConfigurationError, DataError."""
    is_language = isinstance(model, HuggingFaceLanguage)
    gguf_file = model.gguf_file if is_language else None
    name = "model.language" if is_language else "model.backbone"
    folder = _folder(model.path, f"{name}.path")
    if gguf_file is None and (folder / "tokenizer.json").is_file():
        return TextTokenizer(folder)
    made = hub_tokenizer(model.path, gguf_file, name)
    return TextTokenizer(folder / (gguf_file or ""), made.backend_tokenizer.to_str())


def hub_tokenizer(path: str, gguf_file: str | None, name: str) -> Any:
    from transformers import AutoTokenizer

    return _read(AutoTokenizer, path, gguf_file, f"{name}.path", "tokenizer")


def model_config(path: str, gguf_file: str | None, name: str) -> Any:
    """transformers' configuration of the model in a folder; name: of what says which, for errors.

    Raises ConfigurationError.
    """
    try:
        from transformers import AutoConfig
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{name}: transformers is not installed: pip install '.[backbones]' in Assay's checkout"
        ) from error
    return _read(AutoConfig, path, gguf_file, name, "configuration")


def _read(kind: Any, path: str, gguf_file: str | None, name: str, what: str) -> Any:
    folder = _folder(path, name)
    options: dict[str, Any] = {}
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise ConfigurationError(f"{name}: {folder} holds no file {gguf_file!r} (gguf_file)")
        options["gguf_file"] = gguf_file
    try:
        return kind.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True, **options
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{name}: no {what} in {folder}: {reason:.300}") from error


def _folder(path: str, name: str) -> Path:
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise ConfigurationError(
            f"{name}: expected the folder of a model of Hugging Face (hf download OWNER/NAME "
            f"--local-dir FOLDER fetches one), got {path!r}"
        )
    return folder


def _json(path: str, name: str) -> dict[str, Any]:
    """A file's object; an empty one where there is no such file."""
    file = Path(path).expanduser() / name
    if not file.is_file():
        return {}
    try:
        fields = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from error
    return fields if isinstance(fields, dict) else {}


def image_processor(path: str, name: str) -> Mapping[str, Any]:
    """What a folder says of how pictures are made numbers. name: of the model, for errors.

    Raises ConfigurationError.
    """
    for file in _PROCESSORS:
        fields = _json(path, file)
        fields = fields.get("image_processor", fields)
        if "image_mean" in fields and "image_std" in fields:
            return fields
    raise ConfigurationError(
        f"{name}.image_mean, image_std: expected them in one of {', '.join(_PROCESSORS)} of "
        f"{path}, got neither; give both"
    )


def _dialogues(tokenizer: Any, name: str) -> ChatFormat:
    """Of its chat template; without one, words and what ends them."""
    begin, end = tokenizer.bos_token or "", tokenizer.eos_token or ""
    if not tokenizer.chat_template:
        # As base models see text: a question, a line's end, an answer.
        begin = "" if begin == end else begin
        return ChatFormat(
            begin=begin,
            before_system=begin,
            after_system="\n",
            after_user="\n",
            after_assistant=end,
            end_of_text=end,
        )

    def written(*texts: str, answers: bool = False) -> str:
        turns = [{"role": _ROLES.get(text, "user"), "content": text} for text in texts]
        return _rendered(tokenizer, tokenizer.chat_template, turns, name, answers=answers)

    return replace(_around_words(written, name), end_of_text=end)


def _around_words(written: Callable[..., str], name: str) -> ChatFormat:
    """written: a dialogue of these words, each of the role that says them; with answers=True what
    the next answer follows, too."""
    asked = written(_USER)
    before_assistant = written(_USER, answers=True).removeprefix(asked)
    _, _, after_assistant = written(_USER, _ASSISTANT).rpartition(_ASSISTANT)
    dialogue = written(_USER, _ASSISTANT, _AGAIN)
    between = dialogue.partition(_ASSISTANT)[2].partition(_AGAIN)[0]
    before_user = between.removeprefix(after_assistant)
    opening, _, after_user = asked.partition(_USER)
    # Such as a space, which a tokenizer has as the beginning of a word.
    lead = dialogue.partition(_ASSISTANT)[0].removeprefix(asked + before_assistant)
    chat = ChatFormat(
        begin=opening.removesuffix(before_user),
        before_user=before_user,
        after_user=after_user,
        before_assistant=before_assistant,
        lead=lead,
        after_assistant=after_assistant,
    )
    parts = (chat.begin, before_user, _USER, after_user, before_assistant, lead, _ASSISTANT)
    parts = (*parts, after_assistant, before_user, _AGAIN, after_user)
    if "".join(parts) != dialogue or lead.strip():
        raise ConfigurationError(
            f"{name}: the chat template writes dialogues in a way that strings around the words "
            f"cannot say; give {name}.before_user and the like yourself"
        )
    try:
        before_system, _, rest = written(_SYSTEM, _USER).partition(_SYSTEM)
    except ConfigurationError:
        # Of models that know no such turn it is said by the user.
        before_system, rest = chat.begin + before_user, after_user + before_user + _USER
    after_system = rest.partition(_USER)[0].removesuffix(before_user)
    return replace(chat, before_system=before_system, after_system=after_system)


def _prompts_with_images(
    tokenizer: Any, template: str | None, image: str, family: Family, name: str
) -> ChatFormat:
    """Of a question about pictures: all that a policy says."""
    begin, end = tokenizer.bos_token or "", tokenizer.eos_token or ""
    if not template:
        # PaliGemma's: pictures, then the beginning, the question and a line's end.
        return ChatFormat(
            image=image,
            after_images=begin,
            after_user="\n",
            after_assistant=end,
            end_of_text=end,
        )

    def written(num_images: int) -> list[str]:
        """What stands before, between and behind the pictures."""
        content = [{"type": "image"}] * num_images + [{"type": "text", "text": _USER}]
        turns = [{"role": "user", "content": content}]
        text = _rendered(tokenizer, template, turns, f"{name}.chat", answers=True)
        parts = text.split(image)
        if len(parts) != num_images + 1 or text.count(_USER) != 1 or _USER not in parts[-1]:
            raise ConfigurationError(
                f"{name}.chat: expected a chat template that writes {image!r} for each picture and "
                f"the words behind them, got {text!r:.120}"
            )
        return parts

    before, behind = written(1)
    between = written(2)[1]
    after_images, _, after_user = behind.partition(_USER)
    first, last = _SMOLVLM_AROUND if family == "smolvlm" else ("", "")
    return ChatFormat(
        before_user=before + first,
        image=image,
        between_images=last + between + first,
        after_images=last + after_images,
        after_user=after_user,
        after_assistant=end,
        end_of_text=end,
    )


def _dialogues_with_images(
    tokenizer: Any, template: str, prompt: ChatFormat, image: str, family: Family, name: str
) -> ChatFormat:
    """Of whole dialogues. prompt: of a question about pictures, which says what is between them."""

    def written(*texts: str, answers: bool = False, num_images: int = 0) -> str:
        turns = [
            {
                "role": _ROLES.get(text, "user"),
                "content": [
                    *[{"type": "image"}] * (num_images if text == _USER else 0),
                    {"type": "text", "text": text},
                ],
            }
            for text in texts
        ]
        return _rendered(tokenizer, template, turns, name, answers=answers)

    chat = _around_words(written, name)
    before, _, behind = written(_USER, num_images=1).partition(image)
    after_images, _, after_user = behind.partition(_USER)
    if after_user != chat.after_user or not before.startswith(chat.begin):
        raise ConfigurationError(
            f"{name}: the chat template writes a question about a picture otherwise than one "
            f"without; give {name}.before_images and the like yourself"
        )
    first, last = _SMOLVLM_AROUND if family == "smolvlm" else ("", "")
    return replace(
        chat,
        before_images=before.removeprefix(chat.begin) + first,
        image=image,
        between_images=prompt.between_images,
        after_images=last + after_images,
        end_of_text=prompt.end_of_text,
    )


def _rendered(
    tokenizer: Any, template: str, turns: Sequence[Mapping[str, Any]], name: str, *, answers: bool
) -> str:
    try:
        # In a sandbox of jinja's.
        return tokenizer.apply_chat_template(
            list(turns), chat_template=template, tokenize=False, add_generation_prompt=answers
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{name}: the chat template cannot be used: {reason:.200}"
        ) from error


def _free_token(tokenizer: Any, chat: ChatFormat, name: str) -> str:
    """A special token that nothing says: text never becomes one."""
    said = "".join(vars(chat).values())
    marks = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    free = [token for token in added if token not in marks and token not in said]
    if not free:
        raise ConfigurationError(
            f"{name}: expected the name of a special token that text never holds, to stand for a "
            f"picture; there are {', '.join(added) or 'none'}"
        )
    return next((token for token in free if "image" in token), free[-1])
