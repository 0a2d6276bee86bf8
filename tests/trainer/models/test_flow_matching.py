"""Flow matching against what is known in closed form for Gaussians."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trainer.models.action.configuration import Solver, TimeConfig
from trainer.models.action.flow_matching import (
    chunk_loss,
    integrate,
    noisy_chunk,
    sample_times,
    velocity_loss,
)

MEAN, DEVIATION = 1.5, 0.3


def best_velocity(x: Tensor, time: Tensor) -> Tensor:
    """E[e - a | x_s] for a ~ N(m, d^2) and e ~ N(0, 1), which are jointly normal with x_s."""
    s = time[:, None, None]
    variance = (1 - s) ** 2 * DEVIATION**2 + s**2
    covariance = s - (1 - s) * DEVIATION**2
    return -MEAN + covariance / variance * (x - (1 - s) * MEAN)


def test_a_predicted_chunk_is_wrong_by_as_much_as_its_velocity() -> None:
    generator = torch.Generator().manual_seed(0)
    chunk, noise, predicted = torch.randn(3, 8, 4, 2, generator=generator).unbind()
    weight = torch.ones(8, 4)
    time = torch.linspace(0.25, 1, 8)
    noisy = noisy_chunk(chunk, noise, time)
    velocity = (noisy - predicted) / time[:, None, None]
    expected = velocity_loss(velocity, chunk, noise, weight)
    torch.testing.assert_close(chunk_loss(predicted, chunk, time, weight), expected)
    # Where next to no noise is left, a chunk that is a little wrong must not outweigh all else.
    almost = torch.full((8,), 1e-3)
    assert chunk_loss(chunk + 0.01, chunk, almost, weight) == pytest.approx(0.04**2, rel=1e-3)
    assert chunk_loss(chunk, chunk, almost, weight) == 0


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_solvers_converge_with_their_order(solver: Solver, order: int) -> None:
    noise = torch.randn(64, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The flow carries one Gaussian into the other, quantile to quantile.
    exact = MEAN + DEVIATION * noise
    errors = [
        float((integrate(best_velocity, noise, num_steps=n, solver=solver) - exact).abs().max())
        for n in (40, 80, 160, 320)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 8, 10, 16, 33])
def test_n_steps_are_exactly_n_and_end_at_nought(num_steps: int) -> None:
    # A sampler whose step is floor(1000 / n) / 1000 takes 17 steps for 16, and overshoots.
    asked: list[float] = []
    chunk = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))

    def straight(_x: Tensor, time: Tensor) -> Tensor:
        asked.append(float(time[0]))
        return noise - chunk

    result = integrate(straight, noise, num_steps=num_steps)
    assert asked == pytest.approx([1 - k / num_steps for k in range(num_steps)])
    torch.testing.assert_close(result, chunk, atol=1e-5, rtol=1e-5)


def test_nothing_leaves_the_bound() -> None:
    # Noise beyond the bound is cut before the first step too, as it was in training.
    noise = 3 * torch.randn(2, 4, 1, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def velocity(x: Tensor, _time: Tensor) -> Tensor:
        seen.append(x)
        return 5 * torch.ones_like(x)

    result = integrate(velocity, noise, num_steps=4, clamp=1.5)
    for x in [*seen, result]:
        assert x.abs().max() <= 1.5


def test_the_best_velocity_has_the_least_loss_and_it_is_the_known_one() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 400_000
    chunk = MEAN + DEVIATION * torch.randn(count, 1, 1, generator=generator)
    noise = torch.randn(count, 1, 1, generator=generator)
    weight = torch.ones(count, 1)
    for s in (0.2, 0.5, 0.9):
        time = torch.full((count,), s)
        noisy = noisy_chunk(chunk, noise, time)
        offset = torch.zeros((), requires_grad=True)
        gain = torch.ones((), requires_grad=True)
        predicted = offset + gain * best_velocity(noisy, time)
        loss = velocity_loss(predicted, chunk, noise, weight)
        # var(e - a) - cov^2 / var(x)
        variance = (1 - s) ** 2 * DEVIATION**2 + s**2
        least = 1 + DEVIATION**2 - (s - (1 - s) * DEVIATION**2) ** 2 / variance
        assert float(loss.detach()) == pytest.approx(least, rel=0.01)
        slopes = torch.autograd.grad(loss, (offset, gain))
        assert max(abs(float(slope)) for slope in slopes) < 0.02


def test_a_step_of_no_weight_counts_nothing() -> None:
    chunk, noise = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    velocity = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [100.0, 100.0]]])
    loss = velocity_loss(velocity, chunk, noise, torch.tensor([[1.0, 1.0, 0.0]]))
    assert float(loss) == pytest.approx(2.5)
    assert float(velocity_loss(velocity, chunk, noise, torch.zeros(1, 3))) == 0


@pytest.mark.parametrize(
    ("config", "mean", "variance"),
    [
        (TimeConfig(), 1 / 2, 1 / 12),
        # alpha / (alpha + beta), and alpha beta / ((alpha + beta)^2 (alpha + beta + 1)).
        (TimeConfig(distribution="beta", alpha=1.5, beta=1.0), 0.6, 0.24 / 3.5),
        (TimeConfig(distribution="beta", alpha=1.0, beta=3.0), 0.25, 0.1875 / 5),
        (TimeConfig(distribution="beta", alpha=2.0, beta=3.0), 0.4, 0.24 / 6),
        # By numerical integration of the logistic function of a normal.
        (TimeConfig(distribution="logit_normal"), 0.5, 0.04336),
        (TimeConfig(num_levels=4), 3 / 8, 5 / 64),
    ],
)
def test_times_have_their_distributions_moments(
    config: TimeConfig, mean: float, variance: float
) -> None:
    count = 200_000
    generator = torch.Generator().manual_seed(0)
    time = sample_times(config, count, generator, torch.device("cpu"))
    assert time.min() >= 0
    assert time.max() <= 1
    assert float(time.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / count))
    assert float(time.var()) == pytest.approx(variance, rel=0.02)
