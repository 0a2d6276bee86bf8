"""A step with a gradient far too long is left out, told, and left out again after a resume."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trainer.language_configuration import LanguageTrainConfig
from trainer.language_learner import LanguageLearner
from trainer.learner import Learner
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.requirements import ConfigurationError
from trainer.spike_guard import SpikeGuard
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train

_SPIKE_AT = 26


def test_only_what_is_far_from_usual_is_a_spike_and_what_lasts_becomes_usual() -> None:
    guard = SpikeGuard(3.0)
    # Too early to say.
    assert not guard.is_spike(100.0)
    norms = np.random.default_rng(0).uniform(0.8, 1.2, 40).tolist()
    assert not any(map(guard.is_spike, norms))
    assert guard.is_spike(4.0)
    assert not guard.is_spike(2.0)
    again = SpikeGuard(3.0)
    again.load_state(guard.state())
    lasting = [again.is_spike(4.0) for _ in range(100)]
    assert lasting[0]
    assert not lasting[-1]
    assert again.num_skipped == 1 + sum(lasting)


def test_a_factor_that_would_leave_out_ordinary_steps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="spike_factor: expected more than 1, or None"):
        OptimizerConfig(spike_factor=1.0)


@pytest.fixture
def config(tmp_path: Path) -> LanguageTrainConfig:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": "the lid turns " * n}) + "\n" for n in range(1, 9)))
    return LanguageTrainConfig(
        data=str(path),
        batch_size=2,
        num_steps=30,
        validation_documents=0,
        validation_every=30,
        sample_tokens=1,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(width=16, depth=1, num_heads=2),
            vocabulary_size=270,
            context_length=8,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, spike_factor=20.0),
    )


@pytest.mark.parametrize("stop_at", [_SPIKE_AT - 1, _SPIKE_AT])
def test_a_spike_changes_nothing_and_is_told(
    config: LanguageTrainConfig,
    stop_at: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    seen: list[tuple[int, bool]] = []
    spiked = {"now": False}
    parts, take_step = LanguageLearner.parts, Learner.step

    def parts_of(self, batch, generator):
        factor = 1e4 if spiked["now"] else 1.0
        return [partial(lambda one: one() * factor, one) for one in parts(self, batch, generator)]

    def step_and_stop(self: Learner, batch, step, generator):
        spiked["now"] = step + 1 == _SPIKE_AT
        before = {name: tensor.clone() for name, tensor in self.state().items()}
        result = take_step(self, batch, step, generator)
        unchanged = all(
            tensor.equal(before[name])
            for name, tensor in self.state().items()
            if not name.startswith("spike_guard/") and name in before
        )
        assert unchanged == result.skipped
        seen.append((step + 1, result.skipped))
        if step + 1 == stop_at and len(seen) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(LanguageLearner, "parts", parts_of)
    monkeypatch.setattr(Learner, "step", step_and_stop)
    with pytest.raises(TrainingInterruptedError):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    assert [step for step, skipped in seen if skipped] == [_SPIKE_AT]
    assert f"step {_SPIKE_AT}: left out, its gradient norm" in capfd.readouterr().err
