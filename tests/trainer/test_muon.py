"""Muon: its steps are orthogonal, what it leaves to AdamW is AdamW's, and runs resume."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainer.steps import train_until
from trainer.checkpoint import read_checkpoint
from trainer.models.parameter_groups import parameter_groups
from trainer.muon import Muon
from trainer.optimizers import Optimizers
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train

_MUON = OptimizerConfig(kind="muon", warmup_steps=2)


def _optimizer(network: nn.Module, *, weight_decay: float = 0.0, momentum: float = 0.0) -> Muon:
    groups = parameter_groups(
        network, learning_rate=1e-3, weight_decay=weight_decay, matrix_learning_rate=0.5
    )
    return Muon([group for group in groups if group["is_orthogonal"]], momentum=momentum)


def _step(optimizer: Muon, parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """What the step takes away."""
    before = parameter.detach().clone()
    parameter.grad = gradient
    optimizer.step()
    return before - parameter.detach()


@pytest.mark.parametrize(
    ("columns", "rows"), [(64, 32), (32, 32), (20, 32), (12, 40), (64, 48)], ids=str
)
def test_a_step_has_the_gradients_singular_vectors_and_values_near_one(
    columns: int, rows: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(columns, rows, bias=False)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    gradient = left @ torch.diag(torch.logspace(0, -2, min(rows, columns))) @ right
    update = _step(_optimizer(layer), layer.weight, gradient)
    inside = left.T @ update @ right.T / (0.5 * max(1.0, rows / columns) ** 0.5)
    values = inside.diagonal()
    assert (inside - torch.diag(values)).abs().max() < 1e-3
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("rows_of_block", [48, 64])
def test_a_tall_matrix_is_made_orthogonal_block_by_block(rows_of_block: int) -> None:
    torch.manual_seed(0)
    rows = 2 * rows_of_block
    layer, block = nn.Linear(80, rows, bias=False), nn.Linear(80, rows_of_block, bias=False)
    gradient = torch.randn(rows, 80)
    update = _step(_optimizer(layer), layer.weight, gradient)
    for some in (slice(0, rows_of_block), slice(rows_of_block, rows)):
        alone = _step(_optimizer(block), block.weight, gradient[some])
        assert torch.allclose(update[some], alone, atol=1e-5)


def test_a_kernel_is_a_matrix_of_a_row_an_output_channel() -> None:
    torch.manual_seed(0)
    kernel, layer = nn.Conv2d(4, 8, 3, bias=False), nn.Linear(36, 8, bias=False)
    gradient = torch.randn(8, 4, 3, 3)
    update = _step(_optimizer(kernel), kernel.weight, gradient)
    alone = _step(_optimizer(layer), layer.weight, gradient.flatten(1))
    assert torch.allclose(update.flatten(1), alone, atol=1e-6)


def test_momentum_averages_gradients_and_decay_shrinks_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 8, bias=False)
    optimizer = _optimizer(layer, weight_decay=0.1, momentum=0.9)
    first, second = torch.randn(8, 16), torch.randn(8, 16)
    _step(optimizer, layer.weight, first)
    before = layer.weight.detach().clone()
    update = _step(optimizer, layer.weight, second) - 0.5 * 0.1 * before
    # Nesterov: of 0.9 of what the average will be and 0.1 of what was just seen.
    average = 0.9 * 0.1 * first + 0.1 * second
    plain = nn.Linear(16, 8, bias=False)
    expected = _step(_optimizer(plain), plain.weight, 0.9 * average + 0.1 * second)
    assert torch.allclose(update, expected, atol=1e-5)


def test_without_a_gradient_nothing_moves_and_of_zeros_no_nan_comes() -> None:
    layer = nn.Linear(16, 8, bias=False)
    optimizer, before = _optimizer(layer), layer.weight.detach().clone()
    optimizer.step()
    _step(optimizer, layer.weight, torch.zeros(8, 16))
    assert torch.equal(layer.weight, before)


class _Speaker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.inside = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 50, bias=False)


def test_words_biases_and_norms_are_left_to_adamw() -> None:
    torch.manual_seed(0)
    network = _Speaker()
    optimizers = Optimizers(network, replace(_MUON, weight_decay=0.1))
    by_muon = [p for group in optimizers.groups if group["is_orthogonal"] for p in group["params"]]
    assert by_muon == [network.inside.weight]
    rest = [p for p in network.parameters() if p is not network.inside.weight]
    copies = [nn.Parameter(p.detach().clone()) for p in rest]
    groups = [
        {"params": [p for p in copies if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in copies if p.ndim == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-3, betas=(_MUON.beta1, _MUON.beta2), fused=True)
    for _ in range(3):
        for parameter, twin in zip(rest, copies, strict=True):
            parameter.grad = torch.randn_like(parameter)
            twin.grad = parameter.grad.clone()
        network.inside.weight.grad = torch.randn(16, 16)
        optimizers.step()
        adamw.step()
    for parameter, twin in zip(rest, copies, strict=True):
        assert torch.equal(parameter, twin)


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, optimizer=_MUON)
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "cut", monkeypatch, 7, by=signal.SIGINT)
    resumed = train(config, tmp_path / "cut")
    one, other = read_checkpoint(whole).weights, read_checkpoint(resumed).weights
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: OptimizerConfig(matrix_learning_rate=0.0),
            "matrix_learning_rate: expected a positive number, got 0.0",
        ),
        (lambda: OptimizerConfig(momentum=1.0), "momentum: expected 0 <= value < 1, got 1.0"),
    ],
)
def test_rates_that_cannot_be_are_refused(make: Callable[[], OptimizerConfig], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()
