"""Flow matching: exact integration, masks, and the bug that once cost a policy everything."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainer.models.chunk_policy import integrate_flow
from trainer.models.configuration import FlowHeadConfig, ModelConfig, VisionConfig
from trainer.models.flow_head import Conditioning, FlowHead, flow_loss
from trainer.models.policy_network import PolicyNetwork

LENGTH, SIZE = 8, 20
CONFIG = FlowHeadConfig(
    width=64, depth=2, num_heads=2, mlp_ratio=2, timesteps_per_token=2, flow_times_per_image=1
)


class _Oracle(nn.Module):
    """Knows the clean chunk, and counts how often it is asked."""

    def __init__(self, chunk: Tensor) -> None:
        super().__init__()
        self.chunk = chunk
        self.times: list[float] = []

    def forward(self, noisy: Tensor, time: Tensor, _conditioning: Conditioning) -> Tensor:
        self.times.append(float(time[0]))
        return self.chunk.expand_as(noisy)


def no_conditioning() -> Conditioning:
    return Conditioning(modulation=torch.zeros(3, 1), keys_values=())


@pytest.mark.parametrize("num_steps", [1, 2, 7, 8, 10, 16, 1000])
def test_n_euler_steps_are_exactly_n_and_end_at_the_prediction(num_steps: int) -> None:
    # A sampler whose step is floor(1000 / n) / 1000 takes 17 steps for 16 and overshoots.
    chunk = torch.randn(1, LENGTH, SIZE, generator=torch.Generator().manual_seed(0))
    oracle = _Oracle(chunk)
    noise = torch.randn(3, LENGTH, SIZE, generator=torch.Generator().manual_seed(1))
    result = integrate_flow(oracle, no_conditioning(), noise, num_steps)  # type: ignore[arg-type]
    assert oracle.times == pytest.approx([k / num_steps for k in range(num_steps)])
    torch.testing.assert_close(result, chunk.expand(3, -1, -1), atol=1e-6, rtol=1e-6)


def test_integration_follows_the_flow_of_a_gaussian() -> None:
    # For data N(m, s^2) the best prediction is known, and the flow maps noise e to m + s e
    # (the transport of one Gaussian into another along straight lines).
    mean, deviation = 1.5, 0.3

    class Posterior(nn.Module):
        def forward(self, x: Tensor, time: Tensor, _conditioning: Conditioning) -> Tensor:
            t = time[:, None, None]
            gain = t * deviation**2 / ((1 - t) ** 2 + (t * deviation) ** 2)
            return mean + gain * (x - t * mean)

    noise = torch.randn(500, 1, 1, generator=torch.Generator().manual_seed(0))
    result = integrate_flow(Posterior(), no_conditioning(), noise, 400)  # type: ignore[arg-type]
    torch.testing.assert_close(result, mean + deviation * noise, atol=0.01, rtol=0)


def make_head() -> FlowHead:
    torch.manual_seed(0)
    return FlowHead(CONFIG, chunk_length=LENGTH, action_size=SIZE)


def test_what_lies_beyond_an_episode_does_not_change_the_loss() -> None:
    head = make_head()
    for parameter in head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    conditioning = head.read(torch.randn(4, 3, CONFIG.width))
    chunk, noise = torch.randn(4, LENGTH, SIZE), torch.randn(4, LENGTH, SIZE)
    time, valid = torch.rand(4), (torch.arange(LENGTH) < 5).float().expand(4, -1)

    def loss(chunk: Tensor, head: nn.Module) -> Tensor:
        return flow_loss(head, conditioning, chunk, valid, noise_BTA=noise, time_B=time)  # type: ignore[arg-type]

    # An oracle answers the same whatever it is shown, so only the target's tail differs.
    oracle = _Oracle(torch.zeros(1, LENGTH, SIZE))
    other = torch.where(valid[..., None] > 0, chunk, torch.full_like(chunk, 50.0))
    assert loss(chunk, oracle) == loss(other, oracle)
    assert loss(chunk, oracle) > 0
    gradient = torch.autograd.grad(loss(chunk.requires_grad_(), oracle), chunk)[0]
    assert (gradient[:, 5:] == 0).all()
    assert (gradient[:, :5] != 0).any()


def test_conditioning_can_be_repeated_for_several_flow_times() -> None:
    head = make_head()
    for parameter in head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    tokens, noise, time = (
        torch.randn(3, 4, CONFIG.width),
        torch.randn(6, LENGTH, SIZE),
        torch.rand(6),
    )
    repeated = head(noise, time, head.read(tokens).repeated(2))
    by_hand = head(noise, time, head.read(tokens.repeat(2, 1, 1)))
    torch.testing.assert_close(repeated, by_hand)


@pytest.mark.slow
def test_a_head_narrower_than_its_chunk_still_learns_the_chunk() -> None:
    # 160 numbers a chunk, 32 wide, all timesteps in one token: predicting velocities cannot work
    # here, since noise does not fit through (its error stays near 1 - 32 / 160); chunks do.
    config = FlowHeadConfig(
        width=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        timesteps_per_token=LENGTH,
        flow_times_per_image=1,
    )
    torch.manual_seed(0)
    head = FlowHead(config, chunk_length=LENGTH, action_size=SIZE)
    tokens = torch.randn(4, 1, 32)
    chunks = torch.randn(4, LENGTH, SIZE)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        flow_loss(
            head,
            head.read(tokens).repeated(8),
            chunks.repeat(8, 1, 1),
            torch.ones(32, LENGTH),
            noise_BTA=torch.randn(32, LENGTH, SIZE),
            time_B=torch.rand(32),
        ).backward()
        optimizer.step()
    with torch.no_grad():
        sampled = integrate_flow(head, head.read(tokens), torch.randn(4, LENGTH, SIZE), 8)
    assert (sampled - chunks).square().mean() < 0.02


@pytest.mark.slow
def test_samples_keep_both_of_two_ways() -> None:
    # A regression to the mean would answer 0, which is no way at all.
    torch.manual_seed(0)
    config = FlowHeadConfig(
        width=32, depth=2, num_heads=2, mlp_ratio=2, timesteps_per_token=1, flow_times_per_image=1
    )
    head = FlowHead(config, chunk_length=1, action_size=1)
    tokens = torch.zeros(1, 1, 32)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        way = torch.randint(2, (128, 1, 1)) * 2.0 - 1.0
        flow_loss(
            head,
            head.read(tokens).repeated(128),
            way,
            torch.ones(128, 1),
            noise_BTA=torch.randn(128, 1, 1),
            time_B=torch.rand(128),
        ).backward()
        optimizer.step()
    with torch.no_grad():
        sampled = integrate_flow(head, head.read(tokens).repeated(400), torch.randn(400, 1, 1), 16)
    assert (sampled.abs() - 1).abs().median() < 0.1
    share = (sampled > 0).float().mean().item()
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 400)


def test_the_network_takes_any_image_size_and_uses_every_input() -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        vision=VisionConfig(stem_channels=8, channels=16, num_keypoints=4), flow_head=CONFIG
    )
    network = PolicyNetwork(
        config,
        cameras={"a.b": (37, 64), "c": (96, 33)},
        chunk_length=LENGTH,
        action_size=SIZE,
        proprioception_size=SIZE,
    )
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    inputs = {
        "a.b": torch.randn(2, 3, 37, 64),
        "c": torch.randn(2, 3, 96, 33),
        "state": torch.randn(2, SIZE),
        "noise": torch.randn(2, LENGTH, SIZE),
    }

    def run(given: dict[str, Tensor]) -> Tensor:
        return network(
            {name: given[name] for name in ("a.b", "c")}, given["state"], given["noise"], 3
        )

    for tensor in inputs.values():
        tensor.requires_grad_()
    run(inputs).square().sum().backward()
    for name, tensor in inputs.items():
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []
