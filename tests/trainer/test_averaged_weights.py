"""The average of the weights that a checkpoint holds, against its sum written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from trainer.learner import Learner
from trainer.policy_configuration import TrainConfig
from trainer.training_configuration import EmaConfig
from trainer.training_loop import train

Weights = dict[str, np.ndarray]


def written_out(weights: list[Weights], max_decay: float) -> Weights:
    """The weights of all steps, each with its share of the average; the first are the random ones.

    In float64, and as one sum: each step's share is what later decays leave of 1 - its decay.
    """
    steps = np.arange(1, len(weights))
    decays = np.minimum(max_decay, (1 + steps) / (10 + steps))
    left = np.append(np.cumprod(decays[::-1])[::-1], 1.0)
    shares = np.append(1.0, 1 - decays) * left
    assert shares.sum() == pytest.approx(1.0)
    return {
        name: sum(share * each[name] for share, each in zip(shares, weights, strict=True))
        for name in weights[0]
    }


# With a rising decay throughout, with one that has come to its greatest after five steps, and
# with none.
@pytest.mark.parametrize("max_decay", [0.998, 0.4, 0.0])
def test_checkpoints_hold_the_average_of_all_steps(
    max_decay: float, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    train(replace(tiny_config, ema=EmaConfig(max_decay=max_decay)), tmp_path / "run")
    assert len(seen) == 1 + 12
    for name, steps in (("step_000004", 4), ("final", 12)):
        file = tmp_path / "run" / "checkpoints" / name / "model.safetensors"
        stored = safetensors.numpy.load_file(file)
        expected = written_out(seen[: 1 + steps], max_decay)
        assert stored.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(stored[key], value, atol=1e-6, rtol=0, err_msg=key)
    # It is no other step's weights: what is compared does tell an average from those.
    distance = max(np.abs(seen[12][key] - expected[key]).max() for key in expected)
    assert (distance > 1e-4) == (max_decay > 0)
