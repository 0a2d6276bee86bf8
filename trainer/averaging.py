"""The weights of several policies, averaged into one policy.

What trainings of one beginning came to, or a beginning and what it became, lie so near each other
that their average is a policy too, often a better one on what neither was trained for (Wortsman et
al. 2022, arXiv:2203.05482; WiSE-FT, arXiv:2109.01903). Of policies that were drawn apart it is
none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from trainer.checkpoint import Checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.models.adaptation import has_updates


def averaged(checkpoints: Mapping[str, Checkpoint], shares: Sequence[float]) -> Checkpoint:
    """The last one with the average of all weights.

    checkpoints: by what messages call them. shares: of each, positive, of whatever sum. What the
    provenance tells is of the last one, but for its held-out error, which is left out; `averaged`
    tells of which checkpoints it is.

    Raises CheckpointError for those that are no policies of one network, scale and station, and for
    low-rank updates, whose averages do not make that of the matrices.
    """
    parts = list(checkpoints.values())
    last, total = parts[-1], sum(shares)
    for name, other in checkpoints.items():
        for what in _differing(other, last):
            raise CheckpointError(f"{name}: expected the {what} of the last one, got another")
    if has_updates(last.weights):
        raise CheckpointError(
            "expected whole matrices, got low-rank updates beside them, whose averages do not make "
            "the average of the matrices"
        )
    weights = {
        name: _average([each.weights[name] for each in parts], [share / total for share in shares])
        for name in last.weights
    }
    told = {
        name: value for name, value in last.provenance.items() if name != "held_out_action_error"
    }
    told["averaged"] = [
        {"digest": each.digest, "share": share / total}
        for each, share in zip(parts, shares, strict=True)
    ]
    return replace(last, weights=weights, provenance=told)


def _differing(one: Checkpoint, other: Checkpoint) -> Iterator[str]:
    if _shapes(one) != _shapes(other):
        yield "tensors"
    if one.transform.to_json() != other.transform.to_json():
        yield "scales of states and actions (normalization.json)"
    if one.contract != other.contract:
        yield "station (contract.json)"
    if one.tokenizer != other.tokenizer:
        yield "words (tokenizer.json)"


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in checkpoint.weights.items()}


def _average(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """In float32, as it is of halves too."""
    parts = (share * tensor.float() for tensor, share in zip(tensors, shares, strict=True))
    return sum(parts, start=tensors[-1].new_zeros(())).to(tensors[-1].dtype)
