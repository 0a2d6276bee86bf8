"""Heads of others answer as the flow head does, and learn what theirs learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trainer.configuration_json import config_from_json, config_to_json
from trainer.models.baseline_heads import DiffusionHead, RegressionHead
from trainer.models.chunk_policy import integrate_flow
from trainer.models.configuration import (
    BaselineHeadConfig,
    DiffusionHeadConfig,
    ModelConfig,
    RegressionHeadConfig,
)
from trainer.policy_configuration import ServingConfig, TrainConfig

LENGTH, SIZE, TOKENS, WIDTH = 8, 3, 2, 16
DIFFUSION = DiffusionHeadConfig(channels=(16, 32), kernel_size=3, levels_per_image=2)
REGRESSION = RegressionHeadConfig(width=32, decoder_depth=2, num_heads=2)


def _diffusion_head(config: DiffusionHeadConfig = DIFFUSION) -> DiffusionHead:
    return DiffusionHead(
        config, num_tokens=TOKENS, token_width=WIDTH, chunk_length=LENGTH, action_size=SIZE
    )


def _regression_head() -> RegressionHead:
    return RegressionHead(REGRESSION, token_width=WIDTH, chunk_length=LENGTH, action_size=SIZE)


def test_the_flow_of_a_diffusion_is_that_of_its_data() -> None:
    # For data N(m, s^2) the best told noise is known, and both DDIM's and the flow's way takes
    # noise e to m + s e.
    mean, deviation = 0.4, 0.2
    head = _diffusion_head()

    class Posterior(nn.Module):
        def forward(self, noisy: Tensor, time: Tensor, _scene: Tensor) -> Tensor:
            level = (time * head.diffusion.num_levels).round().long()
            chunk = head.chunk_N[level][:, None, None]
            noise = head.noise_N[level][:, None, None]
            gain = noise / (noise**2 + (chunk * deviation) ** 2)
            return gain * (noisy - chunk * mean)

    head.denoiser = Posterior()  # type: ignore[assignment]
    noise = torch.randn(16, LENGTH, SIZE, generator=torch.Generator().manual_seed(0))
    result = integrate_flow(head, head.read(torch.zeros(16, TOKENS, WIDTH)), noise, 100)
    torch.testing.assert_close(result, mean + deviation * noise, atol=0.03, rtol=0.0)


def test_both_learn_a_chunk_and_regression_tells_it_whatever_the_noise() -> None:
    torch.manual_seed(0)
    tokens, valid = torch.zeros(16, TOKENS, WIDTH), torch.ones(16, LENGTH)
    chunk = torch.randn(LENGTH, SIZE).clamp(-1, 1).expand(16, -1, -1)
    for head in (_diffusion_head(), _regression_head()):
        optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
        losses = []
        for _ in range(20):
            given = {
                "noise_RBTA": torch.randn(head.repeats, 16, LENGTH, SIZE),
                "time_RB": torch.rand(head.repeats, 16),
            }
            optimizer.zero_grad()
            loss = head.loss(head.read(tokens), chunk, valid, **given)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) / 5 < 0.8 * losses[0], losses
    with torch.no_grad():
        told = integrate_flow(head, head.read(tokens), torch.randn(16, LENGTH, SIZE), 8)
    torch.testing.assert_close(told, told[:1].expand(16, -1, -1))


def test_padding_counts_nothing() -> None:
    torch.manual_seed(0)
    for head in (_diffusion_head(), _regression_head()):
        chunk = torch.randn(4, LENGTH, SIZE)
        valid = torch.ones(4, LENGTH)
        valid[:, 5:] = 0
        given = {
            "noise_RBTA": torch.randn(head.repeats, 4, LENGTH, SIZE),
            "time_RB": torch.zeros(head.repeats, 4),
        }
        scene = head.read(torch.randn(4, TOKENS, WIDTH))
        if isinstance(head, RegressionHead):
            other = torch.where(valid[..., None] > 0, chunk, chunk + 9.0)
            same = head.loss(scene, other, valid, **given)
            torch.testing.assert_close(head.loss(scene, chunk, valid, **given), same)
        none = head.loss(scene, chunk, torch.zeros(4, LENGTH), **given)
        assert none.item() == 0.0


@pytest.mark.parametrize(
    "baseline",
    [
        pytest.param(DIFFUSION, id="diffusion", marks=pytest.mark.slow),
        pytest.param(REGRESSION, id="regression"),
    ],
)
def test_a_baseline_trains_is_stored_and_serves(
    tiny_config: TrainConfig, baseline: BaselineHeadConfig, tmp_path: Path
) -> None:
    from trainer.policy_loading import load_policy
    from trainer.training_loop import train

    config = replace(
        tiny_config,
        num_steps=2,
        checkpoint_steps=(),
        validation_every=2,
        model=replace(tiny_config.model, baseline=baseline),
        serving=ServingConfig(num_flow_steps=2, open_loop_steps=4),
    )
    policy = load_policy(train(config, tmp_path / "run"))
    assert policy.chunk_length == config.chunk_length
    stored = config_from_json((tmp_path / "run" / "config.json").read_text())
    assert isinstance(stored, TrainConfig)
    assert stored.model.baseline == baseline


def test_configurations_from_before_baselines_are_read(tiny_config: TrainConfig) -> None:
    told = json.loads(config_to_json(tiny_config))
    del told["model"]["baseline"]
    assert config_from_json(json.dumps(told)) == tiny_config
    assert ModelConfig().baseline is None
