"""A network, its averaged copy and its optimizer: what an optimizer step changes.

Axes: B sample, R flow times an image, T timestep, A numbers an action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from trainer.configuration import EmaConfig, OptimizerConfig, TrainConfig
from trainer.data.batches import Batch
from trainer.models.flow_head import flow_loss
from trainer.models.policy_network import PolicyNetwork

_NETWORK, _EMA, _OPTIMIZER = "network/", "ema/", "optimizer/"


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient that is no number any more."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """gradient_norm: before clipping."""

    loss: float
    gradient_norm: float
    learning_rate: float


def learning_rate_at(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Of optimizer step `step`, counted from 0: linear warm-up, then a cosine."""
    warmup = min(config.warmup_steps, total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    floor = config.final_learning_rate_fraction
    return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def ema_decay_at(step: int, config: EmaConfig) -> float:
    """After `step` steps: grows, so that early averages forget the random first weights."""
    return min(config.max_decay, (1 + step) / (10 + step))


def _build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    vectors = [p for p in network.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


class Learner:
    """Weights, averages and moments are float32 throughout; only activations may be bfloat16.

    num_threads: on a CPU a batch is cut in so many parts, each computed by one thread, and their
    gradients are added in order. Threads inside of torch's operations wait for each other
    hundreds of times a step, spinning, and lose tenfold where a core is taken; these meet once.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        config: TrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        self.config = config
        self.num_threads = num_threads if device.type == "cpu" else 1
        self._workers = ThreadPoolExecutor(
            max_workers=self.num_threads, initializer=torch.set_num_threads, initargs=(1,)
        )
        self.device = device
        self.network = network.to(device)
        self.ema = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizer = _build_optimizer(self.network, config.optimizer)

    def step(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """Optimizer step `step`, counted from 0. Raises TrainingDivergedError, nothing changed."""
        rate = learning_rate_at(step, self.config.total_steps, self.config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._set_gradients(batch, generator)
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), self.config.optimizer.max_gradient_norm
        )
        result = StepResult(loss=loss.item(), gradient_norm=norm.item(), learning_rate=rate)
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            raise TrainingDivergedError(
                f"optimizer step {step + 1}: loss {result.loss}, gradient norm "
                f"{result.gradient_norm}; expected finite numbers; a lower "
                f"optimizer.learning_rate than {self.config.optimizer.learning_rate} may help"
            )
        self.optimizer.step()
        decay = ema_decay_at(step + 1, self.config.ema)
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.ema[name].lerp_(parameter, 1 - decay)
        return result

    def _set_gradients(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Sets every parameter's gradient and returns the loss, both of the whole batch."""
        repeats, size = self.config.model.flow_head.flow_times_per_image, len(batch.chunk)
        noise_RBTA = torch.randn(
            (repeats, *batch.chunk.shape), generator=generator, device=self.device
        )
        time_RB = torch.rand((repeats, size), generator=generator, device=self.device)
        num_valid = batch.valid.sum()

        def differentiate(rows: slice) -> tuple[Tensor, ...]:
            part = batch.rows(rows)
            share = part.valid.sum() / num_valid
            loss = share * self._loss(part, noise_RBTA[:, rows], time_RB[:, rows])
            return loss.detach(), *torch.autograd.grad(loss, list(self.network.parameters()))

        edges = [size * part // self.num_threads for part in range(self.num_threads + 1)]
        first, *others = (slice(*pair) for pair in pairwise(edges) if pair[0] < pair[1])
        running = [self._workers.submit(differentiate, rows) for rows in others]
        results = [differentiate(first), *(future.result() for future in running)]
        loss, *gradients = (torch.stack(parts).sum(dim=0) for parts in zip(*results, strict=True))
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _loss(self, batch: Batch, noise_RBTA: Tensor, time_RB: Tensor) -> Tensor:
        repeats = len(time_RB)
        # Without autocast's cache, which threads would share; no weight is used twice anyway.
        with torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.config.precision == "bfloat16",
            cache_enabled=False,
        ):
            tokens = self.network.encode(batch.images, batch.proprioception)
            return flow_loss(
                self.network.head,
                self.network.head.read(tokens).repeated(repeats),
                batch.chunk.repeat(repeats, 1, 1),
                batch.valid.repeat(repeats, 1),
                noise_BTA=noise_RBTA.flatten(0, 1),
                time_B=time_RB.flatten(),
            )

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as named tensors."""
        state = {_NETWORK + name: p.detach() for name, p in self.network.named_parameters()}
        state |= {_EMA + name: tensor for name, tensor in self.ema.items()}
        moments: dict[int, dict[str, Any]] = self.optimizer.state_dict()["state"]
        for index, tensors in moments.items():
            state |= {f"{_OPTIMIZER}{index}/{key}": tensor for key, tensor in tensors.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave. Raises ValueError where it is another network's."""
        expected = {_NETWORK + name for name in self.ema} | {_EMA + name for name in self.ema}
        given = {name for name in state if not name.startswith(_OPTIMIZER)}
        if given != expected:
            raise ValueError(f"training state: unexpected or missing {sorted(given ^ expected)}")
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state[_NETWORK + name])
                self.ema[name].copy_(state[_EMA + name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith(_OPTIMIZER):
                index, key = name.removeprefix(_OPTIMIZER).split("/")
                moments.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
