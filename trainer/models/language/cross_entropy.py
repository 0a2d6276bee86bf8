"""Cross-entropy of a large vocabulary, without its logits ever being whole in memory.

Logits of a few positions are made, turned into their own gradient in place and multiplied back
before the next positions': the head's three matrix products are done once each, and nothing of
size positions x vocabulary is kept for a backward pass.

Axes: N position, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

# Labels of positions that count nothing, as torch's own losses have them.
IGNORED = -100

# Logits held at once: a gigabyte in float32 on a GPU. On a CPU fewer cost the products up to a
# tenth of their speed (166 rows against 1024 at a width of 512), and more only memory.
_LOGITS_ON_GPU = 2**28
_LOGITS_ON_CPU = 2**25
# A CPU computes the positions that count, and a few others: a multiple of this in all.
# Of each shape that it has multiplied in bfloat16 oneDNN keeps megabytes, for a thousand shapes: of
# batches that have as many counted positions as chance wants, gigabytes.
_ROWS_ON_CPU = 64


class CrossEntropy(NamedTuple):
    """Means over the counted positions.

    loss: what is minimised, the z-loss included.
    cross_entropy: nats a token, detached.
    num_counted: positions whose label counts.
    """

    loss: Tensor
    cross_entropy: Tensor
    num_counted: Tensor


def cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    label_N: Tensor,
    *,
    z_loss: float = 0.0,
    positions_at_once: int | None = None,
) -> CrossEntropy:
    """Of softmax(hidden weight^T), plus z_loss times the mean squared log-partition."""
    if positions_at_once is None:
        held = _LOGITS_ON_GPU if hidden_ND.is_cuda else _LOGITS_ON_CPU
        positions_at_once = max(16, held // len(weight_VD))
    counted_N = label_N != IGNORED
    num_counted = counted_N.sum()
    if not hidden_ND.is_cuda:
        # On a GPU the host would have to wait to learn how many there are.
        num_kept = -(-int(num_counted) // _ROWS_ON_CPU) * _ROWS_ON_CPU
        if num_kept < len(label_N):
            # Those that count come first, both in their order.
            kept_N = counted_N.argsort(stable=True, descending=True)[:num_kept].sort().values
            hidden_ND, label_N = hidden_ND[kept_N], label_N[kept_N]
    share = 1 / num_counted.clamp(min=1).to(torch.float32)
    loss, entropy = _ChunkedCrossEntropy.apply(
        hidden_ND, weight_VD, label_N, share, z_loss, positions_at_once
    )  # type: ignore[misc]
    return CrossEntropy(loss, entropy, num_counted)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Each position counts `share`; gradients are made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        label_N: Tensor,
        share: Tensor,
        z_loss: float,
        positions_at_once: int,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        # Summed in float32: in bfloat16 many small chunks would be lost in a large sum.
        is_exact = hidden_ND.dtype == torch.float32 and len(hidden_ND) > 0
        grad_weight = None
        if needs_weight:
            new = torch.empty_like if is_exact else torch.zeros_like
            grad_weight = new(weight_VD, dtype=torch.float32)
        # Scaling the narrow factor of the weight's gradient spares a pass over the wide product.
        shared_ND = (hidden_ND.float() * share).to(hidden_ND.dtype)
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        entropy = torch.zeros_like(total)
        compute_VD = weight_VD.to(hidden_ND.dtype)
        # One buffer for all chunks: new memory for each costs a CPU a tenth of the products' time.
        logits_NV = hidden_ND.new_empty(min(positions_at_once, len(hidden_ND)), len(weight_VD))
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for start in range(0, len(hidden_ND), positions_at_once):
                part = slice(start, start + positions_at_once)
                hidden, label = hidden_ND[part], label_N[part]
                chunk_entropy, chunk_z, grad_logits = _chunk(
                    torch.mm(hidden, compute_VD.T, out=logits_NV[: len(hidden)]),
                    label,
                    z_loss,
                    needs_gradient=needs_hidden or needs_weight,
                )
                entropy += chunk_entropy
                total += chunk_entropy + chunk_z
                if grad_hidden is not None:
                    torch.mm(grad_logits, compute_VD, out=grad_hidden[part])
                if grad_weight is not None:
                    if is_exact:
                        # The first product needs no zeros beneath it.
                        grad_weight.addmm_(
                            grad_logits.T, shared_ND[part], beta=0 if start == 0 else 1
                        )
                    else:
                        grad_weight += grad_logits.T @ shared_ND[part]
            if grad_hidden is not None:
                # By way of float32: the share itself, rounded to bfloat16, would bias every row.
                grad_hidden.copy_(grad_hidden.float() * share)
        ctx.save_for_backward(
            grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype)
        )
        entropy *= share
        ctx.mark_non_differentiable(entropy)
        return total * share, entropy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0]
        grads = ctx.saved_tensors
        if scale.is_cuda or float(scale) != 1:
            grads = [None if grad is None else grad * scale.to(grad.dtype) for grad in grads]
        return (*grads, None, None, None, None)


def _chunk(
    logits_NV: Tensor, label_N: Tensor, z_loss: float, *, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed cross-entropy and z-loss of some positions, and the gradient of their logits."""
    counted_N = label_N != IGNORED
    safe_N1 = label_N.clamp(min=0)[:, None]
    logit_N = logits_NV.gather(1, safe_N1)[:, 0].float()
    if logits_NV.dtype == torch.float32:
        log_probability_NV = torch.log_softmax(logits_NV, dim=-1, out=logits_NV)
    else:
        log_probability_NV = torch.log_softmax(logits_NV, dim=-1, dtype=torch.float32)
    at_label_N = log_probability_NV.gather(1, safe_N1)[:, 0]
    entropy = -(at_label_N * counted_N).sum()
    # logit = log probability + log partition, at any entry.
    partition_N = logit_N - at_label_N
    z = z_loss * (partition_N.square() * counted_N).sum()
    if not needs_gradient:
        return entropy, z, logits_NV
    grad_NV = log_probability_NV.exp_()
    if z_loss > 0:
        grad_NV *= (1 + 2 * z_loss * partition_N)[:, None]
    grad_NV.scatter_add_(1, safe_N1, torch.full_like(partition_N, -1.0)[:, None])
    if logits_NV.is_cuda:
        grad_NV *= counted_N[:, None]
    else:
        # On a CPU nearly all that do not count have been left out.
        grad_NV[~counted_N] = 0
    return entropy, z, grad_NV.to(logits_NV.dtype)


def next_token_labels(
    token_BS: Tensor, *, document_BS: Tensor | None = None, counted_BS: Tensor | None = None
) -> Tensor:
    """At each position the token that follows it, or IGNORED.

    Nothing follows the last position, nor the last of a packed document. `counted_BS` says which
    tokens are worth predicting: padding, or an image's tokens, are not.
    """
    label_BS = torch.full_like(token_BS, IGNORED)
    following = token_BS[:, 1:]
    if document_BS is not None:
        following = torch.where(document_BS[:, 1:] == document_BS[:, :-1], following, IGNORED)
    if counted_BS is not None:
        following = torch.where(counted_BS[:, 1:], following, IGNORED)
    label_BS[:, :-1] = following
    return label_BS
