"""A Hugging Face vision-language model as a backbone: Qwen3-VL, SmolVLM, PaliGemma and their kin.

Axes: B sample, S token, D width, G key/value head, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.adaptation import AdaptationConfig, adapt
from trainer.models.backbone import BackboneFeatures, VisionLanguageInput
from trainer.models.hugging_face_common import (
    checkpoint_activations,
    cleaned,
    load_pretrained,
    require_path_or_shape,
)
from trainer.models.image_attention import attend_images_together

# What each kind of token number says of the observation token: for Qwen 0 is text; for PaliGemma 1
# is what comes after the prefix, which the prefix does not see, and 0 the prefix.
_TEXT, _PREFIX, _BEHIND_PREFIX = 0, 0, 1


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig:
    """Which model: a folder of weights, or a shape to begin from scratch.

    Attributes:
        path: Folder (or hub name) that `from_pretrained` reads; None for random weights.
        model_type: transformers' name of the architecture, when there is no path.
        overrides: Fields of its configuration, when there is no path.
        attention: transformers' name of an attention implementation.
        adaptation: How much of it is trained.
        normed_outputs: Whether the last layer's outputs are those after the final norm.
        prefix_sees_observation: Whether a prefix that sees itself in both directions (PaliGemma's)
            sees the observation token as well.
    """

    path: str | None = None
    model_type: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    attention: str = "sdpa"
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    normed_outputs: bool = True
    prefix_sees_observation: bool = False

    def __post_init__(self) -> None:
        require_path_or_shape(self.path, self.model_type, self.overrides)


class HuggingFaceBackbone(nn.Module):
    """`AutoModelForImageTextToText` behind the interface of our own vision-language model.

    The observation token is one more row of the vocabulary, as a checkpoint of such a model has it.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__()
        # Here, so that who trains nothing of Hugging Face's needs no transformers.
        from transformers import AutoConfig, AutoModelForImageTextToText

        self.config = config
        if config.path is not None:
            self.model: Any = load_pretrained(
                AutoModelForImageTextToText, config.path, attention=config.attention
            )
        else:
            assert config.model_type is not None
            shape = AutoConfig.for_model(config.model_type, **cleaned(config.overrides))
            self.model = AutoModelForImageTextToText.from_config(
                shape, attn_implementation=config.attention
            )
        attend_images_together(self.model)
        self.model.get_input_embeddings().register_forward_hook(_in_autocast_dtype)
        self._text_config = self.model.config.get_text_config()
        self.observation_token_id = self._add_observation_token()
        adapt(self.model, config.adaptation)

    @property
    def width(self) -> int:
        return self._text_config.hidden_size

    @property
    def depth(self) -> int:
        return self._text_config.num_hidden_layers

    def _add_observation_token(self) -> int:
        """A row behind the vocabulary: the mean of the others, in the embedding and in the head."""
        token_id = self.model.get_input_embeddings().weight.shape[0]
        self.model.resize_token_embeddings(token_id + 1, mean_resizing=False)
        modules = {self.model.get_input_embeddings(), self.model.get_output_embeddings()} - {None}
        with torch.no_grad():
            for module in modules:
                if not module.weight.is_meta:
                    module.weight[-1] = module.weight[:-1].mean(dim=0)
        return token_id

    def checkpoint_activations(self, enabled: bool = True) -> None:
        checkpoint_activations(self.model, enabled)

    def compile_blocks(self, **options: Any) -> None:
        """Compile each decoder layer and each vision block in place."""
        for blocks in self.blocks():
            for block in blocks:
                block.compile(**options)

    def blocks(self) -> list[nn.ModuleList]:
        """The lists of layers that repeat: what to compile, to shard and to checkpoint one by one.

        A list of a kind is the longest one of equal modules in a tower; its children are inside.
        """
        lists = [
            module
            for module in self.model.modules()
            if isinstance(module, nn.ModuleList)
            and len(module) > 1
            and len({type(child) for child in module}) == 1
            and any("attn" in name for name, _ in module[0].named_children())
        ]
        if not lists:
            raise ValueError(f"{type(self.model).__name__} has no list of attention layers")
        return lists

    def forward(self, inputs: VisionLanguageInput, *, label_BS: Tensor | None = None) -> Any:
        """What the Hugging Face model itself returns; its labels are shifted by itself."""
        return self.model(**self._arguments(inputs), labels=label_BS)

    def features(
        self,
        inputs: VisionLanguageInput,
        *,
        num_layers: int,
        with_observation_token: bool = False,
        with_keys_values: bool = False,
    ) -> BackboneFeatures:
        """See `Backbone.features`; the last layer's outputs are those after the final norm, unless
        `normed_outputs` says otherwise.

        Its keys and values are turned in ways of its own, which no expert here continues:
        an expert on such a backbone projects its layers' outputs.
        """
        if with_keys_values:
            raise ValueError(
                f"{type(self.model).__name__} gives no keys and values: let the expert's source be "
                "'layers'"
            )
        if with_observation_token:
            inputs = self._with_observation_token(inputs)
        arguments = self._arguments(inputs)
        # Without the head: an action expert reads no logits.
        with self._before_final_norm() as unnormed:
            output = self.model.model(**arguments, output_hidden_states=True, use_cache=False)
        layers = output.hidden_states
        if not self.config.normed_outputs:
            layers = (*layers[:-1], *unnormed)
        valid_BS = inputs.valid
        return BackboneFeatures(
            layers=tuple(layers[-num_layers:]) if num_layers else (),
            valid_BS=valid_BS,
            keys_values=(),
            next_position_B=valid_BS.sum(dim=1),
        )

    @contextmanager
    def _before_final_norm(self) -> Iterator[list[Tensor]]:
        """Gives what the final norm is given meanwhile; transformers keeps what it makes of it."""
        given: list[Tensor] = []
        if self.config.normed_outputs:
            yield given
            return
        norm = self.model.get_decoder().norm
        handle = norm.register_forward_pre_hook(lambda _norm, inputs: given.append(inputs[0]))
        try:
            yield given
        finally:
            handle.remove()

    def _with_observation_token(self, inputs: VisionLanguageInput) -> VisionLanguageInput:
        first_B1 = inputs.token_BS[:, :1]
        extras = dict(inputs.extras)
        seen_by_prefix = self.config.prefix_sees_observation
        kinds = {
            "mm_token_type_ids": _TEXT,
            "token_type_ids": _PREFIX if seen_by_prefix else _BEHIND_PREFIX,
        }
        for name, kind in kinds.items():
            if name in extras:
                kind_B1 = torch.full_like(extras[name][:, :1], kind)
                extras[name] = torch.cat([extras[name], kind_B1], dim=1)
        return VisionLanguageInput(
            token_BS=torch.cat(
                [inputs.token_BS, torch.full_like(first_B1, self.observation_token_id)], dim=1
            ),
            valid_BS=None
            if inputs.valid_BS is None
            else torch.cat([inputs.valid_BS, torch.ones_like(first_B1, dtype=torch.bool)], dim=1),
            images=inputs.images,
            extras=extras,
        )

    def _arguments(self, inputs: VisionLanguageInput) -> dict[str, Any]:
        arguments: dict[str, Any] = {"input_ids": inputs.token_BS, **inputs.extras}
        if inputs.images is not None:
            arguments["pixel_values"] = inputs.images
        if inputs.valid_BS is not None:
            arguments["attention_mask"] = inputs.valid_BS.long()
            if "image_grid_thw" not in inputs.extras and "position_ids" not in inputs.extras:
                # Qwen counts positions by the mask itself; others would count padding too.
                position_BS = (inputs.valid_BS.cumsum(dim=1) - 1).clamp(min=0)
                arguments["position_ids"] = position_BS
        return arguments


def _in_autocast_dtype(_module: nn.Module, _inputs: object, embedded: Tensor) -> Tensor:
    """An embedding is no matrix product: without this the residual stream stays float32."""
    if torch.is_autocast_enabled(embedded.device.type):
        return embedded.to(torch.get_autocast_dtype(embedded.device.type))
    return embedded
