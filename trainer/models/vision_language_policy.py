"""A vision-language-action model as a policy's network: cameras, state and instruction to chunks.

Axes: B sample, S token of the prompt, C camera, T timestep, A numbers an action, N numbers of what
is known of the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.history_configuration import HistoryConfig
from trainer.models.action.configuration import ActionSpaceConfig, Prediction
from trainer.models.backbone import VisionLanguageInput
from trainer.models.chunk_policy import NO_TOKEN, ChunkPolicy, Scene
from trainer.models.expert_head import ExpertHead, Known, scene_of
from trainer.models.vision_language_action import VisionLanguageAction
from trainer.vision_language_action_configuration import (
    HuggingFaceActionShape,
    VisionLanguageActionShape,
)


class VisionLanguagePolicy(ChunkPolicy):
    """cameras: in the order in which the prompt shows those of one step. action_size: A, which a
    state's is too. history: what is seen and known of past steps; None for nothing.

    image_token: the vocabulary's place holder for one token of an image. pretrained: see
    `VisionLanguageActionShape.network`.
    """

    def __init__(
        self,
        shape: VisionLanguageActionShape | HuggingFaceActionShape,
        *,
        cameras: Sequence[str],
        chunk_length: int,
        action_size: int,
        image_token: int,
        history: HistoryConfig | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        history = HistoryConfig() if history is None else history
        self.picture_names = tuple(history.pictures(cameras))
        self._past_steps, self._action_size = history.past_steps, action_size
        self._image_size = shape.image_size
        if isinstance(shape, VisionLanguageActionShape):
            shape.require_views(len(self.picture_names))
        self._predicts: Prediction = shape.predicts
        space = ActionSpaceConfig(
            action_size=action_size,
            chunk_length=history.past_steps + chunk_length,
            proprioception_size=action_size if history.proprioception else 0,
            proprioception_steps=history.past_steps + 1 if history.proprioception else 1,
        )
        self._image_token = image_token
        self.bound = shape.action_clamp
        self._pictures = None
        if isinstance(shape, HuggingFaceActionShape):
            self._pictures = shape.backbone.pictures(shape.image_size)
        self.model = VisionLanguageAction(
            shape.network(image_token=image_token, space=space, pretrained=pretrained)
        )

    @property
    def chunk_head(self) -> ExpertHead:
        return ExpertHead(self.model.expert, self._predicts)

    def inputs(self, images: Mapping[str, Tensor], token_BS: Tensor | None) -> VisionLanguageInput:
        """Images (B, 3, H, W) by name become squares, those of one sample side by side."""
        if token_BS is None:
            raise ValueError("this policy is told what to do: expected a prompt, got none")
        image_NCHW = squares(images, self.picture_names, self._image_size)
        valid_BS, token_BS = token_BS != NO_TOKEN, token_BS.clamp(min=0)
        if self._pictures is None:
            return VisionLanguageInput(token_BS=token_BS, valid_BS=valid_BS, images=image_NCHW)
        return self._pictures.inputs(image_NCHW, token_BS, valid_BS, image_token=self._image_token)

    def encode(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        token_BS: Tensor | None = None,
    ) -> Scene:
        """What the expert reads."""
        features = self.model.observe(self.inputs(images, token_BS))
        return scene_of(self.model.expert, features, self.known(proprioception_BP))

    def known(self, number_BN: Tensor) -> Known:
        """See `RobotTransform.encode_history`."""
        return Known.of(number_BN, past_steps=self._past_steps, action_size=self._action_size)

    def start(self, noise_BTA: Tensor) -> Tensor:
        """Within the bound, as all that the expert saw in training."""
        return noise_BTA if self.bound is None else noise_BTA.clamp(-self.bound, self.bound)

    def compile_parts(self) -> None:
        self.model.compile_blocks()


def squares(images: Mapping[str, Tensor], cameras: Sequence[str], side: int) -> Tensor:
    """(N, 3, side, side) of images (B, 3, H, W) by camera, those of one sample side by side."""
    size = (side, side)
    resized = [
        images[name]
        if images[name].shape[-2:] == size
        else functional.interpolate(
            images[name], size, mode="bilinear", antialias=True, align_corners=False
        )
        for name in cameras
    ]
    return torch.stack(resized, dim=1).flatten(0, 1)
