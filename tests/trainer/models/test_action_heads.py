"""The other ways to a chunk: diffusion, a U-Net, regression, words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.models.action.action_tokens import (
    ActionTokenConfig,
    ActionTokenizer,
    UndecodableTokensError,
)
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.action.diffusion import (
    DiffusionConfig,
    Prediction,
    Sampler,
    denoise,
    diffusion_loss,
    diffusion_target,
    noised,
)
from trainer.models.action.regression import ChunkRegression, regression_loss
from trainer.models.action.unet import ConvolutionalDenoiser, UnetConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.requirements import ConfigurationError

MEAN, DEVIATION = 0.4, 0.3
SPACE = ActionSpaceConfig(action_size=3, chunk_length=16)


def gaussians_best(config: DiffusionConfig) -> object:
    """The best output for chunks ~ N(MEAN, DEVIATION^2): conditional means of normal numbers."""

    def output(x: Tensor, time: Tensor) -> Tensor:
        level = (time * config.num_levels).round().long()
        kept = config.kept(x.device)[level][:, None, None].to(x.dtype)
        gain = kept.sqrt() * DEVIATION**2 / (kept * DEVIATION**2 + 1 - kept)
        chunk = MEAN + gain * (x - kept.sqrt() * MEAN)
        noise = (x - kept.sqrt() * chunk) / (1 - kept).sqrt()
        if config.prediction == "noise":
            return noise
        if config.prediction == "chunk":
            return chunk
        return kept.sqrt() * noise - (1 - kept).sqrt() * chunk

    return output


@pytest.mark.parametrize("prediction", ["noise", "chunk", "v"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_perfect_network_samples_the_gaussian(prediction: Prediction, sampler: Sampler) -> None:
    config = DiffusionConfig(
        num_levels=200, num_steps=200, prediction=prediction, sampler=sampler, clip=None
    )
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, 1, generator=generator, dtype=torch.float64)
    chunk = denoise(config, gaussians_best(config), noise, generator=generator)  # type: ignore[arg-type]
    # Three standard errors are 0.006 and 0.0045; 200 steps leave less than that.
    assert float(chunk.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(chunk.std()) == pytest.approx(DEVIATION, abs=0.01)
    if sampler == "ddim":
        # It carries quantile to quantile.
        assert float(torch.corrcoef(torch.stack([noise, chunk]).flatten(1))[0, 1]) > 0.9999


@pytest.mark.parametrize("num_steps", [1, 3, 7, 10, 16, 100])
def test_n_steps_are_exactly_n_from_the_noisiest_level(num_steps: int) -> None:
    config = DiffusionConfig(num_levels=100, num_steps=num_steps, prediction="chunk", clip=None)
    chunk = torch.full((2, 4, 3), 0.7)
    asked: list[int] = []

    def oracle(x: Tensor, time: Tensor) -> Tensor:
        asked.append(round(float(time[0]) * 100))
        return chunk.to(x.dtype)

    result = denoise(config, oracle, torch.randn(2, 4, 3))
    torch.testing.assert_close(result, chunk)
    assert len(asked) == num_steps
    assert asked[0] == 99
    assert sorted(set(asked), reverse=True) == asked


@pytest.mark.parametrize("prediction", ["noise", "chunk", "v"])
def test_the_target_has_no_loss_and_keeps_variance(prediction: Prediction) -> None:
    config = DiffusionConfig(prediction=prediction)
    generator = torch.Generator().manual_seed(0)
    chunk, noise = torch.randn(2, 500, 16, 3, generator=generator)
    level = torch.randint(100, (500,), generator=generator)
    # Of chunks of variance one, noisy chunks have variance one at every level.
    assert float(noised(config, chunk, noise, level).var()) == pytest.approx(1, abs=0.03)
    target = diffusion_target(config, chunk, noise, level)
    loss = diffusion_loss(
        config,
        lambda _x, _time: target + 0.5,
        chunk,
        torch.ones(500, 16),
        noise_BTA=noise,
        level_B=level,
    )
    assert float(loss) == pytest.approx(0.25, rel=1e-4)


def test_schedules_are_the_published_ones() -> None:
    cosine = DiffusionConfig(num_levels=1000).kept(torch.device("cpu"))
    # Equation 17 of Nichol and Dhariwal at half of the levels.
    angle = (0.5 + 0.008) / 1.008 * math.pi / 2
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert float(cosine[499]) == pytest.approx(math.cos(angle) ** 2 / start, rel=1e-9)
    linear = DiffusionConfig(num_levels=1000, schedule="linear").kept(torch.device("cpu"))
    assert float(linear[0]) == pytest.approx(1 - 1e-4)
    # exp of the sum of log(1 - beta): 4.04e-5 for DDPM's schedule.
    assert float(linear[-1]) == pytest.approx(4.04e-5, rel=0.01)


def test_the_unet_learns_and_is_told_time_and_scene() -> None:
    torch.manual_seed(0)
    network = ConvolutionalDenoiser(
        UnetConfig(channels=(16, 32), time_width=16), SPACE, observation_size=5
    )
    x, time, scene = torch.randn(4, 16, 3), torch.rand(4), torch.randn(4, 5)
    output = network(x, time, scene)
    assert output.shape == (4, 16, 3)
    assert not torch.allclose(output, network(x, 1 - time, scene))
    assert not torch.allclose(output, network(x, time, -scene))
    target = torch.randn(4, 16, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (network(x, time, scene) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    with pytest.raises(ConfigurationError, match="^chunk_length: expected a multiple of 4"):
        ConvolutionalDenoiser(
            UnetConfig(channels=(16, 16, 16)),
            ActionSpaceConfig(action_size=3, chunk_length=6),
            observation_size=5,
        )


def test_regression_reads_no_padding_and_learns() -> None:
    torch.manual_seed(0)
    shape = TransformerConfig(width=32, depth=2, num_heads=2, causal=False)
    network = ChunkRegression(shape, SPACE, observation_width=7)
    scene = torch.randn(2, 5, 7)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    predicted = network(scene, valid)
    moved = scene.clone()
    moved[1, 3:] += 5
    assert torch.equal(predicted, network(moved, valid))
    torch.testing.assert_close(
        predicted[1:], network(scene[1:, :3], valid[1:, :3]), atol=1e-5, rtol=1e-5
    )
    target, weight = torch.randn(2, 16, 3), torch.ones(2, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        loss = regression_loss(network(scene, valid), target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def smooth_chunks(count: int, seed: int) -> np.ndarray:
    """Sums of slow waves, as motion is."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 3))
    speed = rng.uniform(0.05, 0.25, (count, 1, 3))
    return np.sin(phase + speed * np.arange(16)[None, :, None])


