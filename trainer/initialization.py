"""One stage's checkpoint as the beginning of the next one's network.

A checkpoint's tensors go into the part of the network that has its shape: a language model's into a
vision-language model's, that one's into a policy's, a policy's into all of another. What the rest
of the network holds stays as it was drawn. Within the part nothing is left to chance: every tensor
that is missing, unexpected or of another shape is an error, but for those that are named, and for
whole modules that change nothing at first (`changes_nothing_at_first`), which may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.models.adaptation import has_updates, plain_parameters
from trainer.requirements import ConfigurationError

# Of a list of tensors, as many are named.
_MOST_NAMED = 4


def load_part(
    part: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: object,
    exceptions: Sequence[str] = (),
) -> None:
    """Copy a checkpoint's tensors into the parameters of a part of a network.

    weights: by name, as the part has them; low-rank updates may be missing in all of it. source:
    the checkpoint, for messages. exceptions: names, or beginnings of names, of tensors that may be
    missing, unexpected or of another shape; the part's own stay as they are.

    Raises ConfigurationError that names the tensors, and for an exception that excepts nothing.
    """
    # A tensor that has two names, as tied embeddings have, is one parameter, under the first.
    own = dict(part.named_parameters()) if has_updates(weights) else plain_parameters(part)
    excepted = {name for name in own.keys() | weights.keys() if name.startswith(tuple(exceptions))}
    for each in exceptions:
        if not any(name.startswith(each) for name in excepted):
            raise ConfigurationError(
                f"init_except: expected names, or beginnings, of tensors of {source}, got {each!r}"
            )
    missing = sorted(own.keys() - weights.keys() - excepted - _new(part, weights))
    unexpected = sorted(weights.keys() - own.keys() - excepted)
    both = sorted((own.keys() & weights.keys()) - excepted)
    misshapen = [
        f"{name} {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in both
        if weights[name].shape != own[name].shape
    ]
    if missing or unexpected or misshapen:
        raise ConfigurationError(
            f"init: the tensors of {source} are not those of the network: missing "
            f"{_some(missing)}; unexpected {_some(unexpected)}; of another shape "
            f"{_some(misshapen)}; init_except may name them"
        )
    with torch.no_grad():
        for name in both:
            own[name].copy_(weights[name])


def _new(part: nn.Module, weights: Mapping[str, Tensor]) -> set[str]:
    """Tensors of modules that change nothing at first and of which the checkpoint has none."""
    new: set[str] = set()
    for prefix, module in part.named_modules():
        if getattr(module, "changes_nothing_at_first", False):
            names = {f"{prefix}.{name}" for name, _ in module.named_parameters()}
            new |= names if not names & weights.keys() else set()
    return new


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
