"""Policies that begin with a policy: its weights, its scales, and nothing of the recipe's shape."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER, Contract
from policy_interface.demonstration import demonstration_path, save_demonstration
from tests.trainer.conftest import synthetic_demonstration
from tests.trainer.small_models import EXPERT, LANGUAGE, TOWER
from tests.trainer.steps import (
    assert_same_weights,
    losses_alone,
    losses_from_here,
    train_until,
)
from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.data.configuration import NormalizationConfig
from trainer.models.action.action_tokens import ActionTokenConfig
from trainer.policy_configuration import PolicyConfig, TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory
from trainer.stages.beginnings import shaped_like_its_beginning
from trainer.stages.catalog import open_stage
from trainer.stages.policy import PolicyStage
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other demonstrations than those of the first policy, of other scales."""
    folder = tmp_path_factory.mktemp("others")
    for index in range(20, 28):
        save_demonstration(
            synthetic_demonstration(index, num_steps=9), demonstration_path(folder, index)
        )
    return folder


@pytest.fixture(
    scope="module", params=["policy", "flow", pytest.param("action_tokens", marks=pytest.mark.slow)]
)
def first(request: pytest.FixtureRequest, tiny_config: TrainConfig) -> PolicyConfig:
    if request.param == "policy":
        return replace(tiny_config, num_steps=60, checkpoint_steps=())
    parts = {"language": LANGUAGE, "vision": TOWER, "image_size": 32, "instruction_tokens": 12}
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        name="told",
        chunk_length=8,
        batch_size=12,
        num_steps=60,
        validation_episodes=2,
        validation_every=60,
        save_state_every=60,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=2e-3),
        model=VisionLanguageActionShape(expert=EXPERT, **parts)
        if request.param == "flow"
        else ActionTokenShape(
            tokens=ActionTokenConfig(max_level=40, vocabulary_size=120),
            **parts,
        ),
    )


