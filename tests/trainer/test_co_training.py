"""Policies that learn of pictures and words in the same steps as of demonstrations."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_interface.types import Observation
from tests.trainer.pictures import COLOURS, write_colours
from tests.trainer.small_models import EXPERT, LANGUAGE, VISION
from tests.trainer.steps import assert_same_weights
from trainer.checkpoint import read_checkpoint
from trainer.co_training_configuration import AlsoConfig
from trainer.co_training_learner import CoTrainingLearner
from trainer.command_line import main
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.errors import DataError
from trainer.learner import StepResult
from trainer.models.language.configuration import LanguageConfig
from trainer.plotting.quantities import quantity_of
from trainer.policy_configuration import TrainConfig
from trainer.policy_loading import load_policy
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)

_COLOURS = ("red", "blue")


def picture(number: int) -> bytes:
    """A PNG of 32 pixels: a colour, and some noise that makes it another picture."""
    rng = np.random.default_rng(number)
    pixels = np.array(COLOURS[_COLOURS[number % 2]]) + rng.integers(0, 30, (32, 32, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def coloured(numbers: Iterable[int]) -> Iterator[tuple[bytes, str]]:
    """Pictures, each with its colour."""
    for number in numbers:
        yield picture(number), _COLOURS[number % 2]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    return write_colours(folder, coloured(range(24)))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "words.jsonl"
    texts = (f"Number {n} is followed by number {n + 1}." for n in range(60))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig, scenes: Path, words: Path) -> VisionLanguageActionTrainConfig:
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        name="tiny_vla",
        chunk_length=8,
        batch_size=6,
        num_steps=8,
        checkpoint_steps=(4,),
        validation_episodes=2,
        validation_every=8,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=3e-3),
        also=AlsoConfig(
            data=(f"{scenes}=0.5", f"{words}=0.25:3"),
            validation_documents=4,
            validation_sequences=4,
            num_answers=1,
        ),
        model=VisionLanguageActionShape(
            language=replace(LANGUAGE, context_length=48),
            vision=VISION,
            expert=EXPERT,
            image_size=32,
            instruction_tokens=20,
            repeats=2,
        ),
    )


@pytest.fixture(scope="module")
def results() -> list[StepResult]:
    return []


@pytest.fixture(scope="module")
def finished(
    config: VisionLanguageActionTrainConfig,
    results: list[StepResult],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    take_step = CoTrainingLearner.step

    def step(self, batch, step, generator):
        results.append(take_step(self, batch, step, generator))
        return results[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CoTrainingLearner, "step", step)
        # As on a GPU whose peak is known.
        patched.setattr("trainer.telling.peak_flops", lambda _device, _precision: 1e12)
        return train(config, tmp_path_factory.mktemp("co") / "run")


def test_the_loss_is_the_weighted_sum_of_its_parts(
    finished: Path, results: list[StepResult]
) -> None:
    assert finished.is_dir()
    assert len(results) == 8
    for result in results:
        assert list(result.losses) == ["actions", "scenes", "words"]
        actions, scenes, words = result.losses.values()
        assert result.loss == pytest.approx(actions + 0.5 * scenes + 0.25 * words, rel=1e-6)
    for name in ("actions", "scenes", "words"):
        assert results[-1].losses[name] < results[0].losses[name], name


def test_each_loss_is_told_and_measured(finished: Path) -> None:
    events = EventAccumulator(str(finished.parent.parent / "tensorboard")).Reload()
    tags = events.Tags()
    paces = [f"{name}tokens_per_s" for name in ("", "prompt_", "expert_")]
    for name in ("loss_actions", "loss_scenes", "loss_words", "mfu", *paces):
        assert f"train/{name}" in tags["scalars"]
    for name in ("loss_scenes", "loss_words", "position_mm"):
        assert [one.step for one in events.Scalars(f"validation/{name}")][-1] == 8
    assert sorted(tags["images"]) == ["samples/answers_scenes", "samples/plans"]
    assert quantity_of("validation/loss_scenes").title == "Loss of scenes"
    told = read_checkpoint(finished).provenance["also"]
    assert told["words"]["weight"] == 0.25
    assert told["scenes"]["num_documents"] == 20


def test_its_checkpoint_acts_and_answers(
    finished: Path,
    config: VisionLanguageActionTrainConfig,
    scenes: Path,
    make_observation: Callable[..., Observation],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = read_checkpoint(finished)
    assert checkpoint.config == config
    assert config_from_json(config_to_json(config)) == config
    observation = replace(make_observation(0), language_instruction="Reach the square.")
    (chunk,) = load_policy(finished).plan([[observation]], [0])
    assert len(chunk) == 8
    image = str(scenes / "0.png")
    asked = ["sample", str(finished), "Which colour?", "--image", image, "--temperature", "0"]
    assert main([*asked, "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_it_keeps_knowing_what_it_also_learns(
    config: VisionLanguageActionTrainConfig,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Colours of pictures that it has never seen, told by a policy."""
    longer = replace(
        config,
        num_steps=60,
        checkpoint_steps=(),
        validation_episodes=0,
        validation_every=60,
        ema=EmaConfig(max_decay=0.9),
        also=replace(config.also, data=(f"{scenes}=1",), num_answers=0),
    )
    run = train(longer, tmp_path / "run")
    shown = write_colours(tmp_path / "shown", coloured(range(100, 112)))
    capsys.readouterr()
    assert main(["ask", str(run), "--data", str(shown), "--json"]) == 0
    (kind,) = json.loads(capsys.readouterr().out)["kinds"]
    assert kind["num_questions"] == 12
    # One in two by chance: all of 12 has a probability of 1 in 4096.
    assert kind["num_right"] == 12


