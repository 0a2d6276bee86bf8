"""A small vision-language model, trained once, and what it is trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.pictures import write_pictures
from tests.trainer.small_models import LANGUAGE, VISION
from trainer.language_configuration import LanguageTrainConfig
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 48)
    return folder


@pytest.fixture(scope="session")
def config(pictures: Path) -> VisionLanguageTrainConfig:
    return VisionLanguageTrainConfig(
        data=str(pictures),
        name="tiny",
        batch_size=8,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_documents=8,
        validation_every=6,
        save_state_every=4,
        sample_tokens=6,
        device="cpu",
        precision="float32",
        num_threads=2,
        model=VisionLanguageShape(language=LANGUAGE, vision=VISION, image_size=32),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=4),
    )


@pytest.fixture(scope="session")
def finished(config: VisionLanguageTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config, tmp_path_factory.mktemp("vlm") / "run")


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model's checkpoint, of another width than the recipe's."""
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("Which colour has the square? It is red, green or blue. " * 20)
    (text.parent / "more.txt").write_text("A square stands on the left or on the right. " * 20)
    return train(
        LanguageTrainConfig(
            data=str(text.parent),
            num_steps=3,
            validation_documents=0,
            device="cpu",
            precision="float32",
            num_threads=1,
            model=replace(LANGUAGE, transformer=replace(LANGUAGE.transformer, width=48)),
        ),
        tmp_path_factory.mktemp("lm") / "run",
    )
