"""Groups of parameters for an optimizer: a learning rate for each part, decay for matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainer.configuration_json import did_you_mean
from trainer.models.adaptation import trainable_parameters
from trainer.requirements import ConfigurationError


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
    known += [name for name, _ in network.named_parameters()]
    for name in multipliers:
        if name not in known:
            near = did_you_mean(name, known)
            parts = ", ".join(_parts(network))
            raise ConfigurationError(
                f"learning rate of {name!r}: there is no such module{near}; the parts are {parts}"
            )
    grouped: dict[tuple[str, bool], list[nn.Parameter]] = {}
    owners: list[str] = []
    for name, parameter in trainable_parameters(network):
        owner = max((m for m in multipliers if f"{name}.".startswith(f"{m}.")), key=len, default="")
        if owner and multipliers[owner] == 0:
            parameter.requires_grad_(False)
            continue
        if owner not in owners:
            owners.append(owner)
        grouped.setdefault((owner, parameter.ndim > 1), []).append(parameter)
    # Always matrices before vectors: an optimizer's stored moments are by place.
    in_order = [(owner, decays) for owner in owners for decays in (True, False)]
    return [
        {
            "name": f"{owner or 'rest'}{'' if is_decayed else ', not decayed'}",
            "params": parameters,
            "lr": learning_rate * multipliers.get(owner, 1.0),
            "multiplier": multipliers.get(owner, 1.0),
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for owner, is_decayed in in_order
        if (parameters := grouped.get((owner, is_decayed)))
    ]


def _parts(network: nn.Module, prefix: str = "") -> list[str]:
    """The names of its children; of an only child, those of its children, too."""
    children = dict(network.named_children())
    names = [prefix + name for name in children]
    if len(children) == 1:
        return names + _parts(next(iter(children.values())), f"{names[0]}.")
    return names
