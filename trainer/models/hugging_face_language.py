"""A Hugging Face language model in the place of our own: SmolLM, Qwen, Llama and their kin.

Its weights come from a folder or hub name, from a GGUF file in it, or are drawn for a shape.

Axes: B sample, S token, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from trainer.models.adaptation import AdaptationConfig, adapt
from trainer.models.hugging_face_common import (
    AdaptedModel,
    cleaned,
    first_blocks,
    load_pretrained,
    require_path_or_shape,
)
from trainer.models.language.cross_entropy import cross_entropy
from trainer.models.language.language_model import LanguageOutput
from trainer.models.language.masks import AttentionMask
from trainer.models.language.transformer import TransformerOutput
from trainer.requirements import require, require_positive


@dataclass(frozen=True, kw_only=True)
class HuggingFaceLanguageConfig:
    """Which model: a folder of weights, or a shape to begin from scratch.

    Attributes:
        path: Folder (or hub name) that `from_pretrained` reads; None for random weights.
        gguf_file: Name of a GGUF file in it, which is dequantised; None for safetensors.
        num_blocks: Decoder blocks of it that are kept, from the first; None for all.
        model_type: transformers' name of the architecture, when there is no path.
        overrides: Fields of its configuration, when there is no path.
        adaptation: How much of it is trained.
    """

    path: str | None = None
    gguf_file: str | None = None
    num_blocks: int | None = None
    model_type: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)

    def __post_init__(self) -> None:
        require_path_or_shape(self.path, self.model_type, self.overrides)
        require(
            self.gguf_file is None or self.path is not None,
            "gguf_file",
            "a path beside it: the folder that the file is in",
            self.gguf_file,
        )
        require(
            self.num_blocks is None or self.path is not None,
            "num_blocks",
            "a path beside it: a shape says by itself how many",
            self.num_blocks,
        )
        if self.num_blocks is not None:
            require_positive(self, "num_blocks")


class HuggingFaceLanguageModel(AdaptedModel):
    """`AutoModelForCausalLM` behind the interface of our own `LanguageModel`."""

    def __init__(self, config: HuggingFaceLanguageConfig) -> None:
        super().__init__()
        # Here, so that who trains nothing of Hugging Face's needs no transformers.
        from transformers import AutoConfig, AutoModelForCausalLM

        self.config = config
        if config.path is not None:
            options: dict[str, Any] = {}
            if config.gguf_file is not None:
                options["gguf_file"] = config.gguf_file
            self.model: Any = load_pretrained(
                AutoModelForCausalLM, config.path, attention="sdpa", **options
            )
            # Dequantised it is a model like any other, and can be saved as one.
            if hasattr(self.model.config, "quantization_config"):
                del self.model.config.quantization_config
            if config.num_blocks is not None:
                first_blocks(vars(self.model.config), config.num_blocks, "num_blocks")
                del self.model.base_model.layers[config.num_blocks :]
        else:
            assert config.model_type is not None
            shape = AutoConfig.for_model(config.model_type, **cleaned(config.overrides))
            self.model = AutoModelForCausalLM.from_config(shape, attn_implementation="sdpa")
        adapt(self.model, config.adaptation)

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def depth(self) -> int:
        return self.model.config.num_hidden_layers

    @property
    def vocabulary_size(self) -> int:
        return self.embedding.weight.shape[0]

    @property
    def embedding(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def blocks(self) -> Iterable[nn.Module]:
        """Its decoder layers: what to compile and to shard one by one."""
        return self.model.base_model.layers

    def embed(self, token_BS: Tensor) -> Tensor:
        return self.embedding(token_BS)

    def forward(
        self,
        token_BS: Tensor | None = None,
        *,
        embedded_BSD: Tensor | None = None,
        label_BS: Tensor | None = None,
        mask: AttentionMask | None = None,
        position_BS: Tensor | None = None,
        cache: HuggingFaceCache | None = None,
        num_layers: int = 0,
        with_keys_values: bool = False,
    ) -> LanguageOutput:
        """See `LanguageModel.forward`; the last layer's outputs are those after the final norm."""
        if with_keys_values:
            raise ValueError(
                f"{type(self.model).__name__} gives no keys and values: let the expert's source be "
                "'layers'"
            )
        if (token_BS is None) == (embedded_BSD is None):
            raise ValueError("give token_BS or embedded_BSD, and not both")
        x_BSD = self.embed(token_BS) if token_BS is not None else embedded_BSD
        assert x_BSD is not None
        first = 0 if cache is None else cache.length
        num_positions = x_BSD.shape[1]
        if mask is None:
            mask = AttentionMask(first_query=first)
        prepared = mask.prepared("sdpa", num_positions, first + num_positions, x_BSD.device)
        dense_B1QK = prepared.dense_B1QK
        output = self.model.base_model(
            inputs_embeds=x_BSD,
            # Without a mask it is causal by itself.
            attention_mask=None
            if dense_B1QK is None
            else dense_B1QK.expand(len(x_BSD), -1, -1, -1),
            position_ids=position_BS,
            use_cache=cache is not None,
            output_hidden_states=num_layers > 0,
            **({} if cache is None else {self._cache_argument: cache.layers}),
        )
        hidden_BSD = output.last_hidden_state
        layers = tuple(output.hidden_states[-num_layers:]) if num_layers else ()
        loss = None
        if label_BS is not None:
            loss = cross_entropy(hidden_BSD.flatten(0, 1), self._head.weight, label_BS.flatten())
        return LanguageOutput(hidden_BSD, loss, TransformerOutput(hidden_BSD, layers, ()))

    @cached_property
    def _cache_argument(self) -> str:
        """transformers 5.24 deprecates the name that 5.17 has alone."""
        parameters = inspect.signature(self.model.base_model.forward).parameters
        return "cache" if "cache" in parameters else "past_key_values"

    @property
    def _head(self) -> nn.Linear:
        return self.model.get_output_embeddings()

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """(B, S, V) in float32."""
        return self._head(hidden_BSD).float()

    def new_cache(self, num_samples: int, capacity: int) -> HuggingFaceCache:
        """It grows by itself, whatever the two numbers."""
        from transformers import DynamicCache

        return HuggingFaceCache(DynamicCache(config=self.model.config))


@dataclass(frozen=True)
class HuggingFaceCache:
    """Keys and values of what was read, as transformers keeps them."""

    layers: Any

    @property
    def length(self) -> int:
        return self.layers.get_seq_length()
