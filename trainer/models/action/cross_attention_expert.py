"""An expert whose blocks read all of the backbone's tokens, layer by layer.

As in pi0 (Black et al. 2024, arXiv:2410.24164): the chunk's tokens attend to each other and to the
keys and values of the backbone's block of the same depth. With `layers` as the source each block
projects the output of a backbone layer instead, which needs no likeness of the two networks.

R draws of one sample are R segments of one sequence that do not see each other, so that the
backbone's keys and values are held once and not R times.

Axes: B sample, R draw, S token of the backbone, L token of the expert (proprioception, actions),
T timestep (or token of some), A numbers an action, F those of a token, P proprioceptive step,
Q its numbers, W width, G key/value head, d width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.action.configuration import ActionSpaceConfig, CrossAttentionConfig
from trainer.models.action.expert import repeated_rows, sinusoids, with_noise
from trainer.models.backbone import BackboneFeatures
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.masks import PreparedMask
from trainer.models.language.normalization import build_norm
from trainer.models.language.rotary import rotate, rotation_of
from trainer.models.language.transformer import Transformer
from trainer.requirements import ConfigurationError

# Times in [0, 1] are spread over the sinusoids as if they were positions up to this number.
_TIME_SCALE = 1000.0


class ObservedTokens(NamedTuple):
    """For each block keys and values (B, G, S, d); proprioception is (B R, P, W).

    valid_BS is None where all are real.
    """

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    valid_BS: Tensor
    next_position_B: Tensor
    proprioception_BPW: Tensor | None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its parts, each by sample; `of` puts them together again."""
        pairs = [part for keys_values in self.keys_values for part in keys_values]
        own = () if self.proprioception_BPW is None else (self.proprioception_BPW,)
        return (self.valid_BS, self.next_position_B, *pairs, *own)

    @staticmethod
    def of(valid_BS: Tensor, next_position_B: Tensor, *parts: Tensor) -> ObservedTokens:
        # Keys and values come in pairs, and proprioception alone.
        pairs = len(parts) // 2
        return ObservedTokens(
            tuple((parts[2 * n], parts[2 * n + 1]) for n in range(pairs)),
            valid_BS,
            next_position_B,
            parts[-1] if len(parts) % 2 else None,
        )

    def repeated(self, times: int, noise_BPW: Tensor | None) -> ObservedTokens:
        proprioception = self.proprioception_BPW
        if proprioception is None:
            return self
        noisy = with_noise(repeated_rows(proprioception, times), noise_BPW)
        return self._replace(proprioception_BPW=noisy)


