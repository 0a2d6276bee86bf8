"""Recipes of one's own: JSON files of what differs, merged strictly and deeply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.command_line import main
from trainer.configuration_json import config_from_json, config_to_json
from trainer.configuration_merging import merged
from trainer.hugging_face_configuration import HuggingFaceLanguage
from trainer.models.configuration import DiffusionHeadConfig, ModelConfig, RegressionHeadConfig
from trainer.policy_configuration import TrainConfig
from trainer.recipe_files import read_recipe_file
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.requirements import ConfigurationError
from trainer.vision_language_configuration import (
    HuggingFaceAnswererShape,
    VisionLanguageShape,
    VisionLanguageTrainConfig,
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of what differs."""

    def written(name: str, /, **fields: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(fields))
        return path

    return written


def test_what_differs_is_merged_deeply(write: Write) -> None:
    path = write(
        "own.json",
        recipe="one_task",
        batch_size=16,
        cameras=["scene_left_0"],
        optimizer={"learning_rate": 1, "kind": "adamw"},
        model={"flow_head": {"depth": 3}},
    )
    before = find_recipe("one_task")
    assert isinstance(before, TrainConfig)
    head = replace(before.model.flow_head, depth=3)
    assert read_recipe_file(path) == replace(
        before,
        batch_size=16,
        cameras=("scene_left_0",),
        optimizer=replace(before.optimizer, learning_rate=1.0, kind="adamw"),
        model=replace(before.model, flow_head=head),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_that_differs_is_the_recipe_itself(name: str, write: Write) -> None:
    config = find_recipe(name)
    assert read_recipe_file(write("own.json", recipe=name)) == config
    assert read_recipe_file(write("own.json", recipe=name, kind=config.kind)) == config


@pytest.mark.parametrize("name", RECIPES)
def test_a_whole_configuration_is_merged_into_any_of_its_kind(name: str) -> None:
    """So that nothing of what a file may say is left where it was."""
    config = find_recipe(name)
    fields = json.loads(config_to_json(config))
    del fields["kind"]
    for other in map(find_recipe, RECIPES):
        if type(other) is type(config):
            assert merged(other, fields) == config


@given(first=st.integers(1, 9), second=st.none() | st.integers(1, 9), third=st.integers(0, 9))
def test_a_later_change_wins_and_others_stay(first: int, second: int | None, third: int) -> None:
    early = {"seed": third, "loader": {"num_workers": second, "num_batches_ahead": first}}
    late = {"loader": {"num_batches_ahead": 11}}
    config = merged(merged(find_recipe("smoke"), early), late)
    assert (config.seed, config.loader.num_workers) == (third, second)
    assert config.loader.num_batches_ahead == 11


def test_a_file_begins_with_a_file_seen_from_its_own_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("base.json", recipe="smoke", batch_size=8, optimizer={"beta1": 0.5, "beta2": 0.6})
    write("mugs/middle.json", recipe="../base.json", optimizer={"beta2": 0.7}, name="mugs")
    path = write("mugs/last.json", recipe="middle.json", name="last")
    monkeypatch.chdir(Path("/"))
    smoke = find_recipe("smoke")
    assert read_recipe_file(path) == replace(
        smoke,
        name="last",
        batch_size=8,
        optimizer=replace(smoke.optimizer, beta1=0.5, beta2=0.7),
    )


def test_a_file_begins_with_the_configuration_of_a_run(write: Write, tmp_path: Path) -> None:
    stored = replace(find_recipe("smoke"), data="demos", precision="float32")
    (tmp_path / "config.json").write_text(config_to_json(stored))
    assert read_recipe_file(tmp_path / "config.json") == stored
    again = read_recipe_file(write("again.json", recipe="config.json", seed=1))
    assert again == replace(stored, seed=1)


def test_keys_of_another_kind_replace_a_part_by_that_kind(write: Write) -> None:
    before = find_recipe("tiny_vlm")
    assert isinstance(before, VisionLanguageTrainConfig)
    assert isinstance(before.model, VisionLanguageShape)
    path = write("own.json", recipe="tiny_vlm", model={"language": {"path": "smollm2"}})
    language = HuggingFaceLanguage(path="smollm2")
    assert read_recipe_file(path) == replace(before, model=replace(before.model, language=language))
    # A file on it merges into what is there by now, and leaves the path.
    path = write("next.json", recipe="own.json", model={"language": {"context_length": 300}})
    assert read_recipe_file(path).model.language == replace(language, context_length=300)
    # And the key that both kinds have is the present kind's.
    path = write("next.json", recipe="tiny_vlm", model={"language": {"context_length": 300}})
    language = replace(before.model.language, context_length=300)
    assert read_recipe_file(path).model.language == language

    path = write("own.json", recipe="tiny_vlm", model={"backbone": {"path": "smolvlm"}})
    model = read_recipe_file(path).model
    assert isinstance(model, HuggingFaceAnswererShape)
    assert model.backbone.path == "smolvlm"


def test_a_part_that_may_be_missing_is_made_merged_and_taken_away(write: Write) -> None:
    smoke = find_recipe("smoke")
    made = merged(smoke, {"model": {"baseline": {"kernel_size": 3}}})
    assert made.model.baseline == DiffusionHeadConfig(kernel_size=3)
    more = merged(made, {"model": {"baseline": {"channels": [8]}}})
    assert more.model.baseline == DiffusionHeadConfig(kernel_size=3, channels=(8,))
    other = merged(more, {"model": {"baseline": {"width": 96}}})
    assert other.model.baseline == RegressionHeadConfig(width=96)
    assert merged(other, {"model": {"baseline": None}}) == smoke
    with pytest.raises(ConfigurationError, match="model.baseline: expected keys that one kind"):
        merged(replace(smoke, model=ModelConfig()), {"model": {"baseline": {}}})


@pytest.mark.parametrize(
    ("recipe", "fields", "told"),
    [
        ("smoke", {"batch_sise": 3}, "unknown configuration key 'batch_sise' (did you mean 'batch"),
        (
            "smoke",
            {"model": {"flow_head": {"dept": 3}}},
            "unknown configuration key 'model.flow_head.dept' (did you mean 'depth'?)",
        ),
        ("smoke", {"batch_size": "3"}, "batch_size: expected int, got '3'"),
        ("smoke", {"batch_size": True}, "batch_size: expected int, got True"),
        ("smoke", {"optimizer": 3}, "optimizer: expected an object, got 3"),
        ("smoke", {"optimizer": None}, "optimizer: expected an object, got None"),
        ("smoke", {"optimizer": {"kind": "sgd"}}, "optimizer.kind: expected one of ['adamw'"),
        ("smoke", {"checkpoint_steps": [1, "2"]}, "checkpoint_steps[1]: expected int, got '2'"),
        ("smoke", {"optimizer": {"beta1": 1.0}}, "optimizer.beta1: expected 0 <= value < 1"),
        ("smoke", {"num_samples": 640}, "num_steps, num_samples: expected exactly one of them"),
        ("smoke", {"kind": "language"}, "kind: expected 'policy', as what it begins with has it"),
        ("smokey", {}, "unknown recipe 'smokey' (did you mean 'smoke'?)"),
        (3, {}, "recipe: expected a recipe's name, or the path of a file"),
        (
            "tiny_vlm",
            {"model": {"language": {"contxt_length": 3}}},
            "unknown configuration key 'model.language.contxt_length' (did you mean 'context_l",
        ),
        (
            "tiny_vlm",
            {"model": {"language": {"path": "x", "vocabulary_size": 300}}},
            "model.language: expected keys that one kind alone has, got ['path', 'vocabulary_size'",
        ),
        (
            "tiny_vlm",
            {"model": {"language": {"path": "x", "adaptation": {"kin": "full"}}}},
            "unknown configuration key 'model.language.adaptation.kin' (did you mean 'kind'?)",
        ),
        (
            "tiny_vlm",
            {"model": {"context_length": 64}},
            "missing configuration keys ['model.backbone']: context_length would make of the "
            "VisionLanguageShape",
        ),
    ],
)
def test_what_is_wrong_is_told_with_the_file_and_the_field(
    recipe: object,
    fields: dict[str, Any],
    told: str,
    write: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write("own.json", recipe=recipe, **fields)
    assert main(["show", str(path)]) == 2
    assert f"trainer: {path}: {told}" in capsys.readouterr().err


def test_it_is_the_file_that_is_wrong_that_is_named(write: Write) -> None:
    wrong = write("wrong.json", recipe="smoke", sed=1)
    path = write("own.json", recipe="wrong.json", seed=2)
    with pytest.raises(ConfigurationError) as raised:
        read_recipe_file(path)
    assert str(raised.value).startswith(f"{wrong}: unknown configuration key 'sed'")


@pytest.mark.parametrize("length", [1, 3])
def test_files_that_begin_with_each_other_are_refused(length: int, write: Write) -> None:
    for number in range(length):
        write(f"{number}.json", recipe=f"{(number + 1) % length}.json")
    path = write("own.json", recipe="0.json")
    with pytest.raises(
        ConfigurationError, match=r"a circle: .*own\.json -> .*0\.json -> .*0\.json"
    ):
        read_recipe_file(path)


def test_files_that_cannot_be_read_or_are_no_recipes(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("own.json", recipe="nowhere.json")
    assert main(["show", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"nowhere.json: cannot be read ({path} begins with it)" in told
    # What differs, without what it differs from.
    path = write("own.json", batch_size=3)
    assert main(["show", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path}: missing configuration keys" in told
    assert "by the key 'recipe'" in told
    for text, why in (
        ('{"recipe": "smoke"', "not JSON"),
        ("[]", "expected an object"),
        ('{"recipe": "smoke", "seed": 1, "seed": 2}', "seed: expected each key of an object once"),
    ):
        path.write_text(text)
        assert main(["show", str(path)]) == 2
        assert f"{path}: " in (told := capsys.readouterr().err)
        assert why in told


def test_options_come_on_top_and_the_run_stores_the_whole(
    tiny_config: TrainConfig, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.json").write_text(config_to_json(replace(tiny_config, checkpoint_steps=())))
    path = write(
        "own.json",
        recipe="tiny.json",
        num_steps=5,
        optimizer={"learning_rate": 0.5, "warmup_steps": 1},
    )
    options = ["--num-steps", "2", "--optimizer.learning-rate", "1e-3"]
    assert main(["show", str(path), *options]) == 0
    shown = capsys.readouterr().out
    run = tmp_path / "run"
    assert main(["train", str(path), *options, "--output", str(run)]) == 0
    expected = replace(
        tiny_config,
        checkpoint_steps=(),
        num_steps=2,
        optimizer=replace(tiny_config.optimizer, learning_rate=1e-3, warmup_steps=1),
    )
    stored = (run / "config.json").read_text()
    assert config_from_json(stored) == expected
    assert stored == shown
    # The files are needed no more: what is beside the run gives the same run.
    path.unlink()
    again = tmp_path / "again"
    assert main(["train", str(run / "config.json"), "--output", str(again)]) == 0
    weights = Path("checkpoints", "final", "model.safetensors")
    assert (again / weights).read_bytes() == (run / weights).read_bytes()
