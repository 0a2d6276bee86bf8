"""Something happens to a training after one of its optimizer steps, and leaves no trace."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.learner import Learner
from trainer.run_configuration import RunConfig
from trainer.training_loop import TrainingInterruptedError, train


def call_after_step(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    """Have something happen to the process as soon as `count` optimizer steps are done."""
    take_step = Learner.step

    def step_and_act(self: Learner[Any, Any], batch: Any, step: int, generator: Any) -> Any:
        result = take_step(self, batch, step, generator)
        if step + 1 == count:
            act()
        return result

    monkeypatch.setattr(Learner, "step", step_and_act)


def losses_from_here(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Grows by the loss of each optimizer step that is taken from here on."""
    seen: list[float] = []
    take_step = Learner.step

    def step_and_note(self: Learner[Any, Any], batch: Any, step: int, generator: Any) -> Any:
        result = take_step(self, batch, step, generator)
        seen.append(result.loss)
        return result

    monkeypatch.setattr(Learner, "step", step_and_note)
    return seen


def losses_alone(config: RunConfig, output: Path, stop_after: int | None = None) -> list[float]:
    """Of a training here, without other ranks. stop_after: so many optimizer steps, by Ctrl-C."""
    with pytest.MonkeyPatch.context() as patched:
        seen = losses_from_here(patched)
        if stop_after is None:
            train(config, output)
        else:
            call_after_step(patched, stop_after, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(TrainingInterruptedError):
                train(config, output)
    return seen


def train_until(
    config: RunConfig,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    *,
    by: signal.Signals = signal.SIGTERM,
    **how: Any,
) -> None:
    """A training that a signal stops after `count` optimizer steps. how: as `train` takes it."""
    with monkeypatch.context() as patched:
        call_after_step(patched, count, lambda: signal.raise_signal(by))
        with pytest.raises(TrainingInterruptedError, match=f"step {count} of {config.total_steps}"):
            train(config, output, **how)


def assert_same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Bit by bit."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
