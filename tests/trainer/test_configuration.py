"""Configurations: validated, and to JSON and back without loss or leniency."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.configuration_json import config_differences, config_from_json, config_to_json
from trainer.data.configuration import NormalizationConfig
from trainer.models.configuration import FlowHeadConfig, RegressionHeadConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.requirements import ConfigurationError
from trainer.training_configuration import EmaConfig, OptimizerConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    config = find_recipe(name)
    assert config_from_json(config_to_json(config)) == config


@given(
    cameras=st.none() | st.lists(st.text(min_size=1), min_size=1, unique=True).map(tuple),
    steps=st.integers(1, 10**6),
    rate=st.floats(1e-6, 1.0),
    scope=st.sampled_from(["global", "per_timestep"]),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_configuration_survives_json(cameras, steps, rate, scope, seed) -> None:
    config = TrainConfig(
        cameras=cameras,
        num_steps=steps,
        checkpoint_steps=(1, steps),
        seed=seed,
        optimizer=OptimizerConfig(learning_rate=rate),
        normalization=NormalizationConfig(scope=scope),
    )
    assert config_from_json(config_to_json(config)) == config


def test_a_configuration_of_before_there_were_language_models_is_read() -> None:
    config = find_recipe("smoke")
    fields = json.loads(config_to_json(config))
    del fields["kind"], fields["optimizer"]["schedule"], fields["optimizer"]["decay_fraction"]
    fields["ema"] = {"max_decay": config.ema.max_decay}
    assert config_from_json(json.dumps(fields)) == config
    with pytest.raises(ConfigurationError, match="kind: .*'languag'.*did you mean 'language'"):
        config_from_json(json.dumps({"kind": "languag", **fields}))


@pytest.mark.parametrize("depth", [0, 1001, 10**9])
def test_a_network_has_some_blocks_and_not_endlessly_many(depth: int) -> None:
    for make in (
        lambda: FlowHeadConfig(depth=depth),
        lambda: TransformerConfig(width=64, depth=depth, num_heads=2),
        lambda: RegressionHeadConfig(decoder_depth=depth),
    ):
        with pytest.raises(ConfigurationError, match=f"depth: expected 1 to 1000.*got {depth}"):
            make()


def test_an_unknown_key_is_an_error_with_a_suggestion() -> None:
    fields = json.loads(config_to_json(find_recipe("smoke")))
    fields["optimizer"]["learning_rat"] = 1.0
    with pytest.raises(ConfigurationError, match=r"optimizer\.learning_rat.*'learning_rate'"):
        config_from_json(json.dumps(fields))


def test_a_missing_key_is_an_error_and_no_default() -> None:
    fields = json.loads(config_to_json(find_recipe("smoke")))
    del fields["ema"]["max_decay"]
    with pytest.raises(ConfigurationError, match=r"ema\.max_decay"):
        config_from_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("num_steps",), "many"),
        (("num_steps",), True),
        (("num_steps",), 1.5),
        (("cameras",), "wrist"),
        (("checkpoint_steps",), [1, "2"]),
        (("precision",), "float8"),
        (("optimizer",), 3),
        (("optimizer", "learning_rate"), "fast"),
        (("data",), None),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_field(path, value) -> None:
    fields = json.loads(config_to_json(find_recipe("smoke")))
    holder = fields
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    with pytest.raises(ConfigurationError, match=path[-1]):
        config_from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_what_is_no_configuration_is_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError):
        config_from_json(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_steps": None},
        {"num_steps": 10, "num_samples": 640},
        {"num_steps": 0},
        {"num_steps": None, "num_samples": 3},
        {"checkpoint_steps": (0,)},
        {"checkpoint_steps": (10**9,)},
        {"cameras": ()},
        {"cameras": ("a", "a")},
        {"chunk_length": 15},
        {"device": "gpu"},
        {"seed": -1},
        {"batch_size": 0},
        {"serving": ServingConfig(open_loop_steps=17)},
    ],
)
def test_impossible_configurations_are_refused(wrong) -> None:
    with pytest.raises(ConfigurationError):
        replace(find_recipe("pick_and_place_box"), **wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OptimizerConfig(learning_rate=0.0),
        lambda: OptimizerConfig(beta1=1.0),
        lambda: EmaConfig(max_decay=1.0),
        lambda: EmaConfig(schedule="powers"),  # type: ignore[arg-type]
        lambda: EmaConfig(power=0.0),
        lambda: FlowHeadConfig(width=100, num_heads=3),
        lambda: NormalizationConfig(lower_quantile=0.9, upper_quantile=0.1),
        lambda: NormalizationConfig(rotation_floor=0.0),
    ],
)
def test_impossible_parts_are_refused(make) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_a_budget_in_samples_becomes_optimizer_steps() -> None:
    config = TrainConfig(num_samples=1000, batch_size=64, checkpoint_steps=(3, 15))
    assert config.total_steps == 15
    assert config.kept_steps == (3, 15)


def test_differences_name_the_nested_field_and_both_values() -> None:
    config = find_recipe("smoke")
    other = replace(config, optimizer=replace(config.optimizer, beta1=0.5))
    assert config_differences(config, other) == ["optimizer.beta1: 0.9, now 0.5"]
    assert config_differences(config, config) == []


def test_a_misspelt_recipe_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'pick_and_place_box'"):
        find_recipe("pick_and_place_bx")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": ["policy"]}, "kind: expected one of"),
        ({"seed": 10**400}, "seed: expected a number of 64 bits"),
        ({"optimizer": {"learning_rate": 10**400}}, "learning_rate: expected a number of 64 bits"),
    ],
)
def test_a_strangers_numbers_are_refused_by_name(change: dict[str, Any], told: str) -> None:
    fields = json.loads(config_to_json(find_recipe("smoke")))
    change = {k: fields[k] | v if isinstance(v, dict) else v for k, v in change.items()}
    with pytest.raises(ConfigurationError, match=told):
        config_from_json(json.dumps(fields | change))


def test_a_configuration_nested_without_end_is_no_configuration() -> None:
    with pytest.raises(ConfigurationError, match="not JSON"):
        config_from_json("[" * 100_000)
