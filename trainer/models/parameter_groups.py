"""Groups of parameters for an optimizer: a learning rate for each part, decay for matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainer.configuration import ConfigurationError
from trainer.configuration_json import did_you_mean
from trainer.models.adaptation import trainable_parameters


def parameter_groups(
    network: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """What torch's optimizers take, with a `name` a group.

    `multipliers`: of the learning rate, by a module's name such as `backbone.vision`; the longest
    name that holds a parameter counts, and 0 freezes it. Frozen parameters are left out; vectors
    (biases, norms) are not decayed. Raises ConfigurationError for a name that holds none.
    """
    multipliers = {} if multipliers is None else multipliers
    known = [name for name, _ in network.named_modules() if name]
    for name in multipliers:
        if name not in known:
            near = did_you_mean(name, known)
            parts = ", ".join(child for child, _ in network.named_children())
            raise ConfigurationError(
                f"learning rate of {name!r}: there is no such module{near}; the parts are {parts}"
            )
    grouped: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable_parameters(network):
        owner = max((m for m in multipliers if name.startswith(f"{m}.")), key=len, default="")
        if owner and multipliers[owner] == 0:
            parameter.requires_grad_(False)
            continue
        grouped.setdefault((owner, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "name": f"{owner or 'rest'}{'' if is_decayed else ', not decayed'}",
            "params": parameters,
            "lr": learning_rate * multipliers.get(owner, 1.0),
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for (owner, is_decayed), parameters in grouped.items()
    ]
