"""The chunked loss against torch's own, in value and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.models.language.cross_entropy import IGNORED, cross_entropy, next_token_labels

POSITIONS, WIDTH, VOCABULARY = 37, 12, 101


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("at_once", [1, 8, 64, None])
def test_value_and_gradients_are_those_of_the_whole(z_loss: float, at_once: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    label = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    label[::5] = IGNORED
    logits = hidden @ weight.T
    counted = label != IGNORED
    reference = functional.cross_entropy(logits, label)
    with_z = reference + z_loss * logits.logsumexp(-1)[counted].square().mean()
    expected = torch.autograd.grad(3 * with_z, (hidden, weight))
    ours = cross_entropy(hidden, weight, label, z_loss=z_loss, positions_at_once=at_once)
    torch.testing.assert_close(ours.loss, with_z)
    torch.testing.assert_close(ours.cross_entropy, reference)
    assert int(ours.num_counted) == int(counted.sum())
    got = torch.autograd.grad(3 * ours.loss, (hidden, weight))
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_bfloat16_logits_leave_a_float32_gradient_of_a_float32_head() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    label = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    cross_entropy(hidden, weight, label, positions_at_once=8).loss.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert (hidden.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
    exact_hidden = hidden.detach().float().requires_grad_()
    exact = functional.cross_entropy(exact_hidden @ weight.T, label)
    expected = torch.autograd.grad(exact, (exact_hidden, weight))
    for got, wanted in zip((hidden.grad.float(), weight.grad), expected, strict=True):
        # Eight bits of mantissa.
        assert (got - wanted).norm() < 0.01 * wanted.norm()


def test_nothing_counted_is_no_loss() -> None:
    hidden = torch.randn(4, WIDTH, requires_grad=True)
    loss = cross_entropy(hidden, torch.randn(VOCABULARY, WIDTH), torch.full((4,), IGNORED)).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_labels_are_the_tokens_that_follow() -> None:
    token = torch.tensor([[5, 6, 7, 8, 9]])
    assert next_token_labels(token).tolist() == [[6, 7, 8, 9, IGNORED]]
    counted = torch.tensor([[True, True, False, True, True]])
    document = torch.tensor([[0, 0, 0, 0, 1]])
    assert next_token_labels(token, document_BS=document, counted_BS=counted).tolist() == [
        [6, IGNORED, 8, IGNORED, IGNORED]
    ]


class _Products(TorchDispatchMode):
    """Notes the shapes of what is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[torch.Size, torch.Size]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            self.shapes.add((args[-2].shape, args[-1].shape))
        return func(*args, **(kwargs or {}))


def test_products_are_of_few_shapes_however_many_positions_count() -> None:
    """oneDNN keeps megabytes of each."""
    weight_VD = torch.randn(32, 8, requires_grad=True)
    with _Products() as products:
        for num_counted in range(1, 129):
            hidden_ND = torch.randn(256, 8, requires_grad=True)
            label_N = torch.full((256,), IGNORED)
            label_N[:num_counted] = 1
            cross_entropy(hidden_ND, weight_VD, label_N).loss.backward()
    # Two numbers of positions, and three products of each.
    assert len(products.shapes) == 6
