"""A policy that sees several frames of each camera and knows its past actions and states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.client import PolicyClient
from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Action, CameraView, Observation, Pose, RobotState
from policy_server.targets import TargetOptions, resolve
from policy_server.testing import running_server
from tests.trainer.small_models import EXPERT, LANGUAGE, VISION
from tests.trainer.steps import assert_same_weights, train_until
from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint import build_reader, read_checkpoint
from trainer.command_line import main
from trainer.data.batches import TrainingData
from trainer.data.configuration import AugmentationConfig, LoaderConfig, NormalizationConfig
from trainer.data.formats.catalog import open_dataset
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import RobotSource
from trainer.history_configuration import HistoryConfig
from trainer.inference import Policy
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.policy_loading import load_policy
from trainer.requirements import ConfigurationError
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)

_INSTRUCTION = "Reach the square."
_OPEN_LOOP_STEPS = 2


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    """Of the kind of VLA Foundry's policies."""
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        name="with_a_past",
        chunk_length=6,
        batch_size=6,
        num_steps=6,
        validation_episodes=2,
        validation_every=6,
        save_state_every=3,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=2e-3),
        normalization=NormalizationConfig(scope="per_timestep"),
        history=HistoryConfig(frames=(-3, 0), past_steps=2),
        model=VisionLanguageActionShape(
            language=LANGUAGE,
            vision=VISION,
            expert=replace(
                EXPERT,
                transformer=replace(EXPERT.transformer, causal=True),
                reads="observation_token",
                time_conditioning="add",
            ),
            bidirectional_prefix=False,
            image_size=32,
            instruction_tokens=12,
            repeats=2,
            action_clamp=1.5,
            input_noise=0.05,
        ),
        serving=ServingConfig(num_flow_steps=3, solver="heun", open_loop_steps=_OPEN_LOOP_STEPS),
    )


@pytest.fixture(scope="module")
def finished(
    config: VisionLanguageActionTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train(config, tmp_path_factory.mktemp("history") / "run")


@pytest.fixture(scope="module")
def policy(finished: Path) -> Policy:
    return load_policy(finished)


def positions(chunk: Sequence[Action]) -> np.ndarray:
    return np.array([action.poses[RIGHT_ARM].translation_m for action in chunk])


def history_at(
    episode: Sequence[Observation], step: int, num_observations: int
) -> list[Observation]:
    return [episode[max(step - back, 0)] for back in reversed(range(num_observations))]


def observed(recordings: RobotRecordings, place: int) -> list[Observation]:
    """An episode as a station would have shown it, whose arms begin at rest."""
    start, stop = recordings.episode_starts[place : place + 2].tolist()
    contract = recordings.contract
    opened = recordings.dataset.episode(recordings.episodes[place])
    frames = {name: opened.frames(name, range(stop - start)) for name in contract.cameras}

    def state(poses: np.ndarray, widths_m: np.ndarray) -> RobotState:
        return RobotState(
            poses={
                arm: Pose.from_matrix(pose) for arm, pose in zip(contract.arms, poses, strict=True)
            },
            gripper_widths_m=dict(zip(contract.grippers, widths_m.tolist(), strict=True)),
        )

    observations = []
    for row in range(start, stop):
        actual = state(recordings.actual_poses[row], recordings.actual_widths_m[row])
        before = row - 1
        observations.append(
            Observation(
                actual=actual,
                desired=actual
                if row == start
                else state(recordings.action_poses[before], recordings.action_widths_m[before]),
                cameras={
                    name: CameraView(
                        rgb=rgb[row - start], intrinsics=np.eye(3), X_TC=Pose.identity()
                    )
                    for name, rgb in frames.items()
                },
                language_instruction=_INSTRUCTION,
            )
        )
    return observations


@pytest.mark.parametrize("loader", [LoaderConfig(), LoaderConfig(cache_gib=0, num_workers=1)])
def test_it_is_trained_on_what_it_is_served(
    config: VisionLanguageActionTrainConfig, finished: Path, loader: LoaderConfig
) -> None:
    recordings = read_recordings(open_dataset(Path(config.data)), None, uses_language=True)
    plain = replace(
        config,
        augmentation=AugmentationConfig(
            shift_pixels=0, brightness=0, contrast=0, proprioception_noise=0
        ),
        # One epoch: every control step once, an episode's first ones included.
        batch_size=recordings.num_steps,
        loader=loader,
    )
    everything = [
        RobotSource(name="all", weight=1.0, training=range(recordings.num_episodes), held_out=())
    ]
    with TrainingData(
        recordings, everything, plain, torch.device("cpu"), history=config.history
    ) as data:
        (batch,) = data.batches(0, 1)
        checkpoint = replace(read_checkpoint(finished), transform=data.transform)
    reader = build_reader(checkpoint)
    assert reader.num_observations == 4
    states, pictures = [], []
    for place in range(recordings.num_episodes):
        episode = observed(recordings, place)
        for step in range(len(episode)):
            seen = history_at(episode, step, reader.num_observations)
            states.append(reader.state(seen))
            pictures.append(reader.pictures(seen))
    distance = np.abs(batch.proprioception.numpy()[:, None] - np.array(states)).max(axis=2)
    nearest = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-5
    assert sorted(nearest) == list(range(recordings.num_steps))
    assert set(batch.images) == set(pictures[0])
    for name, images in batch.images.items():
        served = np.stack([pictures[place][name] for place in nearest]) / 127.5 - 1
        np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), served, atol=1e-5)