def test_words_are_fewer_than_numbers_and_lose_little() -> None:
    config = ActionTokenConfig(scale=20, vocabulary_size=400)
    tokenizer = ActionTokenizer.fitted(config, SPACE, smooth_chunks(400, seed=0))
    assert tokenizer.vocabulary_size == 400
    chunks = smooth_chunks(50, seed=1)
    words = [tokenizer.encode(chunk) for chunk in chunks]
    assert np.mean([len(w) for w in words]) < 0.5 * 48
    for chunk, word in zip(chunks, words, strict=True):
        # An orthonormal transform: the error's root mean square is that of the rounding, at most
        # half a level.
        error = tokenizer.decode(word) - chunk
        assert np.sqrt(np.square(error).mean()) <= 0.5 / 20
    again = ActionTokenizer(config=config, space=SPACE, merges=tokenizer.merges)
    assert np.array_equal(again.encode(chunks[0]), words[0])


@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 3))
@settings(max_examples=30, deadline=None)
def test_what_is_decoded_encodes_to_the_same_words(seed: int, spread: float) -> None:
    chunk = spread * np.random.default_rng(seed).standard_normal((16, 3))
    words = _TOKENIZER.encode(chunk)
    decoded = _TOKENIZER.decode(words)
    assert np.array_equal(_TOKENIZER.encode(decoded), words)


_TOKENIZER = ActionTokenizer.fitted(
    ActionTokenConfig(vocabulary_size=300), SPACE, smooth_chunks(100, seed=2)
)


def test_nonsense_is_refused() -> None:
    words = _TOKENIZER.encode(smooth_chunks(1, seed=3)[0])
    with pytest.raises(UndecodableTokensError, match="a chunk of 16 x 3 has 48"):
        _TOKENIZER.decode(words[:-1])
    with pytest.raises(UndecodableTokensError, match=r"words \[9999\]"):
        _TOKENIZER.decode([9999])
    with pytest.raises(ConfigurationError, match="^vocabulary_size: expected at least"):
        ActionTokenConfig(vocabulary_size=10)
