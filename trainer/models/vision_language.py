"""A vision-language model: a vision tower, a connector, and a language model that reads both.

Axes: B sample, S token, D width of a word, N image, C channel, H height, W width, T image token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.models.backbone import BackboneFeatures, VisionLanguageInput
from trainer.models.hugging_face_language import (
    HuggingFaceLanguageConfig,
    HuggingFaceLanguageModel,
)
from trainer.models.hugging_face_vision import HuggingFaceVisionConfig, HuggingFaceVisionTower
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.generation import GenerationConfig, generate
from trainer.models.language.language_model import LanguageModel, LanguageOutput
from trainer.models.language.masks import AttentionMask
from trainer.models.vision.configuration import (
    ConvolutionalTowerConfig,
    TowerConfig,
    VisionTransformerConfig,
)
from trainer.models.vision.connector import Connector
from trainer.models.vision.convolutional_tower import ConvolutionalTower
from trainer.models.vision.modulation import Modulation
from trainer.models.vision.vision_transformer import VisionTransformer
from trainer.requirements import require


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig:
    """A vision tower whose tokens stand among a language model's words.

    Attributes:
        language: The language model: our own, or one of Hugging Face's.
        vision: The tower, one of our own or of Hugging Face's, and its connector.
        image_token: The vocabulary's place holder for one token of an image.
        bidirectional_prefix: Whether images and prompt see each other in both directions, as in
            PaliGemma; the answer stays causal.
    """

    language: LanguageConfig | HuggingFaceLanguageConfig
    vision: TowerConfig | HuggingFaceVisionConfig
    image_token: int
    bidirectional_prefix: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.language, LanguageConfig):
            self.require_image_token(self.language.vocabulary_size)

    def require_image_token(self, size: int) -> None:
        """Of Hugging Face's models the vocabulary's size is known once they are there."""
        require(
            0 <= self.image_token < size,
            "image_token",
            f"a token of the vocabulary (0 to {size - 1})",
            self.image_token,
        )


class VisionLanguageModel(nn.Module):
    """Tokens and images to what comes next, and to features that an action expert reads.

    always_sees: whether a batch without images computes the tower all the same, on a blank one that
    changes nothing. Of several ranks that hold a part each, all have to compute what one does.
    """

    always_sees = False

    def __init__(self, config: VisionLanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.vision: VisionTransformer | ConvolutionalTower | HuggingFaceVisionTower
        if isinstance(config.vision, VisionTransformerConfig):
            self.vision = VisionTransformer(config.vision)
        elif isinstance(config.vision, ConvolutionalTowerConfig):
            self.vision = ConvolutionalTower(config.vision)
        else:
            self.vision = HuggingFaceVisionTower(config.vision)
        self.language: LanguageModel | HuggingFaceLanguageModel
        if isinstance(config.language, LanguageConfig):
            self.language = LanguageModel(config.language)
        else:
            self.language = HuggingFaceLanguageModel(config.language)
            config.require_image_token(self.language.vocabulary_size)
        self.connector = Connector(
            self.vision.width, config.vision.shuffle_factor, self.language.width
        )
        # Not a row of the vocabulary, so that it can be added to a trained model as it is.
        self.observation_token = nn.Parameter(torch.empty(self.language.width))
        self.reset_observation_token()
        self.modulation = self._modulation()

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def depth(self) -> int:
        return self.language.depth

    def _modulation(self) -> Modulation | None:
        tower = self.vision
        if not (isinstance(tower, ConvolutionalTower) and tower.config.modulated_views):
            return None
        return Modulation(
            self.language.width,
            num_views=tower.config.modulated_views,
            width=tower.config.modulation_width,
            channels=tower.convolutions.normalised_channels,
        )

    def reset_observation_token(self) -> None:
        """The mean word: where nothing has been learned, nothing is singled out."""
        with torch.no_grad():
            self.observation_token.copy_(self.language.embedding.weight.mean(dim=0))

    def checkpoint_activations(self, enabled: bool = True) -> None:
        self.vision.checkpoint_activations(enabled)
        self.language.checkpoint_activations(enabled)

    def compile_blocks(self, **options: object) -> None:
        self.vision.compile_blocks(**options)
        self.language.compile_blocks(**options)

    def embed(
        self, token_BS: Tensor, image_NCHW: Tensor | None, told_BS: Tensor | None = None
    ) -> Tensor:
        """(B, S, D): words, and the images' tokens in their places.

        `told_BS`: the tokens that may decide how the images are read, theirs left out; None for
        images as they are.
        """
        embedded_BSD = self.language.embed(token_BS)
        is_image_BS = token_BS == self.config.image_token
        if image_NCHW is None:
            _require_equal(is_image_BS, 0, "no images were given")
            return self._with_nothing_seen(embedded_BSD) if self.always_sees else embedded_BSD
        if told_BS is None or self.modulation is None:
            patch_NhwD = self.vision(image_NCHW)
        else:
            _require_views(self.modulation, len(image_NCHW), len(token_BS))
            looks = self.modulation(embedded_BSD, told_BS & ~is_image_BS)
            patch_NhwD = self.vision(image_NCHW, looks)
        image_NTD = self.connector(patch_NhwD)
        num_images, per_image = image_NTD.shape[:2]
        _require_equal(
            is_image_BS,
            num_images * per_image,
            f"{num_images} images of {tuple(image_NCHW.shape[-2:])} pixels make {per_image} each",
        )
        # The n-th image token of the batch takes the n-th of the images': no wait for the GPU.
        index_BS = (is_image_BS.flatten().cumsum(0) - 1).clamp(min=0).view_as(token_BS)
        scattered_BSD = image_NTD.flatten(0, 1)[index_BS]
        return torch.where(
            is_image_BS[..., None], scattered_BSD.to(embedded_BSD.dtype), embedded_BSD
        )

    def _with_nothing_seen(self, embedded_BSD: Tensor) -> Tensor:
        """As it was, by way of the tower and the connector, whose gradients are nought."""
        size = self.vision.image_size
        blank_1CHW = torch.zeros(1, 3, size, size, device=embedded_BSD.device)
        seen_1TD = self.connector(self.vision(blank_1CHW))
        return embedded_BSD + (0 * seen_1TD.sum()).to(embedded_BSD.dtype)

    def forward(
        self,
        inputs: VisionLanguageInput,
        *,
        label_BS: Tensor | None = None,
        prefix_B: Tensor | None = None,
        document_BS: Tensor | None = None,
        position_BS: Tensor | None = None,
        is_prefix_BS: Tensor | None = None,
    ) -> LanguageOutput:
        """`prefix_B`: how many tokens of each sample are images and prompt.

        `position_BS`: from 0 in each of several documents. `is_prefix_BS`: which tokens of theirs
        are images and prompt.
        """
        return self.language(
            embedded_BSD=self.embed(inputs.token_BS, inputs.images),
            label_BS=label_BS,
            mask=self._mask(inputs.valid_BS, prefix_B, document_BS, is_prefix_BS),
            position_BS=position_BS,
        )

    def features(
        self,
        inputs: VisionLanguageInput,
        *,
        num_layers: int,
        with_observation_token: bool = False,
        with_keys_values: bool = False,
    ) -> BackboneFeatures:
        """See `Backbone.features`; the outputs are the blocks' own, before the final norm."""
        valid_BS = inputs.valid
        embedded_BSD = self.embed(inputs.token_BS, inputs.images, valid_BS)
        # All of it is images and prompt; padding is hidden by its own rule.
        prefix_B = torch.full_like(valid_BS[:, 0], valid_BS.shape[1], dtype=torch.long)
        if with_observation_token:
            token_B1D = self.observation_token.to(embedded_BSD.dtype).expand(
                len(embedded_BSD), 1, -1
            )
            embedded_BSD = torch.cat([embedded_BSD, token_B1D], dim=1)
            valid_BS = torch.cat([valid_BS, torch.ones_like(valid_BS[:, :1])], dim=1)
        is_padded = inputs.valid_BS is not None
        output = self.language(
            embedded_BSD=embedded_BSD,
            mask=self._mask(valid_BS if is_padded else None, prefix_B, None),
            # Padding takes no position: the same sample has the same features however it is padded.
            position_BS=(valid_BS.cumsum(dim=1) - 1).clamp(min=0) if is_padded else None,
            num_layers=num_layers,
            with_keys_values=with_keys_values,
        ).transformer
        return BackboneFeatures(
            layers=output.layers,
            valid_BS=valid_BS,
            keys_values=output.keys_values,
            next_position_B=valid_BS.sum(dim=1),
        )

    def generate(
        self,
        inputs: VisionLanguageInput,
        config: GenerationConfig,
        *,
        prefix_B: Tensor | None = None,
    ) -> Tensor:
        """New tokens (B, up to max_new_tokens); prompts are padded in front."""
        with torch.no_grad():
            embedded_BSD = self.embed(inputs.token_BS, inputs.images)
        if self.config.bidirectional_prefix and prefix_B is None:
            length = inputs.token_BS.shape[1]
            prefix_B = torch.full((len(embedded_BSD),), length, device=embedded_BSD.device)
        return generate(
            self.language,
            inputs.token_BS,
            config,
            valid_BS=inputs.valid_BS,
            embedded_BSD=embedded_BSD,
            prefix_B=prefix_B if self.config.bidirectional_prefix else None,
        )

    def _mask(
        self,
        valid_BS: Tensor | None,
        prefix_B: Tensor | None,
        document_BS: Tensor | None,
        is_prefix_BS: Tensor | None = None,
    ) -> AttentionMask:
        sees_both_ways = self.config.bidirectional_prefix
        return AttentionMask(
            document_BK=document_BS,
            prefix_B=prefix_B if sees_both_ways else None,
            is_prefix_BK=is_prefix_BS if sees_both_ways else None,
            valid_BK=valid_BS,
        )


def _require_views(modulation: Modulation, num_images: int, num_samples: int) -> None:
    if num_images != modulation.num_views * num_samples:
        raise ValueError(
            f"expected {modulation.num_views} images a sample (modulated_views), got {num_images} "
            f"of {num_samples} samples"
        )


def _require_equal(is_image_BS: Tensor, expected: int, why: str) -> None:
    """Checked on a CPU alone: on a GPU the host would wait for everything before it."""
    if is_image_BS.device.type == "cpu" and not torch.compiler.is_compiling():
        got = int(is_image_BS.sum())
        if got != expected:
            raise ValueError(
                f"the text has {got} image tokens, expected {expected}: {why}; "
                "put as many image tokens where each image stands"
            )
