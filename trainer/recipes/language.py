"""Language models: the first stage."""

from __future__ import annotations

from dataclasses import replace

from trainer.language_configuration import LanguageTrainConfig
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.presets import LANGUAGE_PRESETS
from trainer.training_configuration import EmaConfig, OptimizerConfig


def tiny_lm() -> LanguageTrainConfig:
    """A language model of a laptop's minutes: the first stage on a small text."""
    return LanguageTrainConfig(
        name="tiny_lm",
        num_steps=150,
        batch_size=8,
        validation_documents=4,
        validation_every=75,
        save_state_every=75,
        model=LanguageConfig(
            transformer=TransformerConfig(width=128, depth=4, num_heads=4),
            vocabulary_size=1024,
            # Two pictures of `sim-client captions` with all that is asked about them.
            context_length=320,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3, warmup_steps=30, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.98),
    )


def small_lm() -> LanguageTrainConfig:
    """A language model of 1.5 M parameters: the first stage of a policy for many tasks."""
    return replace(
        tiny_lm(),
        name="small_lm",
        num_steps=400,
        batch_size=16,
        validation_every=200,
        save_state_every=200,
        model=LanguageConfig(
            transformer=TransformerConfig(width=192, depth=3, num_heads=4),
            vocabulary_size=1024,
            context_length=384,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=60, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.99),
    )


def lm_11m() -> LanguageTrainConfig:
    """VLA Foundry's 11M shape, on 500 million tokens; not trained to its end by us."""
    return _pretraining("lm_11m", "11m", num_tokens=500_000_000, batch_size=64, learning_rate=1e-3)


def lm_100m() -> LanguageTrainConfig:
    """VLA Foundry's 100M shape, on 2 billion tokens; not trained to its end by us."""
    return _pretraining("lm_100m", "100m", num_tokens=2_000_000_000, batch_size=256)


def lm_400m() -> LanguageTrainConfig:
    """VLA Foundry's 410M shape, on 8 billion tokens; not trained to its end by us."""
    return _pretraining(
        "lm_400m", "400m", num_tokens=8_000_000_000, batch_size=256, learning_rate=3e-4
    )


def _pretraining(
    name: str, preset: str, *, num_tokens: int, batch_size: int, learning_rate: float = 6e-4
) -> LanguageTrainConfig:
    """The rate stays and falls at the end, so that a longer run can start from a stored state."""
    return LanguageTrainConfig(
        name=name,
        num_tokens=num_tokens,
        batch_size=batch_size,
        micro_batch_size=8,
        validation_documents=64,
        validation_every=500,
        save_state_every=500,
        model=replace(LANGUAGE_PRESETS[preset], z_loss=1e-4),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            warmup_steps=500,
            schedule="constant_decay",
            final_learning_rate_fraction=0.0,
            weight_decay=0.1,
            beta2=0.95,
        ),
    )
