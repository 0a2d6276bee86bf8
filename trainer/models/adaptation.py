"""How much of a pretrained network is trained: nothing, low-rank updates, or all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from trainer.requirements import require, require_choice, require_positive

AdaptationKind = Literal["full", "lora", "frozen"]

# As peft names them: the matrix itself, and the two whose product is its update.
_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """What may change of a pretrained network.

    Attributes:
        kind: Everything; low-rank updates (LoRA, Hu et al. 2021, arXiv:2106.09685) beside frozen
            weights, through peft; or nothing.
        rank: Of the updates.
        alpha: Updates are scaled by alpha / rank.
        dropout: Of what the updates read.
        targets: Names of the matrices that are updated; empty for all but the head's.
    """

    kind: AdaptationKind = "full"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice(self, kind=get_args(AdaptationKind))
        require_positive(self, "rank", "alpha")
        require(0 <= self.dropout < 1, "dropout", "0 <= dropout < 1", self.dropout)


def adapt(model: Any, config: AdaptationConfig) -> None:
    """Freeze a Hugging Face model, or put low-rank updates beside its matrices, in place."""
    if config.kind == "frozen":
        model.requires_grad_(False)
    elif config.kind == "lora":
        # Here, so that who adapts nothing needs no peft.
        from peft import LoraConfig, inject_adapter_in_model

        updates = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]: any number scales
            lora_dropout=config.dropout,
            target_modules=list(config.targets) or "all-linear",
        )
        # It freezes all other weights. The model stays of its own class, not peft's.
        inject_adapter_in_model(updates, model)


def trainable_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """What an optimizer is given, by name."""
    return ((name, p) for name, p in network.named_parameters() if p.requires_grad)


def has_updates(weights: Mapping[str, Tensor]) -> bool:
    """Whether they are those of a network with low-rank updates, and these among them."""
    return any(name.endswith(_UP) for name in weights)


def plain_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """By the names that they have without low-rank updates, which are left out."""
    return {
        name.replace(_BASE, "."): parameter
        for name, parameter in network.named_parameters()
        if not name.endswith((_DOWN, _UP))
    }


def with_updates_added(
    weights: Mapping[str, Tensor], config: AdaptationConfig
) -> dict[str, Tensor]:
    """Weights of a network with low-rank updates as those of one without."""
    plain = {
        name.replace(_BASE, "."): tensor
        for name, tensor in weights.items()
        if not name.endswith((_DOWN, _UP))
    }
    for name, down in weights.items():
        if name.endswith(_DOWN):
            owner = name.removesuffix(_DOWN)
            update = weights[owner + _UP].float() @ down.float()
            matrix = plain[f"{owner}.weight"]
            scaled = config.alpha / config.rank * update
            plain[f"{owner}.weight"] = (matrix.float() + scaled).to(matrix.dtype)
    return plain
