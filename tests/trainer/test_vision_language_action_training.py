"""Policies that see, read and act: trained, stored, served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from policy_interface.contract import LEFT_ARM, RIGHT_ARM, ContractError
from policy_interface.demonstration import (
    Demonstration,
    demonstration_path,
    save_demonstration,
)
from policy_interface.types import Action, ChunkGuidance, Observation, Pose, RobotState
from tests.trainer.small_models import EXPERT, TRANSFORMER, VISION
from tests.trainer.steps import assert_same_weights, train_until
from trainer.checkpoint import CheckpointError, read_checkpoint
from trainer.command_line import main
from trainer.configuration_json import config_from_json
from trainer.data.batches import Batch
from trainer.data.errors import DataError
from trainer.data.text.tokenizer import train_tokenizer
from trainer.inference import Policy
from trainer.models.action.configuration import Prediction, Solver
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.transformer import Block
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.policy_configuration import TrainConfig
from trainer.policy_learner import VisionLanguageActionLearner
from trainer.policy_loading import load_policy
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    ExpertReads,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)

_PROMPT = "Reach the square."


def shape(reads: ExpertReads = "layers") -> VisionLanguageActionShape:
    return VisionLanguageActionShape(
        language=LanguageConfig(
            transformer=TRANSFORMER,
            vocabulary_size=320,
            # The head has no weight of its own.
            tied_weights=True,
        ),
        vision=VISION,
        expert=replace(EXPERT, reads=reads),
        image_size=32,
        instruction_tokens=12,
        repeats=2,
    )


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        name="tiny_vla",
        chunk_length=8,
        batch_size=12,
        num_steps=12,
        checkpoint_steps=(4,),
        validation_episodes=2,
        validation_every=6,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=2e-3),
        model=shape(),
    )


@pytest.fixture(scope="module")
def finished(
    config: VisionLanguageActionTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train(config, tmp_path_factory.mktemp("vla") / "run")


@pytest.fixture(scope="module")
def policy(finished: Path) -> Policy:
    return load_policy(finished)


def told(observation: Observation, instruction: str | None = _PROMPT) -> list[Observation]:
    return [replace(observation, language_instruction=instruction)]


def positions(chunk: list[Action]) -> np.ndarray:
    return np.array([action.poses[RIGHT_ARM].translation_m for action in chunk])


def test_a_checkpoint_knows_its_words(
    finished: Path, config: VisionLanguageActionTrainConfig
) -> None:
    checkpoint = read_checkpoint(finished)
    assert checkpoint.config == config
    assert checkpoint.contract.uses_language
    assert (finished / "tokenizer.json").exists()
    network = checkpoint.build_network()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, checkpoint.weights[name].float(), rtol=0, atol=0)
    stored = config_from_json((finished / "config.json").read_text())
    assert stored == config


def test_blocks_computed_twice_give_the_same_weights(
    config: VisionLanguageActionTrainConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[int] = set()

    def noted(block: Block, *arguments: object, **options: Any) -> object:
        seen.add(id(block))
        return checkpoint(block, *arguments, **options)

    monkeypatch.setattr("trainer.models.language.transformer.checkpoint", noted)
    again = train(replace(config, checkpoint_activations=True), tmp_path / "run")
    # Of every tower.
    shape = config.model
    assert isinstance(shape, VisionLanguageActionShape)
    assert isinstance(shape.language, LanguageConfig)
    assert isinstance(shape.vision, VisionTransformerConfig)
    towers = (shape.language.transformer, shape.expert.transformer)
    assert len(seen) == shape.vision.depth + sum(tower.depth for tower in towers)
    expected = read_checkpoint(finished).weights
    for name, weight in read_checkpoint(again).weights.items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.slow
def test_compiled_blocks_give_almost_the_same_weights(
    config: VisionLanguageActionTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, num_steps=2, checkpoint_steps=(), validation_episodes=0)
    plain = train(config, tmp_path / "plain")
    num_compiled = 0

    def compile_block(block: Block, **options: object) -> None:
        nonlocal num_compiled
        num_compiled += 1
        # Traced as ever, and run without a C++ compiler, which would take a minute.
        torch.nn.Module.compile(block, backend="aot_eager", **options)

    monkeypatch.setattr(Block, "compile", compile_block)
    again = train(replace(config, compile=True), tmp_path / "run")
    assert num_compiled == 5
    expected = read_checkpoint(plain).weights
    for name, weight in read_checkpoint(again).weights.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=0)


def test_its_plans_are_drawn(finished: Path, tmp_path: Path) -> None:
    assert main(["predict", str(finished), "--output", str(tmp_path)]) == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".png"]


def test_it_plans_as_it_is_told(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    assert policy.metadata.is_language_conditioned
    observation = make_observation(0)
    one, other = policy.plan([told(observation), told(observation, "Let the square be.")], [0, 0])
    assert len(one) == 8
    assert np.abs(positions(one) - positions(other)).max() > 0


def test_mates_change_no_bit(policy: Policy, make_observation: Callable[..., Observation]) -> None:
    requests = [
        told(make_observation(seed), "Reach." if seed % 2 else _PROMPT) for seed in range(5)
    ]
    together = policy.plan(requests, list(range(5)))
    for seed, request in enumerate(requests):
        (alone,) = policy.plan([request], [seed])
        np.testing.assert_array_equal(positions(alone), positions(together[seed]))


def test_a_guided_plan_begins_with_what_is_frozen(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    request = told(make_observation(1))
    (old,) = policy.plan([request], [5])
    guidance = ChunkGuidance(actions=old[2:], num_frozen=3)
    (new,) = policy.plan_guided([request], [6], [guidance])
    np.testing.assert_allclose(positions(new)[:3], positions(old)[2:5], atol=1e-6)


@pytest.mark.parametrize(
    ("instruction", "said"),
    [(None, "instruction"), ("very " * 40, "at most 12 tokens, got")],
)
def test_an_instruction_that_cannot_be_told_breaks_the_contract(
    policy: Policy,
    make_observation: Callable[..., Observation],
    instruction: str | None,
    said: str,
) -> None:
    with pytest.raises(ContractError, match=f"request 0: .*{said}"):
        policy.plan([told(make_observation(0), instruction)], [0])


def test_a_resume_gives_the_same_bits(
    config: VisionLanguageActionTrainConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    train_until(config, output, monkeypatch, 7)
    again = read_checkpoint(train(config, output))
    assert_same_weights(again.weights, read_checkpoint(finished).weights)


@pytest.mark.parametrize("reads", ["keys_values", "observation_token"])
def test_every_expert_learns_and_plans(
    config: VisionLanguageActionTrainConfig,
    reads: ExpertReads,
    tmp_path: Path,
    make_observation: Callable[..., Observation],
) -> None:
    short = replace(config, model=shape(reads), num_steps=2, checkpoint_steps=())
    policy = load_policy(train(short, tmp_path / "run"))
    requests = [told(make_observation(seed)) for seed in range(3)]
    together = policy.plan(requests, [0, 1, 2])
    (alone,) = policy.plan(requests[1:2], [1])
    np.testing.assert_array_equal(positions(alone), positions(together[1]))


@pytest.mark.parametrize("solver", get_args(Solver))
@pytest.mark.parametrize("predicts", get_args(Prediction))
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_its_flow_is_the_experts_own(
    solver: Solver, predicts: Prediction, clamp: float | None
) -> None:
    torch.manual_seed(0)
    network = VisionLanguagePolicy(
        replace(shape(), predicts=predicts, action_clamp=clamp),
        cameras=("left", "right"),
        chunk_length=8,
        action_size=5,
        image_token=6,
    ).eval()
    images = {name: torch.randn(2, 3, 32, 32) for name in ("left", "right")}
    token_BS = torch.tensor([[-1, 1, *[6] * 8, 9], [1, 2, *[6] * 8, 9]])
    noise_BTA = torch.randn(2, 8, 5)
    state_BP = torch.randn(2, 5)
    with torch.no_grad():
        ours = network(images, state_BP, noise_BTA, 7, token_BS, solver=solver)
        network.model.config = replace(
            network.model.config,
            objective=replace(network.model.config.objective, solver=solver),
        )
        theirs = network.model.sample(
            network.inputs(images, token_BS),
            noise_BTA,
            proprioception_BPQ=state_BP[:, None],
            num_steps=7,
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert clamp is None or ours.abs().max() <= clamp


def test_noise_on_what_is_read_is_the_windows_own_however_a_step_is_cut(
    config: VisionLanguageActionTrainConfig,
) -> None:
    torch.manual_seed(0)
    batch = Batch(
        images={"camera": torch.randn(6, 3, 32, 32)},
        proprioception=torch.randn(6, 5),
        chunk=torch.randn(6, 8, 5),
        valid=torch.ones(6, 8),
        source=torch.zeros(6, dtype=torch.long),
        prompt=torch.tensor([[1, *[6] * 4, 9]]).expand(6, -1),
    )

    def loss(num_threads: int, input_noise: float) -> float:
        torch.manual_seed(0)
        noisy = replace(config, model=replace(config.model, input_noise=input_noise))
        assert isinstance(noisy.model, VisionLanguageActionShape)
        network = VisionLanguagePolicy(
            noisy.model,
            cameras=("camera",),
            chunk_length=8,
            action_size=5,
            image_token=6,
        )
        learner = VisionLanguageActionLearner(
            network, noisy, torch.device("cpu"), num_threads=num_threads
        )
        with torch.no_grad():
            parts = learner.parts(batch, torch.Generator().manual_seed(1))
            return sum(float(part()) for part in parts)

    assert loss(3, 0.5) == pytest.approx(loss(1, 0.5), rel=1e-5)
    assert loss(1, 0.5) != pytest.approx(loss(1, 0.0), rel=1e-3)


def by_instruction(index: int, demonstration: Demonstration) -> Demonstration:
    """Black pictures and two instructions, of which one means left and the other right."""
    side = 0.1 if index % 2 else -0.1
    poses = {arm: track.copy() for arm, track in demonstration.action.poses.items()}
    still = demonstration.actual.poses[RIGHT_ARM].copy()
    still[:, :3, 3], still[:, :3, :3] = [0.0, 0.0, 0.3], np.eye(3)
    poses[RIGHT_ARM] = still.copy()
    poses[RIGHT_ARM][:, 1, 3] = side
    actual = replace(demonstration.actual, poses={**demonstration.actual.poses, RIGHT_ARM: still})
    return replace(
        demonstration,
        instruction="Go left." if side > 0 else "Go right.",
        actual=actual,
        desired=actual,
        action=replace(demonstration.action, poses=poses),
        cameras={
            name: replace(track, rgb=np.zeros_like(track.rgb))
            for name, track in demonstration.cameras.items()
        },
    )


def test_words_alone_can_decide(
    config: VisionLanguageActionTrainConfig,
    tmp_path: Path,
    make_demonstration: Callable[..., Demonstration],
    make_observation: Callable[..., Observation],
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(6):
        demonstration = by_instruction(index, make_demonstration(index))
        save_demonstration(demonstration, demonstration_path(data, index))
    assert isinstance(config.model, VisionLanguageActionShape)
    longer = replace(
        config,
        data=str(data),
        # Words of their own scale, which tied ones share with the head: they are learnt sooner.
        model=replace(config.model, language=replace(config.model.language, tied_weights=False)),
        num_steps=150,
        checkpoint_steps=(),
        validation_episodes=0,
        ema=EmaConfig(max_decay=0.9),
    )
    policy = load_policy(train(longer, tmp_path / "run"))
    observation = make_observation(0)
    still = RobotState(
        poses={
            RIGHT_ARM: Pose(rotation=np.eye(3), translation_m=np.array([0.0, 0.0, 0.3])),
            LEFT_ARM: Pose(rotation=np.eye(3), translation_m=np.array([0.0, 0.4, 0.3])),
        },
        gripper_widths_m=dict.fromkeys(observation.actual.gripper_widths_m, 0.08),
    )
    black = replace(
        observation,
        actual=still,
        desired=still,
        cameras={
            name: replace(view, rgb=np.zeros_like(view.rgb))
            for name, view in observation.cameras.items()
        },
    )
    left, right = policy.plan([told(black, "Go left."), told(black, "Go right.")], [0, 0])
    # Who did not listen would go the same way twice.
    assert positions(left)[:, 1].mean() > 0.04
    assert positions(right)[:, 1].mean() < -0.04


def test_demonstrations_without_an_instruction_are_refused(
    config: VisionLanguageActionTrainConfig,
    tmp_path: Path,
    make_demonstration: Callable[..., Demonstration],
) -> None:
    silent = replace(make_demonstration(0), instruction=None)
    save_demonstration(silent, demonstration_path(tmp_path, 0))
    with pytest.raises(DataError, match="episode_000000.*no instruction"):
        train(replace(config, data=str(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_instruction_longer_than_the_prompt_is_refused(
    config: VisionLanguageActionTrainConfig, tmp_path: Path
) -> None:
    narrow = replace(config.model, instruction_tokens=1)
    with pytest.raises(DataError, match="Reach the square.*at most 1 tokens, got"):
        train(replace(config, model=narrow), tmp_path / "run")


def test_a_tokenizer_must_fit_the_vocabulary_and_the_run(
    config: VisionLanguageActionTrainConfig, finished: Path, tmp_path: Path
) -> None:
    words = ["reach the round square that is not there at all and never was"] * 3
    wide = train_tokenizer(
        [f"{w} {w[::-1]} number {n}" for w in words for n in range(90)], 400, tmp_path / "wide.json"
    )
    assert wide.vocabulary_size > 320
    with pytest.raises(ConfigurationError, match=r"vocabulary_size: expected at least the \d+"):
        train(replace(config, tokenizer=str(wide.path)), tmp_path / "run")
    other = train_tokenizer(["quite another text"], 300, tmp_path / "other.json")
    run = shutil.copytree(finished.parents[1], tmp_path / "copy", symlinks=True)
    (run / "checkpoints" / "final").unlink()
    with pytest.raises(RunError, match="not the tokenizer that the run began with"):
        train(replace(config, tokenizer=str(other.path)), run)


def test_a_checkpoint_without_its_words_is_none(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        read_checkpoint(folder)
    whole = read_checkpoint(finished)
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        replace(whole, tokenizer={"version": "1.0"}).build_network()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("image_size", 40, "image_size: expected a multiple of 16"),
        ("instruction_tokens", 0, "instruction_tokens: expected a positive number"),
        ("action_clamp", 0.0, "action_clamp: expected a positive number or None"),
        ("input_noise", -0.1, "input_noise: expected 0 or more"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(field: str, value: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(shape(), **{field: value})


def test_time_can_be_added_to_an_observation_token_alone() -> None:
    assert replace(EXPERT, reads="observation_token", time_conditioning="add").expert
    with pytest.raises(ConfigurationError, match="^time_conditioning: expected concat where no"):
        replace(EXPERT, time_conditioning="add")
