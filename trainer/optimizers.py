"""What turns a network's gradients into a step: AdamW, or Muon with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.parameter_groups import parameter_groups
from trainer.muon import Muon
from trainer.requirements import ConfigurationError
from trainer.training_configuration import OptimizerConfig


class Optimizers:
    """Of what is trained of a network; what a multiplier of 0 freezes wants no gradient any more.

    Raises ConfigurationError where nothing is trained.
    """

    def __init__(self, network: nn.Module, config: OptimizerConfig) -> None:
        groups = parameter_groups(
            network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            multipliers=config.multiplier_of,
            matrix_learning_rate=config.matrix_learning_rate if config.kind == "muon" else None,
        )
        if not groups:
            raise ConfigurationError(
                "optimizer.multipliers, adaptation: expected something that is trained, got a "
                "network of which everything is frozen"
            )
        self._names: dict[Tensor, str] = {p: name for name, p in network.named_parameters()}
        self._all: list[torch.optim.Optimizer] = []
        inner = [group for group in groups if group["is_orthogonal"]]
        rest = [group for group in groups if not group["is_orthogonal"]]
        if rest:
            betas = (config.beta1, config.beta2)
            self._all.append(
                torch.optim.AdamW(rest, lr=config.learning_rate, betas=betas, fused=True)
            )
        if inner:
            self._all.append(Muon(inner, momentum=config.momentum))

    @property
    def groups(self) -> list[dict[str, Any]]:
        """As torch's optimizers have them, with what parameter_groups adds."""
        return [group for each in self._all for group in each.param_groups]

    def set_learning_rate(self, rate: float) -> None:
        """Of all groups, each by its multiplier."""
        for group in self.groups:
            group["lr"] = rate * group["multiplier"]

    def zero_grad(self) -> None:
        for each in self._all:
            each.zero_grad()

    def step(self) -> None:
        for each in self._all:
            each.step()

    def state(self) -> dict[str, Tensor]:
        """Each moment as parameter/moment."""
        return {
            f"{self._names[parameter]}/{key}": tensor
            for each in self._all
            for parameter, moments in each.state.items()
            for key, tensor in moments.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave. Raises ValueError where it is another network's."""
        moments: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            owner, _, key = name.rpartition("/")
            moments.setdefault(owner, {})[key] = tensor
        # States were once by place.
        places = {str(place): name for place, name in enumerate(self._names_by_place())}
        moments = {places.get(owner, owner): tensors for owner, tensors in moments.items()}
        unknown = moments.keys() - set(places.values())
        if unknown:
            raise ValueError(f"training state: moments of unknown parameters {sorted(unknown)}")
        for each in self._all:
            own = [self._names[p] for group in each.param_groups for p in group["params"]]
            known = {place: moments[name] for place, name in enumerate(own) if name in moments}
            each.load_state_dict(
                {"state": known, "param_groups": each.state_dict()["param_groups"]}
            )

    def _names_by_place(self) -> list[str]:
        return [self._names[p] for group in self.groups for p in group["params"]]