def test_a_resume_gives_the_same_bits(
    config: VisionLanguageActionTrainConfig,
    finished: Path,
    results: list[StepResult],
    scenes: Path,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the data lie by then."""
    output = tmp_path / "run"
    again: list[StepResult] = []
    take_step = CoTrainingLearner.step

    def step(self, batch, step, generator):
        again.append(take_step(self, batch, step, generator))
        if len(again) == 5:
            signal.raise_signal(signal.SIGTERM)
        return again[-1]

    monkeypatch.setattr(CoTrainingLearner, "step", step)
    with pytest.raises(TrainingInterruptedError, match="step 5 of 8"):
        train(config, output)
    moved = shutil.copytree(scenes, tmp_path / scenes.name), tmp_path / "words.txt.jsonl"
    shutil.copyfile(words, moved[1])
    also = replace(config.also, data=(f"{moved[0]}=0.5", f"{moved[1]}=0.25:3"))
    ended = read_checkpoint(train(replace(config, also=also), output))
    assert again == results
    assert_same_weights(ended.weights, read_checkpoint(finished).weights)


def test_other_data_or_weights_are_another_run(
    config: VisionLanguageActionTrainConfig,
    scenes: Path,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    take_step = CoTrainingLearner.step

    def step(self, batch, step, generator):
        result = take_step(self, batch, step, generator)
        signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(CoTrainingLearner, "step", step)
    with pytest.raises(TrainingInterruptedError):
        train(config, output)
    heavier = replace(config.also, data=(f"{scenes}=0.9", f"{words}=0.25:3"))
    with pytest.raises(RunError, match=r"also.data: .*=0.5.*now .*=0.9"):
        train(replace(config, also=heavier), output)
    # Its tokens and losses go by the name.
    elsewhere = shutil.copytree(scenes, tmp_path / "others")
    renamed = replace(config.also, data=(f"{elsewhere}=0.5", f"{words}=0.25:3"))
    with pytest.raises(RunError, match=r"also.data: .*scenes=0.5.*now .*others=0.5"):
        train(replace(config, also=renamed), output)
    before = (scenes / "3.png").read_bytes()
    try:
        (scenes / "3.png").write_bytes(picture(999))
        with pytest.raises(RunError, match="not those that the run began with"):
            train(config, output)
    finally:
        (scenes / "3.png").write_bytes(before)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("scenes", "also.data: expected PATH=WEIGHT or PATH=WEIGHT:SEQUENCES"),
        ("scenes=0", "both more than 0"),
        ("scenes=0.1:0", "both more than 0"),
        ("scenes=much", "both more than 0"),
        ("data/actions=0.1", "none called 'actions'"),
    ],
)
def test_what_is_no_source_is_refused(data: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AlsoConfig(data=(data,))
    with pytest.raises(ConfigurationError, match="places of different names"):
        AlsoConfig(data=("a/scenes=0.1", "b/scenes.jsonl=0.2"))


def test_data_that_cannot_be_learnt_are_refused_before_anything_is_written(
    config: VisionLanguageActionTrainConfig, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.jsonl"
    tokens.write_text('{"tokens": [1, 2, 99999]}\n{"tokens": [3, 4, 5]}\n' * 8)
    missing = replace(config, also=replace(config.also, data=(f"{tmp_path / 'gone'}=1",)))
    with pytest.raises(DataError, match="gone.*no such file"):
        train(missing, tmp_path / "run")
    assert isinstance(config.model, VisionLanguageActionShape)
    language = config.model.language
    assert isinstance(language, LanguageConfig)
    narrow = replace(config.model, language=replace(language, context_length=4))
    with pytest.raises(ConfigurationError, match="context_length: expected more than the 4 tokens"):
        train(replace(config, model=narrow), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    others = replace(config, also=replace(config.also, data=(f"{tokens}=1",)))
    with pytest.raises(DataError, match="tokens"):
        train(others, tmp_path / "run")
