"""A policy of VLA Foundry as a policy's network.

Its chunk begins with actions of the past, which are given; those to come are asked for. Its times
are rows of a table: it begins with the last of n rows, and a step of length h goes down h n rows,
so that flow time 1 - s is row s n - 1.

Axes: B sample, S token of the prompt, P past timestep, T timestep to come, A numbers an action,
Q numbers of what is known of the body.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from trainer.foundry.configuration import FoundryHuggingFaceShape, FoundryPolicyShape
from trainer.models.action.configuration import ActionSpaceConfig, FlowConfig, TimeConfig
from trainer.models.action.observation_token_expert import ObservationTokenExpert
from trainer.models.backbone import VisionLanguageInput
from trainer.models.chunk_policy import NO_TOKEN, ChunkPolicy, Scene
from trainer.models.expert_head import ExpertHead, Known, scene_of
from trainer.models.vision_language import VisionLanguageConfig
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)


class FoundryPolicy(ChunkPolicy):
    """chunk_length: T. action_size: A."""

    def __init__(
        self,
        shape: FoundryPolicyShape | FoundryHuggingFaceShape,
        *,
        chunk_length: int,
        action_size: int,
    ) -> None:
        super().__init__()
        self.bound = shape.clamp
        self._shape, self._action_size = shape, action_size
        self.model = VisionLanguageAction(network_config(shape, chunk_length, action_size))

    @property
    def chunk_head(self) -> ExpertHead:
        expert = self.model.expert
        assert isinstance(expert, ObservationTokenExpert)
        return ExpertHead(expert, "velocity", time_offset=-1 / expert.config.num_times)

    def inputs(self, images: Mapping[str, Tensor], token_BS: Tensor) -> VisionLanguageInput:
        """Images (B, 3, H, W) by picture; those of one sample side by side, resized as the original
        does: to the processor's size, then to the own ViT's, without smoothing."""
        shape = self._shape
        sides = [shape.picture.side]
        if isinstance(shape, FoundryPolicyShape):
            sides.append(shape.vision.image_size)
        resized = []
        for name in shape.pictures:
            image_B3HW = images[name]
            for side in sides:
                if image_B3HW.shape[-2:] != (side, side):
                    image_B3HW = functional.interpolate(
                        image_B3HW, size=(side, side), mode="bilinear", align_corners=False
                    )
            resized.append(image_B3HW)
        image_NCHW = torch.stack(resized, dim=1).flatten(0, 1)
        valid_BS, token_BS = token_BS != NO_TOKEN, token_BS.clamp(min=0)
        if isinstance(shape, FoundryHuggingFaceShape):
            return shape.taking.inputs(
                image_NCHW, token_BS, valid_BS, image_token=shape.image_token
            )
        return VisionLanguageInput(token_BS=token_BS, valid_BS=valid_BS, images=image_NCHW)

    def encode(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        token_BS: Tensor | None = None,
    ) -> Scene:
        """proprioception_BP: past actions, the oldest first, then states, side by side."""
        if token_BS is None:
            raise ValueError("this policy is told what to do: expected a prompt, got none")
        features = self.model.observe(self.inputs(images, token_BS))
        known = Known.of(
            proprioception_BP, past_steps=self._shape.past_steps, action_size=self._action_size
        )
        return scene_of(self.model.expert, features, known)

    def compile_parts(self) -> None:
        self.model.compile_blocks()


def network_config(
    shape: FoundryPolicyShape | FoundryHuggingFaceShape, chunk_length: int, action_size: int
) -> VisionLanguageActionConfig:
    times = TimeConfig(num_levels=shape.expert.num_times)
    return VisionLanguageActionConfig(
        backbone=shape.network
        if isinstance(shape, FoundryHuggingFaceShape)
        else VisionLanguageConfig(
            language=shape.language, vision=shape.vision, image_token=shape.image_token
        ),
        expert=shape.expert,
        space=ActionSpaceConfig(
            action_size=action_size,
            chunk_length=shape.past_steps + chunk_length,
            proprioception_size=action_size if shape.reads_proprioception else 0,
            proprioception_steps=shape.past_steps + 1,
        ),
        objective=FlowConfig(time=times, clamp=shape.clamp),
    )
