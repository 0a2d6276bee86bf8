"""What serving a policy of VLA Foundry takes, as a checkpoint's config.json holds it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from trainer.models.action.configuration import ObservationTokenConfig
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.hugging_face_images import Family, ImageTaking, image_token_of
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.policy_configuration import ServingConfig
from trainer.requirements import ConfigurationError, require, require_choice, require_positive
from trainer.training_configuration import WeightsFormat

ResizeMethod = Literal["center_crop", "resize_no_crop", "resize_fit"]

# Of a camera at a control step from now: scene_right_0_t-1.
_PICTURE = re.compile(r"(.+)_t(-[1-9][0-9]*|0)")
_MAX_PAST_STEPS = 1000
# Of a prompt; far more than any model reads.
_MAX_TOKENS = 100_000


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """How a camera's picture becomes the network's.

    Attributes:
        width: Pixels that it is resized to, by Lanczos' filter.
        height: Pixels that it is resized to.
        method: The whole stretched; its middle, to fill; or all of it on black, to fit.
        crop_width: Pixels of the middle that are then kept, at most.
        crop_height: Pixels of the middle that are then kept, at most.
        side: Of the square that it is then resized to, bilinearly; the own ViT's size follows.
    """

    width: int
    height: int
    method: ResizeMethod
    crop_width: int
    crop_height: int
    side: int

    def __post_init__(self) -> None:
        for name in ("width", "height", "crop_width", "crop_height", "side"):
            value = getattr(self, name)
            require(1 <= value <= 8192, f"picture.{name}", "1 to 8192 pixels", value)
        require_choice(self, method=get_args(ResizeMethod))


@dataclass(frozen=True, kw_only=True)
class FoundryShape(ABC):
    """The expert, and what the policy is shown and told.

    Attributes:
        expert: The network that denoises chunks.
        image_token: The vocabulary's place holder for one token of a picture.
        image_word: As the prompt's words spell it.
        pictures: In the prompt's order, each a camera and a control step from now:
            scene_right_0_t-1.
        picture: How a camera's picture becomes the network's.
        past_steps: Control steps before now whose actions are given.
        reads_proprioception: Whether the state, of those steps and now, is read.
        clamp: Chunks are kept within this of zero after each flow step; None for no bound.
        words_before: The prompt before the instruction, the image word for each picture.
        words_after: The prompt after the instruction.
        instruction_tokens: Longest instruction that can be told.
    """

    expert: ObservationTokenConfig
    image_token: int
    image_word: str
    pictures: tuple[str, ...]
    picture: PictureConfig
    past_steps: int
    reads_proprioception: bool
    clamp: float | None
    words_before: str
    words_after: str
    instruction_tokens: int = 96

    def __post_init__(self) -> None:
        tokens = self.instruction_tokens
        require(1 <= tokens <= _MAX_TOKENS, "instruction_tokens", f"1 to {_MAX_TOKENS}", tokens)
        steps = self.past_steps
        require(0 <= steps <= _MAX_PAST_STEPS, "past_steps", f"0 to {_MAX_PAST_STEPS}", steps)
        require(bool(self.pictures), "pictures", "at least one", self.pictures)
        for name in self.pictures:
            require(
                _PICTURE.fullmatch(name) is not None,
                "pictures",
                "CAMERA_t0, CAMERA_t-1 and so on",
                name,
            )
        oldest = min(step for _, step in self.places)
        require(
            oldest >= -_MAX_PAST_STEPS, "pictures", f"{_MAX_PAST_STEPS} steps ago or less", oldest
        )
        shown = len(self.pictures) * self.tokens_per_image
        require(shown <= _MAX_TOKENS, "pictures", f"at most {_MAX_TOKENS} tokens of them", shown)

    @property
    @abstractmethod
    def tokens_per_image(self) -> int: ...

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """Without the observation token."""

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Of each picture the camera, and the control step from now."""
        found = [_PICTURE.fullmatch(name) for name in self.pictures]
        return tuple((each[1], int(each[2])) for each in found if each is not None)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Each once, in the order of their first pictures."""
        return tuple(dict.fromkeys(camera for camera, _ in self.places))


@dataclass(frozen=True, kw_only=True)
class FoundryPolicyShape(FoundryShape):
    """On a vision-language model of VLA Foundry's own.

    Attributes:
        language: The language model.
        vision: The ViT and its connector, at the size that pictures are given to it.
    """

    language: LanguageConfig
    vision: VisionTransformerConfig

    def __post_init__(self) -> None:
        size = self.vision.image_size
        require(
            size % self.vision.token_size == 0,
            "vision.image_size",
            f"a multiple of {self.vision.token_size}",
            size,
        )
        super().__post_init__()

    @property
    def tokens_per_image(self) -> int:
        return self.vision.num_tokens(self.vision.image_size, self.vision.image_size)

    @property
    def vocabulary_size(self) -> int:
        return self.language.vocabulary_size


@dataclass(frozen=True, kw_only=True)
class FoundryHuggingFaceShape(FoundryShape):
    """On a vision-language model of Hugging Face's.

    Attributes:
        backbone: Its architecture, in transformers' words: `model_type` and `overrides`.
        normed_outputs: See HuggingFaceConfig.
        image_mean: Of each channel, from 0 to 1, that its image processor takes off.
        image_std: Of each channel, that it divides by.
    """

    backbone: Mapping[str, Any]
    normed_outputs: bool
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]

    def __post_init__(self) -> None:
        expected = {"model_type", "overrides"}
        require(
            set(self.backbone) == expected and isinstance(self.backbone["overrides"], Mapping),
            "backbone",
            "a model_type and its overrides",
            sorted(self.backbone),
        )
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            require(len(value) == 3, name, "three numbers, one a channel", value)
        require(all(self.image_std), "image_std", "no 0", self.image_std)
        own = image_token_of(self.backbone["overrides"])
        require(own == self.image_token, "image_token", f"{own!r}, its own", self.image_token)
        try:
            super().__post_init__()
            most = self.vocabulary_size
        except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
            raise ConfigurationError(f"backbone.overrides: no such model's: {error!r}") from error
        require(0 <= self.image_token < most, "image_token", f"below {most}", self.image_token)

    @property
    def family(self) -> Family:
        return self.taking.family

    @property
    def taking(self) -> ImageTaking:
        """How the model takes pictures, at the size that they are given to it."""
        return ImageTaking.of(
            **self.backbone,
            image_size=self.picture.side,
            mean=self.image_mean,
            std=self.image_std,
        )

    @property
    def network(self) -> HuggingFaceConfig:
        return HuggingFaceConfig(
            **self.backbone, normed_outputs=self.normed_outputs, prefix_sees_observation=True
        )

    @property
    def tokens_per_image(self) -> int:
        return self.taking.tokens_per_image

    @property
    def vocabulary_size(self) -> int:
        overrides = self.backbone["overrides"]
        return int(overrides.get("text_config", overrides)["vocab_size"])


@dataclass(frozen=True, kw_only=True)
class FoundryPolicyConfig:
    """A policy that VLA Foundry trained.

    Attributes:
        model: The network, and what it is shown and told.
        name: The policy's name, in reports.
        chunk_length: Control steps predicted at once, the current one included.
        weights_format: Numbers of the checkpoint's weights.
        serving: How it asks to be run.
    """

    kind: ClassVar[str] = "foundry_policy"

    model: FoundryPolicyShape | FoundryHuggingFaceShape
    name: str
    chunk_length: int
    weights_format: WeightsFormat = "float32"
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "chunk_length")
        require_choice(self, weights_format=get_args(WeightsFormat))
        require(
            self.serving.open_loop_steps <= self.chunk_length,
            "serving.open_loop_steps",
            f"at most chunk_length ({self.chunk_length})",
            self.serving.open_loop_steps,
        )
