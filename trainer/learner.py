"""A network, its averaged copy and its optimizer: what an optimizer step changes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from trainer.available_cores import available_cores
from trainer.distributed import current_world
from trainer.many_tensors import move_towards
from trainer.optimizers import Optimizers
from trainer.sharding import gathered, hollow_copy, is_cut, local, shard
from trainer.spike_guard import SpikeGuard
from trainer.training_configuration import EmaConfig, OptimizerConfig, RunFields

_NETWORK, _EMA, _OPTIMIZER, _GUARD = "network/", "ema/", "optimizer/", "spike_guard/"

_MAX_DEFAULT_THREADS = 2

_Network = TypeVar("_Network", bound=nn.Module)
_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient that is no number any more."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """gradient_norm: before clipping. skipped: its gradient was too long to take the step.

    losses: what the loss is made of, by name and without weights, where there are several.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool = False
    losses: Mapping[str, float] = field(default_factory=dict)


def learning_rate_at(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Of optimizer step `step`, counted from 0: linear warm-up, then as the schedule says."""
    warmup = min(config.warmup_steps, total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant_decay":
        left = (total_steps - step) / (config.decay_fraction * total_steps)
        floor = config.final_learning_rate_fraction
        return config.learning_rate * (floor + (1 - floor) * min(1.0, left))
    progress = (step - warmup) / max(1, total_steps - warmup)
    floor = config.final_learning_rate_fraction
    return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def ema_decay_at(step: int, config: EmaConfig) -> float:
    """After `step` steps, 1 or more: grows, so that early averages forget the random first weights.

    power is the schedule of VLA Foundry and of diffusers' EMAModel.
    """
    if config.schedule == "power":
        decay = 1 - (1 + (step - 1) / config.inverse_gamma) ** -config.power
    else:
        decay = (1 + step) / (10 + step)
    return min(config.max_decay, decay)


def num_threads_of(config: RunFields) -> int:
    """Of this rank, which shares the machine's cores with the others on it."""
    cores = available_cores() // current_world().num_local
    return config.num_threads or max(1, min(cores, _MAX_DEFAULT_THREADS))


class Learner(ABC, Generic[_Network, _Batch]):
    """Weights, averages and moments are float32 throughout; only activations may be bfloat16.

    What a kind of training adds is `parts`: a batch's loss, in parts. Parameters that ask for no
    gradient stay as they are.

    Where ranks hold a part of the network each, so do averages and moments, and `ema` and
    `averaged` are there within `gathered` alone, on the first rank.

    num_threads: on a CPU a batch is cut in so many parts, each computed by one thread, and their
    gradients are added in order. Threads inside of torch's operations wait for each other
    hundreds of times a step, spinning, and lose tenfold where a core is taken; these meet once.
    """

    def __init__(
        self,
        network: _Network,
        config: RunFields,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        self.config = config
        self.world = current_world()
        self.is_sharded = config.sharding.kind != "none" and self.world.size > 1
        # Of ranks that hold parts, each exchange has to come in its order.
        self.num_threads = num_threads if device.type == "cpu" and not self.is_sharded else 1
        self._workers = ThreadPoolExecutor(
            max_workers=self.num_threads, initializer=torch.set_num_threads, initargs=(1,)
        )
        self.device = device
        self.network = network
        # For weights that are gathered: what plans, speaks and is measured.
        self._whole: _Network | None = None
        if self.is_sharded:
            assert self.world.mesh is not None
            self._whole = hollow_copy(network).to(device)
            shard(self.root, config.sharding, config.precision, self.world.mesh)
        else:
            self.network.to(device)
        factor = config.optimizer.spike_factor
        self.guard = None if factor is None else SpikeGuard(factor)
        self.averages = config.ema.max_decay > 0
        self.optimizers = Optimizers(self.network, config.optimizer)
        self._trained = [p for p in self.network.parameters() if p.requires_grad]
        # Without averages these are the weights themselves, under their names; frozen ones are.
        self._own_ema = {
            name: p.detach().clone() if self._is_averaged(p) else p.detach()
            for name, p in self.network.named_parameters()
        }
        self._gathered_ema: dict[str, Tensor] | None = None

    @property
    def root(self) -> nn.Module:
        """The module whose forward pass a loss is."""
        return self.network

    @property
    def ema(self) -> Mapping[str, Tensor]:
        """The averages, or the weights where there are none, by name."""
        if not self.is_sharded:
            return self._own_ema
        assert self._gathered_ema is not None
        return self._gathered_ema

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All ranks enter; on the first one `ema` and `averaged` are whole until the block ends."""
        if not self.is_sharded:
            yield
            return
        whole: dict[str, Tensor] = {}
        with self.world.exchanging():
            for name, tensor in self._own_ema.items():
                one = gathered(tensor, self.device)
                if self.world.is_first:
                    whole[name] = one
        self._gathered_ema = whole
        try:
            yield
        finally:
            self._gathered_ema = None

    def _is_averaged(self, parameter: nn.Parameter) -> bool:
        return self.averages and parameter.requires_grad

    def _averaged_parameters(self) -> dict[str, nn.Parameter]:
        """Those whose average is a tensor of its own."""
        return {n: p for n, p in self.network.named_parameters() if self._is_averaged(p)}

    @abstractmethod
    def parts(self, batch: _Batch, generator: torch.Generator) -> Sequence[Callable[[], Tensor]]:
        """Each gives a part of the batch's loss, and all together, of all ranks, its whole.

        They are called and differentiated `num_threads` at a time, in order; what is random in
        them is drawn here.
        """

    def step(self, batch: _Batch, step: int, generator: torch.Generator) -> StepResult:
        """Optimizer step `step`, counted from 0. Raises TrainingDivergedError, nothing changed."""
        rate = learning_rate_at(step, self.config.total_steps, self.config.optimizer)
        self.optimizers.set_learning_rate(rate)
        loss = self._set_gradients(batch, generator)
        norm = self._gradient_norm()
        result = StepResult(loss=loss.item(), gradient_norm=norm.item(), learning_rate=rate)
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            raise TrainingDivergedError(
                f"optimizer step {step + 1}: loss {result.loss}, gradient norm "
                f"{result.gradient_norm}; expected finite numbers; a lower "
                f"optimizer.learning_rate than {self.config.optimizer.learning_rate} may help: "
                "with it the run goes on from its last save"
            )
        if self.guard is not None and self.guard.is_spike(result.gradient_norm):
            return replace(result, skipped=True)
        self._clip_gradients(result.gradient_norm)
        self.optimizers.step()
        if self.averages:
            decay = ema_decay_at(step + 1, self.config.ema)
            averaged = self._averaged_parameters()
            with torch.no_grad():
                move_towards(
                    [local(self._own_ema[name]) for name in averaged],
                    [local(parameter) for parameter in averaged.values()],
                    1 - decay,
                )
        return result

    def _set_gradients(self, batch: _Batch, generator: torch.Generator) -> Tensor:
        """Sets every trained parameter's gradient and returns the loss, of the whole batch."""
        parts = self.parts(batch, generator)
        if self.is_sharded:
            return self._set_sharded_gradients(parts)
        sums: list[Tensor] = []
        for start in range(0, len(parts), self.num_threads):
            together = parts[start : start + self.num_threads]
            results = self.at_once([partial(self._differentiate, part) for part in together])
            if not sums:
                sums = _own(results[0])
                results = results[1:]
            for result in results:
                for so_far, more in zip(sums, result, strict=True):
                    so_far += more
        self.world.sum(sums)
        loss, *gradients = sums
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _set_sharded_gradients(self, parts: Sequence[Callable[[], Tensor]]) -> Tensor:
        """One part after the other, each exchanged by itself: no rank has a whole gradient."""
        self.optimizers.zero_grad()
        total = torch.zeros((), device=self.device)
        # Block by block all wait for the slowest: whose own work it was cannot be told.
        with self.world.exchanging(), self.world.timing_exchange(self.device):
            for part in parts:
                loss = part()
                # What is left is the mean over ranks, and the loss is their sum.
                (loss * self.world.size).backward()
                total += loss.detach()
        whole: list[Tensor] = []
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if not is_cut(parameter):
                whole.append(parameter.grad.div_(self.world.size))
        self.world.sum([total, *whole])
        return total

    def _gradients(self) -> list[Tensor]:
        """What this rank has of them."""
        gradients = [parameter.grad for parameter in self._trained]
        return [local(gradient) for gradient in gradients if gradient is not None]

    def _gradient_norm(self) -> Tensor:
        """Of all together."""
        if not self.is_sharded:
            return nn.utils.get_total_norm(self._gradients())
        square = torch.zeros((), device=self.device)
        for parameter, gradient in zip(self._trained, self._gradients(), strict=True):
            # What each rank has whole counts once.
            count = 1 if is_cut(parameter) else self.world.size
            square += gradient.square().sum().to(self.device) / count
        self.world.sum([square])
        return square.sqrt()

    def _clip_gradients(self, norm: float) -> None:
        """In place, all by one factor; a pass over them that those which are short enough spare."""
        factor = self.config.optimizer.max_gradient_norm / (norm + 1e-6)
        if factor < 1:
            for gradient in self._gradients():
                gradient *= factor

    def _differentiate(self, part: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        loss = part()
        if not loss.requires_grad:
            # Words alone, of which a frozen language model learns nothing.
            return loss.detach(), *(torch.zeros_like(each) for each in self._trained)
        return loss.detach(), *torch.autograd.grad(loss, self._trained, materialize_grads=True)

    def at_once(self, calls: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """What these return, each in a thread of its own."""
        first, *others = calls
        running = [self._workers.submit(call) for call in others]
        return [first(), *(future.result() for future in running)]

    def autocast(self) -> torch.autocast:
        # Without autocast's cache, which threads would share; no weight is used twice anyway.
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.config.precision == "bfloat16",
            cache_enabled=False,
        )

    @contextmanager
    def averaged(self) -> Iterator[_Network]:
        """The network with the averages in its weights' place, bit by bit undone afterwards."""
        trained = self.network
        if self._whole is not None:
            self.network = self._whole
        parameters = dict(self.network.named_parameters())
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self.ema[name]
            yield self.network
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]
            self.network = trained

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as named tensors."""
        state = {_NETWORK + name: p.detach() for name, p in self.network.named_parameters()}
        state |= {_EMA + name: self._own_ema[name] for name in self._averaged_parameters()}
        if self.guard is not None:
            state |= {_GUARD + name: tensor for name, tensor in self.guard.state().items()}
        state |= {_OPTIMIZER + name: moment for name, moment in self.optimizers.state().items()}
        return state

    def layout(self) -> dict[str, Tensor]:
        """Of a state, tensors of which each rank holds a part, cut as they have to be."""
        layout: dict[str, Tensor] = {}
        for name, parameter in self.network.named_parameters():
            if is_cut(parameter):
                moments = (f"{_OPTIMIZER}{name}/{key}" for key in ("exp_avg", "exp_avg_sq"))
                layout |= dict.fromkeys((_NETWORK + name, _EMA + name, *moments), parameter)
        return layout

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave. Raises ValueError where it is another network's."""
        averaged = self._averaged_parameters()
        expected = {_NETWORK + name for name in self._own_ema} | {_EMA + name for name in averaged}
        if self.guard is not None:
            expected |= {_GUARD + name for name in self.guard.state()}
        given = {name for name in state if not name.startswith(_OPTIMIZER)}
        # Asked for or given up as the run went on, a guard begins, or is forgotten.
        guarded = {name for name in given if name.startswith(_GUARD)}
        if self.guard is None or not guarded:
            given -= guarded
            expected = {name for name in expected if not name.startswith(_GUARD)}
        if given != expected:
            raise ValueError(f"training state: unexpected or missing {sorted(given ^ expected)}")
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state[_NETWORK + name])
                if name in averaged:
                    self._own_ema[name].copy_(state[_EMA + name])
        if self.guard is not None and guarded:
            self.guard.load_state({n: state[_GUARD + n] for n in self.guard.state()})
        moments = {n: tensor for n, tensor in state.items() if n.startswith(_OPTIMIZER)}
        self.optimizers.load_state({n.removeprefix(_OPTIMIZER): t for n, t in moments.items()})


def _own(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Each in memory of its own, laid out as weights are; copied where it is not so already.

    The fused optimizer reads a gradient as if it were, and clipping scales it in place; autograd
    hands out transposed ones, and one for two parameters.
    """
    own: list[Tensor] = []
    taken: set[int] = set()
    for gradient in gradients:
        place = gradient.untyped_storage().data_ptr()
        if place in taken or not gradient.is_contiguous():
            own.append(gradient.clone(memory_format=torch.contiguous_format))
        else:
            own.append(gradient)
            taken.add(place)
    return own
