"""A checkpoint's tensors go where they belong, and nowhere else."""

import pytest
import torch
from torch import nn

from trainer.initialization import load_part
from trainer.requirements import ConfigurationError


@pytest.fixture
def part() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def weights_like(part: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(each, 7.0) for name, each in part.named_parameters()}


def test_all_of_them_are_taken(part: nn.Sequential) -> None:
    load_part(part, weights_like(part), source="runs/lm")
    assert all((each == 7).all() for each in part.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.bias": None}, "missing 0.bias; unexpected none"),
        ({"2.bias": torch.zeros(2)}, "unexpected 2.bias"),
        ({"1.bias": torch.zeros(5)}, r"another shape 1.bias \(5,\), not \(2,\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_taken(
    part: nn.Sequential, change: dict[str, torch.Tensor | None], said: str
) -> None:
    before = [each.clone() for each in part.parameters()]
    changed = {**weights_like(part), **change}
    given = {name: each for name, each in changed.items() if each is not None}
    with pytest.raises(ConfigurationError, match=f"runs/lm.*{said}.*init_except"):
        load_part(part, given, source="runs/lm")
    for own, was in zip(part.parameters(), before, strict=True):
        assert torch.equal(own, was)


def test_exceptions_stay_as_they_are(part: nn.Sequential) -> None:
    given = {**weights_like(part), "1.bias": torch.zeros(5), "2.bias": torch.zeros(2)}
    del given["0.bias"]
    kept = {name: each.clone() for name, each in part.named_parameters()}
    load_part(part, given, source="runs/lm", exceptions=("0.bias", "1.b", "2."))
    for name, each in part.named_parameters():
        assert torch.equal(each, kept[name] if name.endswith("bias") else given[name])


def test_an_exception_that_excepts_nothing_is_a_mistake(part: nn.Sequential) -> None:
    with pytest.raises(ConfigurationError, match="init_except.*'visoin'"):
        load_part(part, weights_like(part), source="runs/lm", exceptions=("visoin",))
