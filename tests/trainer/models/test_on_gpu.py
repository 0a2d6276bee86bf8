"""What only a GPU has: its kernels, mixed precision, compiled blocks, CUDA graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trainer.models.backbone import VisionLanguageInput
from trainer.models.captured_sampler import CapturedSampler
from trainer.models.language.attention import attend
from trainer.models.language.configuration import LanguageConfig, NormKind, TransformerConfig
from trainer.models.language.cross_entropy import IGNORED, cross_entropy, next_token_labels
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask
from trainer.models.presets import VISION_LANGUAGE_ACTION_PRESETS
from trainer.models.vision_language_action import VisionLanguageAction

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("kind", ["documents", "prefix", "padding", "all"])
def test_flex_attention_and_its_gradient_honour_the_mask(kind: str) -> None:
    length, device = 300, torch.device("cuda")
    generator = torch.Generator(device).manual_seed(0)

    def normal(heads: int) -> torch.Tensor:
        x = torch.randn(2, heads, length, 64, generator=generator, device=device)
        return x.requires_grad_()

    inputs = [normal(4), normal(2), normal(2)]
    mask = AttentionMask(
        document_BK=torch.arange(length, device=device)[None].expand(2, -1) // 70
        if kind in ("documents", "all")
        else None,
        prefix_B=torch.tensor([40, 100], device=device) if kind in ("prefix", "all") else None,
        valid_BK=torch.arange(length, device=device)[None] < torch.tensor([[300], [250]]).cuda()
        if kind in ("padding", "all")
        else None,
    )
    results = []
    for backend in ("sdpa", "flex"):
        read = attend(*inputs, mask.prepared(backend, length, length, device))  # type: ignore[arg-type]
        results.append((read, *torch.autograd.grad(read.square().sum(), inputs)))
    for exact, flex in zip(*results, strict=True):
        # TF32 products, where they are allowed.
        assert (exact - flex).norm() < 5e-3 * exact.norm()


def test_the_chunked_loss_is_torchs() -> None:
    hidden = torch.randn(100, 64, device="cuda", requires_grad=True)
    weight = torch.randn(1000, 64, device="cuda", requires_grad=True)
    label = torch.randint(1000, (100,), device="cuda")
    label[::3] = IGNORED
    ours = cross_entropy(hidden, weight, label, positions_at_once=32).loss
    exact = torch.nn.functional.cross_entropy(hidden @ weight.T, label)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)
    for got, expected in zip(
        torch.autograd.grad(ours, (hidden, weight)),
        torch.autograd.grad(exact, (hidden, weight)),
        strict=True,
    ):
        assert (got - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_compiled_mixed_precision_is_near_float32(norm: NormKind) -> None:
    shape = TransformerConfig(
        width=128,
        depth=3,
        num_heads=4,
        num_key_value_heads=2,
        norm=norm,
        qk_norm="per_head",  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    model = LanguageModel(LanguageConfig(transformer=shape, vocabulary_size=500)).cuda()
    token = torch.randint(500, (4, 256), device="cuda")
    label = next_token_labels(token)
    exact = model(token, label_BS=label).loss.loss
    expected = torch.autograd.grad(exact, list(model.parameters()))
    model.transformer.compile_blocks(dynamic=False)
    model.transformer.checkpoint_activations()
    with torch.autocast("cuda", torch.bfloat16):
        mixed = model(token, label_BS=label).loss.loss
    got = torch.autograd.grad(mixed, list(model.parameters()))
    torch.testing.assert_close(mixed, exact, atol=0.01, rtol=0.01)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == torch.float32
        assert (g - e).norm() < 0.05 * e.norm()


def test_a_captured_sampler_gives_what_the_policy_gives() -> None:
    config = VISION_LANGUAGE_ACTION_PRESETS["tiny"]
    torch.manual_seed(0)
    policy = VisionLanguageAction(config).cuda().eval()
    token = torch.tensor([[7, *[511] * 4, 8]], device="cuda")
    inputs = VisionLanguageInput(token_BS=token, images=torch.randn(1, 3, 32, 32, device="cuda"))
    noise = torch.randn(1, 10, 20, device="cuda")
    sampler = CapturedSampler(policy, inputs, noise)
    other = replace(inputs, images=torch.randn(1, 3, 32, 32, device="cuda"))
    for observation in (other, inputs):
        torch.testing.assert_close(sampler(observation, noise), policy.sample(observation, noise))
    with pytest.raises(ValueError, match="images: the sampler was captured for"):
        sampler(replace(inputs, images=None), noise)
