"""A checkpoint's weights in a network of its shape, each of them accounted for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from trainer.checkpoint_files import CheckpointError

_Network = TypeVar("_Network", bound=nn.Module)


def network_of(build: Callable[[], _Network], weights: Mapping[str, Tensor]) -> _Network:
    """What `build` makes, with these weights, in float32, in evaluation mode.

    Raises CheckpointError where they are not exactly the network's own.
    """
    try:
        # Nothing of the claimed size is made before the weights are known to have it.
        with torch.device("meta"):
            shapes = build()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            "weights do not fit the configuration: no model has the shape of the configuration: "
            f"{reason}"
        ) from error
    # A head that is the embedding has no weight of its own, here as in the file.
    expected = dict(shapes.named_parameters())
    differing = sorted(expected.keys() ^ weights.keys())
    differing += [
        f"{name} {tuple(weights[name].shape)}, not {tuple(parameter.shape)}"
        for name, parameter in expected.items()
        if name in weights and weights[name].shape != parameter.shape
    ]
    if differing:
        raise CheckpointError(
            f"weights do not fit the configuration: missing, unexpected or of another shape are "
            f"{', '.join(differing)}"
        )
    network = build()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
    return network.eval().requires_grad_(False)
