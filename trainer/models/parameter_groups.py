"""Groups of parameters for an optimizer: a learning rate for each part, decay for matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from trainer.configuration_json import did_you_mean
from trainer.models.adaptation import trainable_parameters
from trainer.requirements import ConfigurationError

# As every head of ours names them.
_NEXT_TO_ACTIONS = ("from_actions", "to_actions")


def parameter_groups(
    network: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
    matrix_learning_rate: float | None = None,
) -> list[dict[str, Any]]:
    """What torch's optimizers take, with a `name` a group.

    `multipliers`: of the learning rate, by a module's name such as `backbone.vision`; the longest
    name that holds a parameter counts, and 0 freezes it. Frozen parameters are left out; vectors
    (biases, norms) are not decayed. `matrix_learning_rate`: of inner matrices, in groups of their
    own with `is_orthogonal`; None for no such groups. Raises ConfigurationError for a name that
    holds none.
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
    inner: set[Tensor] = set() if matrix_learning_rate is None else set(_inner_matrices(network))
    grouped: dict[tuple[str, bool, bool], list[nn.Parameter]] = {}
    owners: list[str] = []
    for name, parameter in trainable_parameters(network):
        owner = max((m for m in multipliers if f"{name}.".startswith(f"{m}.")), key=len, default="")
        if owner and multipliers[owner] == 0:
            parameter.requires_grad_(False)
            continue
        if owner not in owners:
            owners.append(owner)
        kind = (owner, parameter.ndim > 1, parameter in inner)
        grouped.setdefault(kind, []).append(parameter)
    # Always matrices before vectors: an optimizer's stored moments are by place.
    in_order = [
        (owner, *kind) for owner in owners for kind in ((True, True), (True, False), (False, False))
    ]
    groups: list[dict[str, Any]] = []
    for owner, is_decayed, is_orthogonal in in_order:
        parameters = grouped.get((owner, is_decayed, is_orthogonal))
        if not parameters:
            continue
        multiplier = multipliers.get(owner, 1.0)
        if is_orthogonal:
            assert matrix_learning_rate is not None
            multiplier *= matrix_learning_rate / learning_rate
        words = ", orthogonal" if is_orthogonal else "" if is_decayed else ", not decayed"
        groups.append(
            {
                "name": f"{owner or 'rest'}{words}",
                "params": parameters,
                "lr": learning_rate * multiplier,
                "multiplier": multiplier,
                "weight_decay": weight_decay if is_decayed else 0.0,
                "is_orthogonal": is_orthogonal,
            }
        )
    return groups


def _inner_matrices(network: nn.Module) -> Iterator[Tensor]:
    """Of linear layers and convolutions, but for those next to words and actions.

    An embedding's rows are seen apart from each other, and so are those of a head of as many
    words; a policy whose actions' layers learned by Muon was worse.
    """
    named = list(network.named_modules())
    vocabularies = {m.num_embeddings for _, m in named if isinstance(m, nn.Embedding)}
    for name, module in named:
        if isinstance(module, nn.modules.conv._ConvNd) or (
            isinstance(module, nn.Linear)
            and module.out_features not in vocabularies
            and name.rpartition(".")[2] not in _NEXT_TO_ACTIONS
        ):
            yield module.weight


def _parts(network: nn.Module, prefix: str = "") -> list[str]:
    """The names of its children; of an only child, those of its children, too."""
    children = dict(network.named_children())
    names = [prefix + name for name in children]
    if len(children) == 1:
        return names + _parts(next(iter(children.values())), f"{names[0]}.")
    return names
