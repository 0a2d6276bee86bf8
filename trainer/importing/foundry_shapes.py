"""VLA Foundry's model configurations as ours.

A field that a file leaves out has the value that VLA Foundry gives it. What it has and we have not
is an error that names the field: a model that computes something else would be worse than none.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trainer.importing.errors import ImportingError
from trainer.models.action.configuration import (
    ActionSpaceConfig,
    FlowConfig,
    ObservationTokenConfig,
    TimeConfig,
)
from trainer.models.language.configuration import (
    LanguageConfig,
    NormKind,
    TransformerConfig,
)
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language import VisionLanguageConfig

_NORMS: Mapping[str, NormKind] = {
    "default_layer_norm": "layer",
    "lp_layer_norm": "layer",
    "gain_only_layer_norm": "layer_without_bias",
    "gain_only_lp_layer_norm": "layer_without_bias",
    "no_wb_layer_norm": "layer_without_weights",
    "rms_norm": "rms",
}
_Value = TypeVar("_Value", int, bool)
_ROTARY = {"rotary": 10_000.0, "rotary_float32": 10_000.0, "none": None}


@dataclass(frozen=True)
class Section:
    """A part of a configuration file, and its name for errors."""

    fields: Mapping[str, Any]
    name: str

    def get(self, key: str, default: _Value) -> _Value:
        """Of the default's type."""
        value = self.fields.get(key)
        if value is None:
            return default
        if type(value) is not type(default):
            raise self.unexpected(key, f"of type {type(default).__name__}", value)
        if abs(value) >= 2**63:
            raise self.unexpected(key, "a number of 64 bits", value)
        return value

    def number(self, key: str, default: float) -> float:
        """Also as YAML reads 1e-5, which is text to it."""
        value = self.fields.get(key)
        try:
            return default if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.unexpected(key, "a number", value) from None

    def need(self, key: str) -> int:
        if self.fields.get(key) is None:
            raise ImportingError(f"{self.name}.{key} is missing; the model cannot be built without")
        return self.get(key, 0)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of names; none where the file has none."""
        values = self.fields.get(key) or []
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise self.unexpected(key, "a list of names", values)
        return tuple(values)

    def pair(self, key: str, default: tuple[int, int] | None) -> tuple[int, int] | None:
        """Two whole numbers."""
        values = self.fields.get(key)
        if values is None:
            return default
        is_pair = isinstance(values, list) and len(values) == 2
        if not is_pair or not all(type(each) is int and 0 < each < 2**31 for each in values):
            raise self.unexpected(key, "two numbers of pixels", values)
        return values[0], values[1]

    def part(self, key: str) -> Section:
        value = self.fields.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.unexpected(key, "fields", value)
        return Section(value, f"{self.name}.{key}")

    def require(self, key: str, default: Any, *allowed: Any) -> Any:
        value = self.fields.get(key)
        if value is None:
            value = default
        if value not in allowed:
            raise self.unexpected(key, f"one of {', '.join(map(repr, allowed))}", value)
        return value

    def unexpected(self, key: str, expected: str, value: object) -> ImportingError:
        return ImportingError(f"{self.name}.{key}: expected {expected}, got {reprlib.repr(value)}")


def transformer_config(section: Section) -> TransformerConfig:
    """The blocks of a `transformer`."""
    section.require("type", "transformer", "transformer")
    section.require("attn_name", "torch_attn", "torch_attn", "auto")
    return TransformerConfig(
        width=section.get("hidden_dim", 96),
        depth=section.get("n_layers", 8),
        num_heads=section.get("n_heads", 4),
        feed_forward=section.require("ffn_type", "swiglu", "swiglu", "gelu"),
        norm=_NORMS[section.require("norm_type", "default_layer_norm", *_NORMS)],
        norm_epsilon=section.number("norm_eps", 1e-5),
        qk_norm="full_width" if section.get("qk_norm", False) else "none",
        rotary_theta=_ROTARY[section.require("positional_embedding_type", "rotary", *_ROTARY)],
        causal=section.get("is_causal", True),
    )


def language_config(section: Section) -> LanguageConfig:
    """A `transformer` with its embedding and head."""
    section.require("is_causal", True, True)
    return LanguageConfig(
        transformer=transformer_config(section),
        vocabulary_size=section.get("vocab_size", 50_432),
        context_length=section.get("max_seq_len", 2048),
        post_embed_norm=section.get("post_embed_norm", False),
        tied_weights=section.get("weight_tying", False),
    )


def vision_language_config(section: Section) -> VisionLanguageConfig:
    """A `vlm` of its own ViT and transformer."""
    vision = section.part("vit")
    vision.require("type", "vit", "vit")
    vision.require("cls_flag", False, False)
    return VisionLanguageConfig(
        language=language_config(section.part("transformer")),
        vision=VisionTransformerConfig(
            width=vision.get("hidden_dim", 768),
            depth=vision.get("n_layers", 12),
            num_heads=vision.get("n_heads", 12),
            feed_forward_width=vision.get("inter_dim", 3072),
            patch_size=vision.get("patch_size", 16),
            image_size=vision.get("img_size", 384),
            norm_epsilon=vision.number("ln_eps", 1e-6),
            shuffle_factor=vision.get("projector_pixel_shuffle_factor", 1),
        ),
        image_token=section.need("image_token_id"),
    )


def expert_config(section: Section) -> ObservationTokenConfig:
    """The action side of a `diffusion_policy`."""
    head = section.part("transformer")
    head.require("post_embed_norm", False, False)
    # Older files call it by another name, which the original ignores: it then falls back to concat.
    is_older = section.fields.get("diffusion_step_conditioning") is None
    key = "time_conditioning" if is_older else "diffusion_step_conditioning"
    time = section.require(key, "concat", "concat", "add")
    return ObservationTokenConfig(
        transformer=transformer_config(head),
        num_layers=section.part("vision_language_backbone").get("num_vlm_layers_to_use", 4),
        time_conditioning=time,
        num_times=section.part("noise_scheduler").get("num_timesteps", 1000),
    )


def flow_config(section: Section) -> FlowConfig:
    """How a `diffusion_policy` was trained."""
    section.require("use_flow_matching_scheduler", False, True)
    section.require("use_diffusers_scheduler", False, False)
    scheduler = section.part("noise_scheduler")
    bounds = scheduler.fields.get("clamp_range") or [-1.5, 1.5]
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError, OverflowError):
        raise scheduler.unexpected("clamp_range", "two numbers", bounds) from None
    if low != -high:
        raise scheduler.unexpected("clamp_range", "equal bounds on both sides", bounds)
    return FlowConfig(
        time=TimeConfig(num_levels=scheduler.get("num_timesteps", 1000)),
        repeats=section.get("num_action_head_repeats", 1),
        clamp=high,
        input_noise=section.number("input_noise_std", 0.0),
    )


def action_space(section: Section, data: Section) -> ActionSpaceConfig:
    """What a `diffusion_policy` predicts: past actions, the present one, and those to come."""
    past = data.get("lowdim_past_timesteps", 0)
    return ActionSpaceConfig(
        action_size=section.need("action_dim"),
        chunk_length=past + 1 + data.need("lowdim_future_timesteps"),
        proprioception_size=section.get("proprioception_dim", 0),
        proprioception_steps=past + 1,
    )