@pytest.fixture(scope="module")
def begun_with(first: PolicyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(first, tmp_path_factory.mktemp("first") / "run").resolve()


@pytest.fixture
def config(first: PolicyConfig, begun_with: Path, others: Path) -> PolicyConfig:
    """Of a recipe whose own shape is the kind's default."""
    fresh = type(first)(
        data=str(others),
        name="second",
        batch_size=6,
        num_steps=4,
        save_state_every=2,
        validation_episodes=1,
        validation_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=OptimizerConfig(warmup_steps=1),
    )
    return replace(fresh, init=str(begun_with))


def test_all_of_a_policy_goes_on(config: PolicyConfig, begun_with: Path, tmp_path: Path) -> None:
    before = read_checkpoint(begun_with)
    after = read_checkpoint(train(config, tmp_path / "run"))
    assert after.transform.to_json() == before.transform.to_json()
    assert after.tokenizer == before.tokenizer
    assert after.action_tokenizer == before.action_tokenizer
    assert isinstance(before.config, PolicyConfig)
    assert isinstance(after.config, PolicyConfig)
    for name in ("model", "chunk_length", "normalization"):
        assert getattr(after.config, name) == getattr(before.config, name), name
    # What was asked for of the training itself is as it was asked for.
    assert after.config.batch_size == 6
    assert after.config.optimizer == config.optimizer
    assert after.contract == before.contract
    assert before.weights.keys() == after.weights.keys()
    changed = [name for name, each in after.weights.items() if (each != before.weights[name]).any()]
    assert len(changed) > len(before.weights) / 2


def test_its_first_step_is_taken_from_there(
    config: PolicyConfig, begun_with: Path, tmp_path: Path
) -> None:
    run = RunDirectory(root=tmp_path)
    with open_stage(shaped_like_its_beginning(config, run), run)() as stage:
        assert isinstance(stage, PolicyStage)
        assert_same_weights(
            {name: each.detach() for name, each in stage.learner.network.named_parameters()},
            read_checkpoint(begun_with).weights,
        )


def test_it_knows_what_the_first_has_learnt(config: PolicyConfig, tmp_path: Path) -> None:
    """On other demonstrations of the same task, by the first steps' losses."""
    gone_on = losses_alone(config, tmp_path / "begun")
    from_nothing = losses_alone(
        replace(shaped_like_its_beginning(config, None), init=""),  # the same shape
        tmp_path / "nothing",
    )
    assert sum(gone_on) < 0.85 * sum(from_nothing), (gone_on, from_nothing)


def test_a_resume_needs_the_first_no_more(
    config: PolicyConfig, begun_with: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_checkpoint(train(config, tmp_path / "whole")).weights
    copied = tmp_path / "copied"
    shutil.copytree(begun_with, copied)
    stopped = replace(config, init=str(copied))
    train_until(stopped, tmp_path / "run", monkeypatch, 2)
    shutil.rmtree(copied)
    assert_same_weights(read_checkpoint(train(stopped, tmp_path / "run")).weights, whole)


def test_what_was_asked_for_is_not_replaced(
    config: PolicyConfig, begun_with: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="^chunk_length: expected 8, as .* has it, got 16"):
        train(config, tmp_path / "run", asked={"chunk_length"})
    with pytest.raises(ConfigurationError, match="^cameras: expected 2, in the place of scene"):
        train(replace(config, cameras=("wrist",)), tmp_path / "run", asked={"cameras"})
    # Other cameras see in the place of its own, in the order that is told.
    turned = replace(config, cameras=("wrist", "scene.right"), num_steps=1)
    after = read_checkpoint(train(turned, tmp_path / "turned", asked={"cameras"}))
    assert tuple(after.contract.cameras) == ("wrist", "scene.right")


def test_words_may_come_to_decide_what_is_looked_for(
    config: PolicyConfig, first: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the policy was, at first; and what it learns of that goes on after a stop."""
    if not isinstance(config, VisionLanguageActionTrainConfig):
        pytest.skip("a policy that is told nothing")
    num_views = 2
    model = replace(first.model, vision=replace(TOWER, modulated_views=num_views))
    asked = {"model.vision.modulated_views"}
    changed = replace(config, model=model)
    run = RunDirectory(root=tmp_path / "run")
    before = shaped_like_its_beginning(config, None)
    shaped = shaped_like_its_beginning(changed, run, asked)
    assert shaped == replace(before, model=replace(before.model, vision=model.vision))
    # A recipe's own word does not count.
    assert shaped_like_its_beginning(changed, run) == before
    losses = losses_from_here(monkeypatch)
    train(before, tmp_path / "plain")
    whole = read_checkpoint(train(changed, tmp_path / "whole", asked=asked)).weights
    assert losses[before.num_steps] == pytest.approx(losses[0], rel=1e-5)
    assert whole["model.backbone.modulation.to_maps.weight"].abs().max() > 0
    train_until(changed, run.root, monkeypatch, 2, asked=asked)
    again = read_checkpoint(train(changed, run.root, asked=asked)).weights
    assert_same_weights(again, whole)


def test_what_is_asked_for_at_a_resume_is_not_replaced(
    config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(config, tmp_path / "run", monkeypatch, 2)
    scaled = replace(config, normalization=NormalizationConfig(method="min_max"))
    for asked, field in ((config, "chunk_length"), (scaled, "normalization.method")):
        with pytest.raises(ConfigurationError, match=f"^{field}: expected .*, as the run has it"):
            train(asked, tmp_path / "run", asked={field})
    # What it has is no other.
    train(replace(config, chunk_length=8), tmp_path / "run", asked={"chunk_length"})


def test_other_arms_are_refused(config: PolicyConfig, tmp_path: Path) -> None:
    contract = Contract(
        cameras=dict(synthetic_demonstration(0).contract.cameras),
        control_rate_hz=10.0,
        arms=(LEFT_ARM, RIGHT_ARM),
        grippers=(LEFT_GRIPPER, RIGHT_GRIPPER),
    )
    data = tmp_path / "data"
    data.mkdir()
    for index in range(3):
        demonstration = synthetic_demonstration(index, contract=contract)
        save_demonstration(demonstration, demonstration_path(data, index))
    with pytest.raises(ConfigurationError, match=r"^init: .* is of arms \['right::panda'"):
        train(replace(config, data=str(data)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_policy_of_the_other_kind_is_refused(
    config: PolicyConfig, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    other: PolicyConfig = tiny_config
    expected = "a policy that is told nothing to begin with, got .* kind 'vision_language_action'"
    if isinstance(config, TrainConfig):
        other = VisionLanguageActionTrainConfig(data=config.data, num_steps=1, device="cpu")
        expected = "or a policy that is told what to do, to begin with, got .* kind 'policy'"
    with pytest.raises(CheckpointError, match=expected):
        train(replace(other, init=config.init), tmp_path / "run")
    with pytest.raises(CheckpointError, match="MANIFEST"):
        train(replace(config, init=str(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scales_of_a_run_that_never_learnt_bind_no_other(
    config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its first save, and its folder is used for the same from scratch."""
    from_scratch = replace(shaped_like_its_beginning(config, None), init="")
    whole = read_checkpoint(train(from_scratch, tmp_path / "whole"))
    run = RunDirectory(root=tmp_path / "run")
    run.root.mkdir()
    shaped = shaped_like_its_beginning(config, None)
    with run.claimed(shaped), open_stage(shaped, run)():
        assert run.normalization.exists()
    train_until(from_scratch, run.root, monkeypatch, 2)
    after = read_checkpoint(train(from_scratch, run.root))
    assert after.transform.to_json() == whole.transform.to_json()
    assert_same_weights(after.weights, whole.weights)


def test_it_is_told_on_the_command_line(
    config: PolicyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = "smoke" if isinstance(config, TrainConfig) else "tiny_vla"
    options = ["--data", config.data, "--init", config.init, "--num-steps", "1"]
    options += ["--checkpoint-steps", "1", "--cameras", "scene.right", "wrist"]
    assert main(["train", recipe, *options, "--output", str(tmp_path / "run")]) == 0
    assert f"as {config.init} has it: " in capsys.readouterr().err
    assert main(["train", recipe, *options, "--model.nothing", "1", "--output", "x"]) == 2
