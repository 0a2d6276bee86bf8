"""Ranks that hold a part of a network each: each stage, each way, one that dies saving, and a state
of four that two go on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainer import ranks
from tests.trainer.small_models import EXPERT, LANGUAGE, TOWER, VISION
from tests.trainer.steps import losses_alone
from trainer.action_token_configuration import ActionTokenShape
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.action.action_tokens import ActionTokenConfig
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.training_configuration import EmaConfig, ShardingConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig

language, policy = ranks.language, ranks.policy
instructed, seeing = ranks.instructed, ranks.seeing

_FULL = ShardingConfig(kind="full")


def test_only_what_is_cut_can_lie_in_the_cpus_memory() -> None:
    with pytest.raises(ConfigurationError, match="sharding.cpu_offload: expected false where"):
        ShardingConfig(cpu_offload=True)


@pytest.mark.slow
def test_every_stage_learns_in_parts_what_one_process_learns(
    language: LanguageTrainConfig,
    seeing: VisionLanguageTrainConfig,
    policy: TrainConfig,
    instructed: VisionLanguageActionTrainConfig,
    tmp_path: Path,
) -> None:
    deep = replace(
        language,
        model=replace(language.model, transformer=replace(language.model.transformer, depth=2)),
    )
    rounded = replace(instructed, precision="bfloat16")
    modulated = replace(
        instructed,
        model=replace(
            instructed.model,
            language=LANGUAGE,
            vision=replace(TOWER, modulated_views=2),
            expert=EXPERT,
            image_size=32,
        ),
    )
    telling = replace(
        instructed,
        model=ActionTokenShape(
            language=LANGUAGE,
            vision=VISION,
            image_size=32,
            tokens=ActionTokenConfig(max_level=40, vocabulary_size=120),
        ),
    )
    # What each is compared with, and how far its losses may be from there: weights are gathered as
    # bfloat16, which rounds a few sums that one process takes in float32.
    cases: dict[str, tuple[RunConfig, RunConfig, float]] = {
        "seeing": (seeing, replace(seeing, sharding=_FULL), 1e-5),
        "policy": (
            policy,
            replace(policy, sharding=_FULL, checkpoint_activations=True, micro_batch_size=3),
            1e-5,
        ),
        "instructed": (
            instructed,
            replace(instructed, sharding=_FULL, checkpoint_activations=True, micro_batch_size=1),
            1e-5,
        ),
        "modulated": (modulated, replace(modulated, sharding=_FULL), 1e-5),
        "telling": (telling, replace(telling, sharding=_FULL), 1e-5),
        "offloaded": (
            deep,
            replace(
                deep,
                sharding=ShardingConfig(kind="gradients", cpu_offload=True),
                checkpoint_activations=True,
            ),
            1e-5,
        ),
        "bfloat16": (rounded, replace(rounded, sharding=_FULL), 0.03),
    }
    plan = [ranks.run(config, tmp_path / name) for name, (_, config, _) in cases.items()]
    notes = ranks.torchrun(plan, tmp_path)
    assert [len(each) for each in notes.by_rank] == [len(plan)] * 2, notes.stderr
    for number, (name, (other, _, tolerance)) in enumerate(cases.items()):
        alone = losses_alone(other, tmp_path / f"{name}_alone")
        for each in notes.by_rank:
            assert each[number]["exit_code"] == 0, name
            assert each[number]["losses"] == pytest.approx(alone, abs=tolerance, rel=0), name


@pytest.mark.slow
def test_a_rank_that_dies_as_it_saves_costs_what_was_done_since_the_save_before(
    language: LanguageTrainConfig, tmp_path: Path
) -> None:
    config = replace(language, sharding=_FULL)
    killed: dict[str, Any] = ranks.run(config, tmp_path / "run", "die_saving", step=8)
    notes = ranks.torchrun([killed], tmp_path)
    assert "trainer: rank 0 of 2: " in notes.stderr
    states = tmp_path / "run" / "training_state"
    assert [path.name for path in states.iterdir() if path.name[0] != "."] == ["step_000004"]
    rest = losses_alone(config, tmp_path / "run")
    whole = losses_alone(config, tmp_path / "whole")
    assert rest == pytest.approx(whole[4:], abs=1e-5, rel=0)
    assert [path.name for path in states.iterdir()] == ["step_000010"]


@pytest.mark.slow
def test_what_four_ranks_have_saved_two_go_on_from(
    language: LanguageTrainConfig, tmp_path: Path
) -> None:
    config = replace(language, sharding=_FULL, ema=EmaConfig(max_decay=0.9))
    for folder in ("four", "two"):
        (tmp_path / folder).mkdir()
    stopped = ranks.run(config, tmp_path / "run", "SIGTERM", step=6)
    four = ranks.torchrun([stopped], tmp_path / "four", num_ranks=4)
    assert [each[0]["exit_code"] for each in four.by_rank] == [130] * 4, four.stderr
    state = tmp_path / "run" / "training_state" / "step_000006"
    assert len(list(state.glob("shard-*.safetensors"))) == 4
    two = ranks.torchrun([ranks.run(config, tmp_path / "run")], tmp_path / "two")
    assert [each[0]["exit_code"] for each in two.by_rank] == [0] * 2, two.stderr
    alone = losses_alone(config, tmp_path / "alone")
    for before, after in ((four.by_rank[0], two.by_rank[0]), (four.by_rank[3], two.by_rank[1])):
        losses = before[0]["losses"] + after[0]["losses"]
        assert losses == pytest.approx(alone, abs=1e-5, rel=0)
    ranks.require_same_averages(tmp_path / "run", tmp_path / "alone")