def test_a_resume_gives_the_same_bits(
    config: VisionLanguageActionTrainConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    train_until(config, output, monkeypatch, 4)
    again = read_checkpoint(train(config, output))
    assert_same_weights(again.weights, read_checkpoint(finished).weights)


def test_a_server_remembers_what_it_plans_by(
    finished: Path, policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    assert policy.num_observations == 4
    episode = [
        replace(make_observation(seed), language_instruction=_INSTRUCTION) for seed in range(7)
    ]
    expected: list[Action] = []
    for plan, start in enumerate(range(0, len(episode), _OPEN_LOOP_STEPS)):
        (chunk,) = policy.plan([history_at(episode, start, 4)], [np.random.default_rng((11, plan))])
        expected += chunk[:_OPEN_LOOP_STEPS]
    with (
        running_server(resolve(str(finished), TargetOptions())()) as server,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=11)
        got = [client.step(observation) for observation in episode]
    np.testing.assert_array_equal(positions(got), positions(expected)[: len(episode)])


@pytest.mark.parametrize("back", [0, 1, 2, 3])
def test_what_is_past_has_its_say(
    policy: Policy, make_observation: Callable[..., Observation], back: int
) -> None:
    """The pictures three steps ago; actions and states of two."""
    history = [
        replace(make_observation(seed), language_instruction=_INSTRUCTION) for seed in range(4)
    ]
    other = make_observation(9)

    def changed(**parts: object) -> bool:
        mine = list(history)
        mine[-1 - back] = replace(mine[-1 - back], **parts)  # pyright: ignore[reportArgumentType]
        one, two = policy.plan([history, mine], [0, 0])
        return bool((positions(one) != positions(two)).any())

    assert changed(cameras=other.cameras) == (back in (0, 3))
    assert changed(actual=other.actual) == (back <= 2)
    # Of the step before it.
    assert changed(desired=other.desired) == (back <= 1)


def test_without_proprioception_the_measured_state_of_before_does_not_matter(
    config: VisionLanguageActionTrainConfig,
    tmp_path: Path,
    make_observation: Callable[..., Observation],
) -> None:
    blind = replace(
        config,
        num_steps=1,
        validation_episodes=0,
        history=HistoryConfig(past_steps=1, proprioception=False),
    )
    policy = load_policy(train(blind, tmp_path / "run"))
    history = [
        replace(make_observation(seed), language_instruction=_INSTRUCTION) for seed in range(2)
    ]
    moved = [replace(history[0], actual=make_observation(9).actual), history[1]]
    one, two = policy.plan([history, moved], [0, 0])
    np.testing.assert_array_equal(positions(one), positions(two))


def test_its_plans_are_drawn(finished: Path, tmp_path: Path) -> None:
    assert main(["predict", str(finished), "--output", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"frames": ()}, "history.frames: expected ascending steps from -1000 on"),
        ({"frames": (0, -1)}, "history.frames: .* got (0, -1)"),
        ({"frames": (-1,)}, "history.frames: .* the last one 0"),
        ({"frames": (-1, -1, 0)}, "history.frames: .* each once"),
        ({"frames": (-1001, 0)}, "history.frames"),
        ({"past_steps": -1}, "history.past_steps: expected 0 to 1000, got -1"),
    ],
)
def test_a_history_that_cannot_be_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("(0, -1)", r"\(0, -1\)")):
        HistoryConfig(**fields)  # pyright: ignore[reportArgumentType]


def test_actions_told_in_words_have_no_past(config: VisionLanguageActionTrainConfig) -> None:
    model = ActionTokenShape(language=LANGUAGE, vision=VISION, image_size=32)
    with pytest.raises(ConfigurationError, match="^history: expected none where a language model"):
        replace(config, model=model)


def test_options_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tiny_vla", "--history.frames", "-3", "0"]) == 0
    shown = capsys.readouterr().out
    assert "-3" in shown
    assert main(["show", "tiny_vla", "--history.frames", "1"]) != 0
    assert "history.frames: expected ascending steps" in capsys.readouterr().err
