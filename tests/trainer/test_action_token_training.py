"""Policies that tell actions in words: trained, resumed, stored, served."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy_interface.client import PolicyClient
from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Action, ChunkGuidance, Observation
from policy_server.targets import TargetOptions, resolve
from policy_server.testing import running_server
from tests.trainer.small_models import LANGUAGE, VISION
from tests.trainer.steps import assert_same_weights, train_until
from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint import CheckpointError, read_checkpoint
from trainer.checkpoint_files import write_checkpoint_files
from trainer.command_line import main
from trainer.configuration_json import config_from_json
from trainer.hugging_face_configuration import HuggingFaceLanguage
from trainer.inference import Policy
from trainer.models.action.action_tokens import ActionTokenConfig
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.policy_loading import load_policy
from trainer.recipes.catalog import find_recipe
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

_PROMPT = "Reach the square."


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        name="telling",
        chunk_length=8,
        batch_size=12,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_episodes=2,
        validation_every=6,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=2,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=2e-3),
        model=ActionTokenShape(
            language=replace(LANGUAGE, tied_weights=True, z_loss=1e-4),
            vision=VISION,
            image_size=32,
            instruction_tokens=12,
            tokens=ActionTokenConfig(max_level=40, vocabulary_size=120),
        ),
        serving=ServingConfig(num_flow_steps=1, open_loop_steps=3),
    )


@pytest.fixture(scope="module")
def finished(
    config: VisionLanguageActionTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train(config, tmp_path_factory.mktemp("telling") / "run")


@pytest.fixture(scope="module")
def policy(finished: Path) -> Policy:
    return load_policy(finished)


def told(observation: Observation, instruction: str = _PROMPT) -> list[Observation]:
    return [replace(observation, language_instruction=instruction)]


def numbers(chunk: list[Action]) -> np.ndarray:
    return np.array(
        [[*(pose.matrix().ravel() for pose in action.poses.values())] for action in chunk]
    )


def test_a_checkpoint_knows_its_words(
    finished: Path, config: VisionLanguageActionTrainConfig
) -> None:
    checkpoint = read_checkpoint(finished)
    assert checkpoint.config == config
    assert config_from_json((finished / "config.json").read_text()) == config
    assert checkpoint.action_tokenizer is not None
    # A word each of the levels, and pairs of words; and one that ends a chunk.
    num_words = checkpoint.action_tokenizer.vocabulary_size
    assert 81 < num_words <= 120
    assert checkpoint.weights["model.embedding.weight"].shape == (num_words + 1, 32)
    for name, parameter in checkpoint.build_network().named_parameters():
        torch.testing.assert_close(parameter, checkpoint.weights[name].float(), rtol=0, atol=0)
    run = finished.parents[1]
    assert (run / "action_tokenizer.json").read_text() == (
        finished / "action_tokenizer.json"
    ).read_text()


def test_inspect_tells_of_its_words(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(finished), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)["action_words"]
    assert words["most_in_a_chunk"] >= words["longest_fitted"] > 1


def test_a_resume_gives_the_same_bits(
    config: VisionLanguageActionTrainConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    train_until(config, output, monkeypatch, 7)
    # Its words are those that it began with, whatever a sum is rounded to by now.
    file = output / "action_tokenizer.json"
    content = file.read_text()
    file.write_text(json.dumps(json.loads(content) | {"merges": "none"}))
    with pytest.raises(RunError, match="action_tokenizer.json: merges: expected a list"):
        train(config, output)
    file.write_text(content)
    again = read_checkpoint(train(config, output))
    assert_same_weights(again.weights, read_checkpoint(finished).weights)


def test_mates_told_other_words_change_no_bit(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    requests = [
        told(make_observation(seed), "Reach." if seed % 2 else _PROMPT) for seed in range(5)
    ]
    together = policy.plan(requests, list(range(5)))
    for seed, request in enumerate(requests):
        # Nothing is drawn by chance.
        (alone,) = policy.plan([request], [seed])
        np.testing.assert_array_equal(numbers(alone), numbers(together[seed]))


def test_a_guided_plan_begins_with_what_is_frozen(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    request = told(make_observation(1))
    (old,) = policy.plan([told(make_observation(2))], [5])
    (free,) = policy.plan([request], [6])
    guidance = ChunkGuidance(actions=old[2:], num_frozen=3)
    (new,) = policy.plan_guided([request], [6], [guidance])
    got = np.array([action.poses[RIGHT_ARM].translation_m for action in new])
    frozen = np.array([action.poses[RIGHT_ARM].translation_m for action in old[2:5]])
    np.testing.assert_allclose(got[:3], frozen, atol=1e-6)
    np.testing.assert_allclose(got[-2:], [a.poses[RIGHT_ARM].translation_m for a in free[-2:]])


def test_it_is_served(
    finished: Path,
    policy: Policy,
    make_observation: Callable[..., Observation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    observations = [told(make_observation(seed)) for seed in range(4)]
    expected = [
        *policy.plan([observations[0]], [np.random.default_rng((11, 0))])[0][:3],
        policy.plan([observations[3]], [np.random.default_rng((11, 1))])[0][0],
    ]
    caplog.clear()
    with (
        running_server(resolve(str(finished), TargetOptions(max_batch_size=2))()) as server,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=11)
        got = [client.step(each[0]) for each in observations]
    np.testing.assert_allclose(numbers(got), numbers(expected), atol=1e-6)
    # Twelve steps teach no chunk: what is told is cut or filled, and this is said.
    assert "told in tokens that are no whole chunk" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale": 11}, "expected scale 10, .* as config.json and normalization.json have it, got"),
        ({"chunk_length": 9}, "expected .*chunk_length 8.* got .*chunk_length 9"),
        ({"merges": [[0, 10**9]]}, r"merges\[0\]: expected two words from 0 to 80"),
        ({"merges": []}, "weights do not fit the configuration"),
        (None, "expected an action_tokenizer.json, as config.json has it"),
    ],
)
def test_a_hostile_tokenizer_of_actions_is_refused(
    finished: Path, tmp_path: Path, change: dict[str, Any] | None, said: str
) -> None:
    contents = {path.name: path.read_bytes() for path in finished.iterdir()}
    del contents["MANIFEST.json"]
    own = json.loads(contents.pop("action_tokenizer.json"))
    if change is not None:
        contents["action_tokenizer.json"] = json.dumps(own | change).encode()
    write_checkpoint_files(contents, tmp_path / "changed")
    with pytest.raises(CheckpointError, match=said) as refusal:
        load_policy(tmp_path / "changed")
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_is_refused(config: VisionLanguageActionTrainConfig) -> None:
    assert isinstance(config.model, ActionTokenShape)
    with pytest.raises(ConfigurationError, match=r"^also.data: expected none for .*in words"):
        replace(config, also=replace(config.also, data=("scenes=0.3",)))
    with pytest.raises(ConfigurationError, match=r"^model.language: expected a language model of"):
        replace(config.model, language=HuggingFaceLanguage())  # pyright: ignore[reportArgumentType]


def test_the_recipe_begins_as_its_siblings() -> None:
    telling, flowing = find_recipe("tiny_vla_fast"), find_recipe("tiny_vla")
    assert isinstance(telling, VisionLanguageActionTrainConfig)
    assert isinstance(flowing, VisionLanguageActionTrainConfig)
    for part in ("language", "vision", "image_size", "instruction_tokens"):
        assert getattr(telling.model, part) == getattr(flowing.model, part)
