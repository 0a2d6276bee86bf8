"""What a policy on a vision-language model has to multiply in training.

Products of matrices are counted, two operations for each: forward, and backward what the trained
parameters ask for: the gradient by a weight that learns, and that by an input that something which
learns has made. Nothing is counted that is computed twice to save memory, and of attention only
what one token may see of another; padding of prompts counts.
"""

from __future__ import annotations

from torch import nn

from trainer.models.action.cross_attention_expert import CrossAttentionExpert
from trainer.models.action.observation_token_expert import ObservationTokenExpert
from trainer.models.hugging_face_vision import HuggingFaceVisionTower
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.transformer import Block, Transformer
from trainer.models.vision.convolutional_tower import ConvolutionalTower
from trainer.models.vision.group_norm import GroupNorm
from trainer.models.vision.modulation import Modulation
from trainer.models.vision.vision_transformer import VisionTransformer
from trainer.models.vision_language import VisionLanguageModel
from trainer.models.vision_language_action import VisionLanguageAction


def training_flops_per_window(
    network: VisionLanguageAction,
    *,
    num_images: int,
    image_size: int,
    prompt_length: int,
    repeats: int,
) -> float:
    """prompt_length: tokens, images' included. repeats: draws for each observation.

    0 where a part is Hugging Face's, which nobody has counted.
    """
    backbone = network.backbone
    if not isinstance(backbone, VisionLanguageModel):
        return 0.0
    vision, language = backbone.vision, backbone.language
    if isinstance(vision, HuggingFaceVisionTower) or not isinstance(language, LanguageModel):
        return 0.0
    expert, count = network.expert, _Count()
    reads_token = isinstance(expert, ObservationTokenExpert)
    looks = backbone.modulation is not None and count.modulation(
        backbone.modulation, _learns(language.embedding)
    )
    seen = (
        count.vision(vision, num_images, image_size)
        if isinstance(vision, VisionTransformer)
        else count.convolutional_tower(vision, num_images, image_size, looks)
    )
    num_image_tokens = num_images * vision.config.num_tokens(image_size, image_size)
    shown = count.matrix(backbone.connector.projection, num_image_tokens, seen)
    read = count.blocks(
        language.transformer,
        prompt_length + reads_token,
        shown or _learns(language.embedding) or (_learns(backbone) and reads_token),
        half=not backbone.config.bidirectional_prefix,
        keys_values_alone=expert.reads_keys_values,
    )
    if isinstance(expert, ObservationTokenExpert):
        count.observation_token_expert(expert, repeats, read)
    else:
        count.cross_attention_expert(expert, prompt_length, repeats, read)
    return count.flops


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


