"""What a Hugging Face processor made of pictures and words for a policy of VLA Foundry.

Pictures are served at the size that the original cuts them to: where its processor would resample
them, by a filter of its own, the import is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.hugging_face_folder import hub_tokenizer, image_processor
from trainer.importing.errors import ImportingError
from trainer.importing.foundry_prompt import words_around
from trainer.importing.foundry_shapes import Section
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.hugging_face_images import FAMILIES, ImageTaking, image_token_of

# VLA Foundry's own, which a policy on a SmolVLM may have.
SIMPLE = "simple_vlm"
_NO_HUGGING_FACE = (SIMPLE, "none", "debug", "stable_diffusion")
_SIMPLE_MEAN = _SIMPLE_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Processed:
    """side: pixels of the square that a picture is. mean, std: by channel, from 0 to 1.

    image_word: as the words name a picture. before, after: the words around the instruction.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_word: str
    before: str
    after: str


def processed_by(
    config: HuggingFaceConfig,
    data: Section,
    folder: Path,
    *,
    num_images: int,
    cut_to: tuple[int, int],
) -> Processed:
    """folder: the processor's. cut_to: width and height that pictures have before it.

    Raises ImportingError, ConfigurationError.
    """
    assert config.model_type is not None
    family = FAMILIES[config.model_type]
    tokenizer = hub_tokenizer(str(folder), None, "--tokenizer")
    word = tokenizer.convert_ids_to_tokens(image_token_of(config.overrides))
    if not isinstance(word, str):
        raise ImportingError(
            f"--tokenizer {folder}: it has no word for a picture, as the model has"
        )
    kind = data.fields.get("processor")
    if family == "smolvlm":
        # Its own processor cuts pictures into tiles.
        data.require("processor", None, SIMPLE)
        before, after = words_around(folder, num_images, image_word=word)
        side, mean, std = data.get("image_size", 224), _SIMPLE_MEAN, _SIMPLE_STD
    else:
        if kind in (None, *_NO_HUGGING_FACE):
            raise data.unexpected("processor", "that of a Hugging Face model", kind)
        before, after = words_around(folder, num_images, image_word=word, is_processor=True)
        if family == "paligemma":
            # Where its pictures end a text begins, and a line's end is behind it.
            pictures, _, rest = before.rpartition(word)
            before, after = f"{pictures}{word}{tokenizer.bos_token}{rest}", f"{after}\n"
        fields = Section(image_processor(str(folder), "--tokenizer"), "preprocessor_config.json")
        side = _require_as_cut(family, data.part("processor_kwargs"), fields, cut_to)
        mean, std = (_three(fields, name) for name in ("image_mean", "image_std"))
    tokens = ImageTaking.of(
        config.model_type, config.overrides, image_size=side, mean=mean, std=std
    ).tokens_per_image
    if family != "qwen" and data.get("img_num_tokens", 256) != tokens:
        raise data.unexpected(
            "img_num_tokens", f"{tokens}, as the model has", data.fields.get("img_num_tokens")
        )
    return Processed(side=side, mean=mean, std=std, image_word=word, before=before, after=after)


def _require_as_cut(family: str, options: Section, fields: Section, cut_to: tuple[int, int]) -> int:
    """The side of the squares that pictures are: they stay of the size that they were cut to."""
    for name in options.fields:
        if name not in ("do_resize", "size"):
            raise options.unexpected(str(name), "nothing", options.fields[name])
    for name in ("do_rescale", "do_normalize"):
        fields.require(name, True, True)
    if abs(fields.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise fields.unexpected("rescale_factor", "1/255", fields.fields["rescale_factor"])
    width, height = cut_to
    if width != height:
        raise ImportingError(
            f"config.yaml.data.augmentation.image.crop: expected squares, got {width}x{height}"
        )
    is_resized = options.get("do_resize", fields.get("do_resize", True))
    size: Mapping[str, Any] = {**fields.part("size").fields, **options.part("size").fields}
    if family == "paligemma":
        kept = size.get("height") == height and size.get("width") == width
    else:
        least = size.get("shortest_edge") or fields.fields.get("min_pixels")
        most = size.get("longest_edge") or fields.fields.get("max_pixels")
        kept = isinstance(least, int) and isinstance(most, int) and least <= width * height <= most
    if is_resized and not kept:
        raise ImportingError(
            f"config.yaml.data.processor_kwargs: the processor would resample pictures of "
            f"{width}x{height} to its size ({dict(size)!r:.120}), which is not done here alike: "
            "expected do_resize: false, or that size"
        )
    return width


def _three(section: Section, name: str) -> tuple[float, ...]:
    values = section.fields.get(name)
    if not isinstance(values, list) or len(values) != 3:
        raise section.unexpected(name, "three numbers, one a channel", values)
    try:
        return tuple(float(each) for each in values)
    except (TypeError, ValueError):
        raise section.unexpected(name, "three numbers, one a channel", values) from None
