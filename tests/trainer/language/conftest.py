"""A text, a configuration and a run that nothing stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.language.runs import sentences
from tests.trainer.steps import losses_from_here
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four documents of a dozen sentences, as JSON lines."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [json.dumps({"text": sentences(seed, 12)}) for seed in range(24)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def config(texts: Path) -> LanguageTrainConfig:
    """Twelve optimizer steps of a second in all."""
    return LanguageTrainConfig(
        data=str(texts),
        name="tiny",
        batch_size=6,
        micro_batch_size=3,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_documents=3,
        validation_every=6,
        sample_prompts=("the mug", "a bowl"),
        sample_tokens=6,
        save_state_every=5,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(
                width=32, depth=2, num_heads=2, feed_forward_width=64, qk_norm="per_head"
            ),
            vocabulary_size=300,
            context_length=32,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
        ema=EmaConfig(max_decay=0.9),
    )


@pytest.fixture(scope="module")
def whole(
    config: LanguageTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[float]]:
    """A run that nothing stops, and its losses."""
    output = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        seen = losses_from_here(patched)
        train(config, output)
    return output, seen


@pytest.fixture(scope="module")
def finished(whole: tuple[Path, list[float]]) -> Path:
    return whole[0]