class _Count:
    """flops: of what was added so far. Whoever adds is told whether something that learns has made
    the input (`before`), and tells it of the output."""

    def __init__(self) -> None:
        self.flops = 0.0

    def matrix(self, module: nn.Linear | nn.Conv2d, rows: int, before: bool) -> bool:
        """rows: of a product with the weight, or places of its kernel."""
        own = module.weight.requires_grad
        self.flops += 2 * rows * module.weight.numel() * (1 + own + before)
        return before or _learns(module)

    def blocks(
        self,
        transformer: Transformer,
        num_tokens: int,
        before: bool,
        *,
        times: int = 1,
        num_others: int = 0,
        half: bool = False,
        keys_values_alone: bool = False,
    ) -> bool:
        """times: sequences of so many tokens. num_others: tokens that each sees besides.

        half: whether a token sees but those before it. keys_values_alone: whether that is all that
        is read of the last block.
        """
        config = transformer.config
        seen = num_others + (num_tokens / 2 if half else num_tokens)
        pairs = 4 * config.num_heads * config.width_of_head * times * num_tokens * seen
        for block in transformer.blocks:
            is_read = not (keys_values_alone and block is transformer.blocks[-1])
            before = self._block(block, times * num_tokens, pairs, before, is_read=is_read)
        return before

    def _block(self, block: Block, rows: int, pairs: float, before: bool, *, is_read: bool) -> bool:
        attention, feed_forward = block.attention, block.feed_forward
        before = before or _learns(block.attention_norm)
        after = self.matrix(attention.to_qkv, rows, before)
        if not is_read:
            unread = (attention.from_heads, feed_forward.to_hidden, feed_forward.from_hidden)
            self.flops += pairs + 2 * rows * sum(each.weight.numel() for each in unread)
            return after
        # Each of the two products has a gradient by each of its two factors.
        self.flops += pairs * (1 + 2 * after)
        after = self.matrix(attention.from_heads, rows, after) or _learns(block.feed_forward_norm)
        after = self.matrix(feed_forward.to_hidden, rows, after)
        return self.matrix(feed_forward.from_hidden, rows, after)

    def vision(self, tower: VisionTransformer, num_images: int, image_size: int) -> bool:
        learns, side = False, image_size
        for layer in tower.patches.modules():
            if isinstance(layer, nn.Conv2d):
                side //= layer.stride[0]
                learns = self.matrix(layer, num_images * side**2, learns)
            elif not isinstance(layer, nn.Sequential):
                learns = learns or _learns(layer)
        if tower.config.positions == "learned":
            learns = learns or tower.positions.requires_grad
        num_patches = (image_size // tower.config.patch_size) ** 2
        return self.blocks(tower.transformer, num_patches, learns, times=num_images) or _learns(
            tower.norm
        )

    def convolutional_tower(
        self, tower: ConvolutionalTower, num_images: int, image_size: int, looks: bool
    ) -> bool:
        """looks: whether what scales and shifts its normalised maps learns."""
        learns, side = False, image_size
        for layer in tower.convolutions:
            if isinstance(layer, nn.Conv2d):
                side = -(-side // layer.stride[0])
                learns = self.matrix(layer, num_images * side**2, learns)
            else:
                is_modulated = looks and isinstance(layer, GroupNorm)
                learns = learns or _learns(layer) or is_modulated
        learns = self.matrix(tower.keypoints.to_keypoints, num_images * side**2, learns)
        return self.matrix(tower.to_tokens, num_images, learns) or _learns(tower.norm)

    def modulation(self, modulation: Modulation, before: bool) -> bool:
        learns = self.matrix(modulation.from_words, 1, before or _learns(modulation.norm))
        learns = learns or modulation.from_view.requires_grad
        return self.matrix(modulation.to_maps, modulation.num_views, learns)

    def cross_attention_expert(
        self, expert: CrossAttentionExpert, num_others: int, repeats: int, before: bool
    ) -> None:
        """num_others: tokens of the backbone, which all draws read."""
        if not expert.reads_keys_values:
            reads = [
                self.matrix(to_kv, num_others, before or _learns(norm))
                for norm, to_kv in zip(expert.layer_norms, expert.layer_to_kv, strict=True)
                if isinstance(to_kv, nn.Linear)
            ]
            before = any(reads)
        rows = repeats * expert.num_action_tokens
        learns = self.matrix(expert.from_actions, rows, False)
        for layer in expert.with_time:
            if isinstance(layer, nn.Linear):
                learns = self.matrix(layer, rows, learns)
        before = self._proprioception(expert, before) or learns
        read = self.blocks(
            expert.transformer, expert.num_tokens, before, times=repeats, num_others=num_others
        )
        self.matrix(expert.to_actions, rows, read or _learns(expert.norm))

    def observation_token_expert(
        self, expert: ObservationTokenExpert, repeats: int, before: bool
    ) -> None:
        before = before or _learns(expert.times)
        before = self.matrix(expert.from_observation, repeats * expert.num_condition_tokens, before)
        rows = repeats * expert.space.chunk_length
        before = self.matrix(expert.from_actions, rows, False) or before
        before = self._proprioception(expert, before)
        half = expert.transformer.config.causal
        read = self.blocks(expert.transformer, expert.num_tokens, before, times=repeats, half=half)
        self.matrix(expert.to_actions, rows, read)

    def _proprioception(
        self, expert: CrossAttentionExpert | ObservationTokenExpert, before: bool
    ) -> bool:
        """Read once for all draws."""
        if expert.from_proprioception is None:
            return before
        rows = expert.space.num_proprioception_tokens
        return self.matrix(expert.from_proprioception, rows, False) or before
