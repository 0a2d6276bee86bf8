"""Masks: what is hidden changes nothing, by every kernel, and one rule serves all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.models.language.attention import _is_quicker_written_out, attend
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.masks import AttentionMask
from trainer.models.language.transformer import Transformer

LENGTH, WIDTH = 10, 32


def described(
    causal: bool, documents: bool, prefix: bool, padding: bool, seed: int
) -> AttentionMask:
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    return AttentionMask(
        causal=causal,
        document_BK=integers(3, 2, LENGTH).cumsum(1) // 3 if documents else None,
        prefix_B=integers(LENGTH, 2) if prefix else None,
        valid_BK=integers(4, 2, LENGTH) > 0 if padding else None,
    )


@given(
    causal=st.booleans(),
    documents=st.booleans(),
    prefix=st.booleans(),
    padding=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_rule_is_what_it_says(
    causal: bool, documents: bool, prefix: bool, padding: bool, seed: int
) -> None:
    mask = described(causal, documents, prefix, padding, seed)
    dense = mask.dense(LENGTH, LENGTH, torch.device("cpu")).expand(2, -1, -1)
    for b in range(2):
        for q in range(LENGTH):
            for k in range(LENGTH):
                expected = not causal or k <= q
                if mask.prefix_B is not None and max(q, k) < mask.prefix_B[b]:
                    expected = True
                if (
                    mask.document_BK is not None
                    and mask.document_BK[b, q] != mask.document_BK[b, k]
                ):
                    expected = False
                if mask.valid_BK is not None and not mask.valid_BK[b, k]:
                    expected = False
                assert bool(dense[b, q, k]) == (expected or q == k)


@given(
    causal=st.booleans(),
    documents=st.booleans(),
    prefix=st.booleans(),
    padding=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_a_hidden_token_changes_nothing(
    causal: bool, documents: bool, prefix: bool, padding: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    # One block: what is hidden from a position there reaches it through no other.
    shape = TransformerConfig(
        width=WIDTH, depth=1, num_heads=4, num_key_value_heads=2, causal=causal
    )
    transformer = Transformer(shape)
    mask = described(causal, documents, prefix, padding, seed)
    x = torch.randn(2, LENGTH, WIDTH)
    key = seed % LENGTH
    moved = x.clone()
    moved[:, key] += 10 * torch.randn(2, WIDTH)
    before, after = (transformer(y, mask=mask).last_BSD for y in (x, moved))
    sees = mask.dense(LENGTH, LENGTH, torch.device("cpu")).expand(2, -1, -1)[..., key]
    assert torch.equal(before[~sees], after[~sees])
    assert ((before - after).abs().amax(-1)[sees] > 1e-4).all()


@pytest.mark.parametrize("kind", ["documents", "prefix", "padding", "all"])
def test_flex_attention_honours_the_same_rule(kind: str) -> None:
    mask = described(
        True, kind in ("documents", "all"), kind in ("prefix", "all"), kind in ("padding", "all"), 1
    )
    cpu = torch.device("cpu")
    query = torch.randn(2, 4, LENGTH, 16, generator=torch.Generator().manual_seed(0))
    key, value = torch.randn(2, 2, 2, LENGTH, 16, generator=torch.Generator().manual_seed(1))
    through_flex = attend(query, key, value, mask.prepared("flex", LENGTH, LENGTH, cpu))
    through_sdpa = attend(query, key, value, mask.prepared("sdpa", LENGTH, LENGTH, cpu))
    torch.testing.assert_close(through_flex, through_sdpa, atol=1e-5, rtol=1e-5)
    # And both against the softmax written out.
    expanded = [x.repeat_interleave(2, dim=1) for x in (key, value)]
    scores = query @ expanded[0].transpose(-1, -2) / 4
    scores = scores.masked_fill(~mask.dense(LENGTH, LENGTH, cpu)[:, None], -torch.inf)
    torch.testing.assert_close(through_sdpa, scores.softmax(-1) @ expanded[1], atol=1e-5, rtol=1e-5)


def test_shared_heads_without_a_mask_are_repeated_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, LENGTH, 16, generator=generator)
    key, value = torch.randn(2, 2, 2, LENGTH, 16, generator=generator)
    mask = AttentionMask().prepared("sdpa", LENGTH, LENGTH, torch.device("cpu"))
    assert mask.is_causal
    repeated = [x.repeat_interleave(2, dim=1) for x in (key, value)]
    torch.testing.assert_close(
        attend(query, key, value, mask), attend(query, repeated[0], repeated[1], mask)
    )


@pytest.mark.parametrize("kind", ["causal", "everything", "documents", "prefix", "padding"])
def test_a_cpu_learns_in_half_precision_by_the_same_attention(kind: str) -> None:
    mask = described(
        kind != "everything", kind == "documents", kind == "prefix", kind == "padding", 1
    ).prepared("sdpa", LENGTH, LENGTH, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, LENGTH, 16, generator=generator)
    key, value, upstream = torch.randn(3, 2, 4, LENGTH, 16, generator=generator)
    half, whole = (
        [x.to(dtype).requires_grad_() for x in (query, key, value)]
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert _is_quicker_written_out(half[0], half[1])
    assert not _is_quicker_written_out(whole[0], whole[1])
    read, expected = attend(*half, mask), attend(*whole, mask)
    torch.testing.assert_close(read.float(), expected, atol=0.03, rtol=0.03)
    gradients = torch.autograd.grad((read.float() * upstream).sum(), half)
    others = torch.autograd.grad((expected * upstream).sum(), whole)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient.float(), other, atol=0.05, rtol=0.05)
