"""Models of Hugging Face in a configuration: a folder to begin with, and what was read in it.

The folder is read once, when a run begins (`trainer.hugging_face_folder`). What it said is part of
the resolved configuration, so that a run that goes on and a checkpoint need it no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from trainer.data.text.chat_format import ChatFormat
from trainer.models.adaptation import AdaptationConfig
from trainer.models.configuration import MIN_IMAGE_SIDE
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.hugging_face_images import ImageTaking
from trainer.models.hugging_face_language import HuggingFaceLanguageConfig
from trainer.models.hugging_face_vision import HuggingFaceVisionConfig, PatchGrid
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import (
    ConvolutionalTowerConfig,
    TowerConfig,
)
from trainer.requirements import require, require_positive

# Read in a folder, so that nobody writes it on a command line.
_Read = Annotated[Mapping[str, Any], tyro.conf.Suppress]


@dataclass(frozen=True, kw_only=True)
class HuggingFaceLanguage:
    """A language model of Hugging Face's, in the place of our own.

    Attributes:
        path: Folder with its configuration, weights and tokenizer.
        gguf_file: Name of a GGUF file in it that holds all three; None for safetensors.
        num_blocks: Decoder blocks that are kept, from the first, as SmolVLA keeps half
            (arXiv:2506.01844); None for all.
        context_length: Tokens a sequence.
        adaptation: How much of it is trained.
        chat: How dialogues are written for it; left alone, as its folder says.
        shape: Its configuration, in transformers' words, as its folder says.
    """

    path: str = ""
    gguf_file: str | None = None
    num_blocks: int | None = None
    context_length: int = 512
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    chat: ChatFormat = field(default_factory=ChatFormat)
    shape: _Read = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, "context_length")
        if self.num_blocks is not None:
            require_positive(self, "num_blocks")
        _require_no_dropout(self.adaptation)

    @property
    def vocabulary_size(self) -> int:
        return int(self._overrides["vocab_size"])

    @property
    def transformer(self) -> TransformerConfig:
        """Its shape, as far as ours can say it."""
        return _transformer(self._overrides)

    @property
    def _overrides(self) -> Mapping[str, Any]:
        require_known(self.shape, "model.language")
        overrides = self.shape["overrides"]
        return overrides.get("text_config", overrides)

    def network(self, *, pretrained: bool) -> HuggingFaceLanguageConfig:
        """pretrained: with the weights of the folder, not with random ones."""
        require_known(self.shape, "model.language")
        if pretrained:
            return HuggingFaceLanguageConfig(
                path=self.path,
                gguf_file=self.gguf_file,
                num_blocks=self.num_blocks,
                adaptation=self.adaptation,
            )
        return HuggingFaceLanguageConfig(**self.shape, adaptation=self.adaptation)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceVisionLanguage:
    """A vision-language model of Hugging Face's: Qwen-VL, SmolVLM or PaliGemma.

    Attributes:
        path: Folder with its configuration, weights, tokenizer and image processor.
        adaptation: How much of it is trained.
        chat: How dialogues are written for it; left alone, as its folder says.
        image_mean: Of each channel, from 0 to 1, as its image processor has it.
        image_std: The deviation that each channel is divided by, likewise.
        shape: Its configuration, in transformers' words, as its folder says.
    """

    path: str = ""
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    chat: ChatFormat = field(default_factory=ChatFormat)
    image_mean: tuple[float, ...] = ()
    image_std: tuple[float, ...] = ()
    shape: _Read = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_no_dropout(self.adaptation)
        _require_channels(self.image_mean, self.image_std)

    @property
    def vocabulary_size(self) -> int:
        return int(self._words["vocab_size"])

    @property
    def transformer(self) -> TransformerConfig:
        """The shape of its language model, as far as ours can say it."""
        return _transformer(self._words)

    @property
    def _words(self) -> Mapping[str, Any]:
        """Of its configuration, what is of its language model."""
        require_known(self.shape, "model.backbone")
        overrides = self.shape["overrides"]
        return overrides.get("text_config", overrides)

    def pictures(self, image_size: int) -> ImageTaking:
        """Raises ConfigurationError for an architecture or a size that cannot be."""
        require_known(self.shape, "model.backbone")
        return ImageTaking.of(
            **self.shape, image_size=image_size, mean=self.image_mean, std=self.image_std
        )

    def network(self, *, pretrained: bool) -> HuggingFaceConfig:
        """pretrained: with the weights of the folder, not with random ones."""
        require_known(self.shape, "model.backbone")
        if pretrained:
            return HuggingFaceConfig(path=self.path, adaptation=self.adaptation)
        return HuggingFaceConfig(**self.shape, adaptation=self.adaptation)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceVision:
    """A vision tower of Hugging Face's, in the place of our own ViT: CLIP, SigLIP or DINOv2.

    Attributes:
        path: Folder with its configuration, weights and image processor.
        adaptation: How much of it is trained.
        shuffle_factor: Patches a side that the connector makes one token.
        image_mean: Of each channel, from 0 to 1, as its image processor has it.
        image_std: The deviation that each channel is divided by, likewise.
        shape: Its configuration, in transformers' words, as its folder says.
    """

    path: str = ""
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    shuffle_factor: int = 1
    image_mean: tuple[float, ...] = ()
    image_std: tuple[float, ...] = ()
    shape: _Read = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, "shuffle_factor")
        _require_no_dropout(self.adaptation)
        _require_channels(self.image_mean, self.image_std)

    @property
    def is_known(self) -> bool:
        """Whether its folder has been read."""
        return bool(self.shape)

    def num_tokens(self, height: int, width: int) -> int:
        """Of the language model, for an image of so many pixels. Raises ConfigurationError."""
        require_known(self.shape, "model.vision")
        grid = PatchGrid.of(**self.shape, shuffle_factor=self.shuffle_factor)
        return grid.num_tokens(height, width)

    def network(self, *, pretrained: bool) -> HuggingFaceVisionConfig:
        """pretrained: with the weights of the folder, not with random ones."""
        require_known(self.shape, "model.vision")
        return HuggingFaceVisionConfig(
            **({"path": self.path} if pretrained else self.shape),
            adaptation=self.adaptation,
            image_mean=self.image_mean,
            image_std=self.image_std,
            shuffle_factor=self.shuffle_factor,
        )


def _transformer(shape: Mapping[str, Any]) -> TransformerConfig:
    return TransformerConfig(
        width=int(shape["hidden_size"]),
        depth=int(shape["num_hidden_layers"]),
        num_heads=int(shape["num_attention_heads"]),
        num_key_value_heads=shape.get("num_key_value_heads"),
        head_width=shape.get("head_dim"),
        feed_forward_width=shape.get("intermediate_size"),
    )


def require_known(shape: Mapping[str, Any], name: str) -> None:
    """Raises ConfigurationError where no folder has been read."""
    require(
        set(shape) == {"model_type", "overrides"},
        f"{name}.path",
        "the folder of a model of Hugging Face, or a checkpoint of one to begin with (init)",
        "neither",
    )


def _require_no_dropout(adaptation: AdaptationConfig) -> None:
    require(
        adaptation.dropout == 0,
        "adaptation.dropout",
        "0 in a run: a resume would not drop the same",
        adaptation.dropout,
    )


def _require_channels(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    for name, value in (("image_mean", mean), ("image_std", std)):
        require(len(value) in (0, 3), name, "three numbers, one a channel", value)
    require(all(std), "image_std", "no 0", std)


AnyLanguage = LanguageConfig | HuggingFaceLanguage


def language_network(
    language: AnyLanguage, *, pretrained: bool
) -> LanguageConfig | HuggingFaceLanguageConfig:
    """What a language model of either kind is built from."""
    if isinstance(language, LanguageConfig):
        return language
    return language.network(pretrained=pretrained)


def chat_of(language: AnyLanguage) -> ChatFormat | None:
    """How dialogues are written for it; None for ours."""
    return None if isinstance(language, LanguageConfig) else language.chat


AnyVision = TowerConfig | HuggingFaceVision


def vision_network(vision: AnyVision, *, pretrained: bool) -> TowerConfig | HuggingFaceVisionConfig:
    """What a vision tower of any kind is built from."""
    if isinstance(vision, HuggingFaceVision):
        return vision.network(pretrained=pretrained)
    return vision


def require_image_size(vision: AnyVision, image_size: int) -> None:
    """Raises ConfigurationError for pictures that the tower does not take."""
    if isinstance(vision, HuggingFaceVision):
        if vision.is_known:
            vision.num_tokens(image_size, image_size)
        return
    if isinstance(vision, ConvolutionalTowerConfig):
        require(
            image_size >= MIN_IMAGE_SIDE,
            "model.image_size",
            f"{MIN_IMAGE_SIDE} or more",
            image_size,
        )
        return
    size = vision.token_size
    require(
        image_size % size == 0,
        "model.image_size",
        f"a multiple of {size} (vision.patch_size x vision.shuffle_factor)",
        image_size,
    )