class CrossAttentionExpert(nn.Module):
    """Noisy chunks and times to velocities, given every token of the scene."""

    reads_observation_token = False

    def __init__(
        self,
        config: CrossAttentionConfig,
        space: ActionSpaceConfig,
        *,
        backbone_width: int,
        backbone_depth: int,
        backbone: TransformerConfig | None,
    ) -> None:
        """`backbone`: the shape whose keys and values are read, where it is known."""
        super().__init__()
        self.config, self.space = config, space
        shape = config.transformer
        self.reads_keys_values = config.source == "keys_values"
        self.num_backbone_layers = 0 if self.reads_keys_values else shape.depth
        if self.reads_keys_values:
            _require_likeness(shape, backbone)
        elif shape.depth > backbone_depth:
            raise ConfigurationError(
                f"transformer.depth: expected at most the backbone's {backbone_depth}, "
                f"got {shape.depth}"
            )
        else:
            key_width = shape.num_groups * shape.width_of_head
            self.layer_norms = nn.ModuleList(
                build_norm("rms", backbone_width, shape.norm_epsilon) for _ in range(shape.depth)
            )
            self.layer_to_kv = nn.ModuleList(
                nn.Linear(backbone_width, 2 * key_width, bias=False) for _ in range(shape.depth)
            )
        width = shape.width
        if space.chunk_length % config.timesteps_per_token:
            raise ConfigurationError(
                f"timesteps_per_token: expected a divisor of the chunk's {space.chunk_length} "
                f"actions, got {config.timesteps_per_token}"
            )
        numbers_per_token = config.timesteps_per_token * space.action_size
        self.from_actions = nn.Linear(numbers_per_token, width)
        self.with_time = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.from_proprioception = (
            nn.Linear(space.proprioception_size, width) if space.proprioception_size else None
        )
        self.transformer = Transformer(shape)
        self.norm = build_norm(shape.norm, width, shape.norm_epsilon)
        self.to_actions = nn.Linear(width, numbers_per_token)

    @property
    def num_action_tokens(self) -> int:
        """Of a chunk."""
        return self.space.chunk_length // self.config.timesteps_per_token

    @property
    def num_tokens(self) -> int:
        """Of a draw: proprioception and a chunk."""
        return self.space.num_proprioception_tokens + self.num_action_tokens

    def read(self, features: BackboneFeatures, proprioception_BPQ: Tensor | None) -> ObservedTokens:
        proprioception_BPW = None
        if self.from_proprioception is not None:
            if proprioception_BPQ is None:
                raise ValueError("proprioception is missing: this policy was made to read it")
            proprioception_BPW = self.from_proprioception(
                proprioception_BPQ.to(self.from_proprioception.weight.dtype)
            )
        keys_values = features.keys_values if self.reads_keys_values else self._project(features)
        return ObservedTokens(
            keys_values, features.valid_BS, features.next_position_B, proprioception_BPW
        )

    def _project(self, features: BackboneFeatures) -> tuple[tuple[Tensor, Tensor], ...]:
        shape = self.config.transformer
        rotation = None
        if shape.rotary_theta is not None:
            position_BS = (features.valid_BS.cumsum(dim=1) - 1).clamp(min=0)
            rotation = rotation_of(position_BS, shape.width_of_head, shape.rotary_theta)
        keys_values: list[tuple[Tensor, Tensor]] = []
        for norm, to_kv, layer_BSD in zip(
            self.layer_norms, self.layer_to_kv, features.layers, strict=True
        ):
            kv_BS2Gd = to_kv(norm(layer_BSD)).unflatten(
                -1, (2, shape.num_groups, shape.width_of_head)
            )
            key_BSGd, value_BSGd = kv_BS2Gd.unbind(2)
            if rotation is not None:
                key_BSGd = rotate(key_BSGd, rotation)
            keys_values.append((key_BSGd.transpose(1, 2), value_BSGd.transpose(1, 2)))
        return tuple(keys_values)

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: ObservedTokens) -> Tensor:
        """The chunks of one sample's draws stand next to each other."""
        num_samples, num_tokens = conditioning.valid_BS.shape
        num_draws = len(noisy_BTA) // num_samples
        x_BLW = self._embed(noisy_BTA, time_B)
        num_chunk_tokens = x_BLW.shape[1]
        if conditioning.proprioception_BPW is not None:
            x_BLW = torch.cat([conditioning.proprioception_BPW.to(x_BLW.dtype), x_BLW], dim=1)
        length = x_BLW.shape[1]
        x_BLW = x_BLW.reshape(num_samples, num_draws * length, -1)
        # Every draw's tokens follow the same observation.
        step_L = torch.arange(length, device=x_BLW.device).repeat(num_draws)
        rotation = self.transformer.rotation(
            conditioning.next_position_B[:, None] + step_L, 0, len(step_L), x_BLW.device
        )
        mask = self._mask(conditioning.valid_BS, num_tokens, num_draws, length)
        for block, keys_values in zip(
            self.transformer.blocks, conditioning.keys_values, strict=True
        ):
            x_BLW, _ = self.transformer.run_block(block, x_BLW, mask, rotation, prefix=keys_values)
        x_BLW = x_BLW.reshape(num_samples * num_draws, length, -1)[:, -num_chunk_tokens:]
        return self.to_actions(self.norm(x_BLW)).reshape(noisy_BTA.shape).float()

    def _embed(self, noisy_BTA: Tensor, time_B: Tensor) -> Tensor:
        token_BTF = noisy_BTA.flatten(1).unflatten(1, (-1, self.from_actions.in_features))
        action_BTW = self.from_actions(token_BTF.to(self.from_actions.weight.dtype))
        time_BW = sinusoids(time_B * _TIME_SCALE, self.config.transformer.width)
        time_BTW = time_BW[:, None].expand_as(action_BTW).to(action_BTW.dtype)
        return self.with_time(torch.cat([action_BTW, time_BTW], dim=-1))

    def _mask(self, valid_BS: Tensor, num_tokens: int, num_draws: int, length: int) -> PreparedMask:
        """Every draw sees what is real of the observation, and itself."""
        draw_L = torch.arange(num_draws, device=valid_BS.device).repeat_interleave(length)
        own_LL = draw_L[:, None] == draw_L[None, :]
        size = num_draws * length
        dense_BLK = torch.cat(
            [
                valid_BS[:, None].expand(-1, size, -1),
                own_LL[None].expand(len(valid_BS), -1, -1),
            ],
            dim=-1,
        )
        # The kernels of a GPU read a mask in rows of 16 bytes.
        padding = -(num_tokens + size) % 8
        if padding and valid_BS.is_cuda:
            dense_BLK = functional.pad(dense_BLK, (0, padding))[..., : num_tokens + size]
        return PreparedMask(dense_B1QK=dense_BLK[:, None])


def _require_likeness(shape: TransformerConfig, backbone: TransformerConfig | None) -> None:
    if backbone is None:
        raise ConfigurationError(
            "source: expected 'layers' for a backbone that gives no keys and values, "
            "got 'keys_values'"
        )
    for name in ("depth", "num_heads", "num_groups", "width_of_head", "rotary_theta"):
        got, expected = getattr(shape, name), getattr(backbone, name)
        if got != expected:
            raise ConfigurationError(
                f"transformer.{name}: expected the backbone's {expected}, whose keys and values "
                f"are read, got {got}"
            )
