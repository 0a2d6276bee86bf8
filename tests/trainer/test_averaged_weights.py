"""The average of the weights that a checkpoint holds, against its sum written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from trainer.learner import Learner, ema_decay_at
from trainer.policy_configuration import TrainConfig
from trainer.training_configuration import EmaConfig
from trainer.training_loop import train

Weights = dict[str, np.ndarray]


Decays = Callable[[np.ndarray], np.ndarray]


def written_out(weights: list[Weights], decays_at: Decays) -> Weights:
    """The weights of all steps, each with its share of the average; the first are the random ones.

    In float64, and as one sum: each step's share is what later decays leave of 1 - its decay.
    """
    decays = decays_at(np.arange(1, len(weights)))
    left = np.append(np.cumprod(decays[::-1])[::-1], 1.0)
    shares = np.append(1.0, 1 - decays) * left
    assert shares.sum() == pytest.approx(1.0)
    return {
        name: np.tensordot(shares, np.stack([each[name] for each in weights]), axes=1)
        for name in weights[0]
    }


@pytest.mark.parametrize(
    ("ema", "decays_at"),
    [
        # With a rising decay throughout, with one that has come to its greatest after five steps,
        # and with none; after nine steps, the first taken as it is.
        (EmaConfig(max_decay=0.998), lambda k: (1 + k) / (10 + k)),
        (EmaConfig(max_decay=0.4), lambda k: np.minimum(0.4, (1 + k) / (10 + k))),
        (EmaConfig(max_decay=0.0), lambda k: 0.0 * k),
        (
            EmaConfig(max_decay=0.7, schedule="power", inverse_gamma=2.0),
            lambda k: np.minimum(0.7, 1 - ((k + 1) / 2) ** -0.75),
        ),
    ],
)
def test_checkpoints_hold_the_average_of_all_steps(
    ema: EmaConfig,
    decays_at: Decays,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Weights] = []
    take_step = Learner.step

    def note(learner: Learner) -> None:
        named = learner.network.named_parameters()
        seen.append({name: one.detach().numpy().astype(np.float64) for name, one in named})

    def step_and_note(self: Learner, batch, step, generator):
        if step == 0:
            note(self)
        result = take_step(self, batch, step, generator)
        note(self)
        return result

    monkeypatch.setattr(Learner, "step", step_and_note)
    train(replace(tiny_config, ema=ema), tmp_path / "run")
    assert len(seen) == 1 + 12
    for name, steps in (("step_000004", 4), ("final", 12)):
        file = tmp_path / "run" / "checkpoints" / name / "model.safetensors"
        stored = safetensors.numpy.load_file(file)
        expected = written_out(seen[: 1 + steps], decays_at)
        assert stored.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(stored[key], value, atol=1e-6, rtol=0, err_msg=key)
    # It is no other step's weights: what is compared does tell an average from those.
    distance = max(np.abs(seen[12][key] - expected[key]).max() for key in expected)
    assert (distance > 1e-4) == (ema.max_decay > 0)


def test_by_a_power_of_one_it_is_the_mean_of_all_steps() -> None:
    ema, average = EmaConfig(max_decay=0.9999, schedule="power", power=1.0), 1e6
    for step in range(1, 101):
        average += (1 - ema_decay_at(step, ema)) * (step - average)
    assert average == pytest.approx(50.5)


@pytest.mark.parametrize(
    ("power", "steps", "decay"),
    # Where these powers come to, as the documentation of diffusers' EMAModel has it.
    [
        (2 / 3, 31_600, 0.999),
        (2 / 3, 1_000_000, 0.9999),
        (0.75, 10_000, 0.999),
        (0.75, 215_400, 0.9999),
    ],
)
def test_a_power_comes_to_what_is_known_of_it(power: float, steps: int, decay: float) -> None:
    ema = EmaConfig(max_decay=0.99999, schedule="power", power=power)
    assert 1 - ema_decay_at(steps, ema) == pytest.approx(1 - decay, rel=1e-3)
