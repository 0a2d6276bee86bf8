"""What an evaluation may be asked."""

from __future__ import annotations

from typing import Any

import pytest

from sim_client.evaluation.config import EpisodeRange, EvaluationConfig, evaluation_seed
from sim_client.evaluation.errors import UsageError


def test_seeds_lie_apart_from_those_of_demonstrations() -> None:
    # LBM Eval's rule: index + 100, and 100 000 000 more for an evaluation.
    assert evaluation_seed(7) == 100_000_107


def test_tasks_come_in_one_word_or_several() -> None:
    config = EvaluationConfig(tasks=("PickAndPlaceBox,PutMugOnSaucer", "Third"))
    assert config.tasks == ("PickAndPlaceBox", "PutMugOnSaucer", "Third")


def test_cameras_to_film_come_in_one_word_or_several() -> None:
    config = EvaluationConfig(tasks=("all",), video=("scene_right_0,scene_left_0", "scene_right_0"))
    assert config.video == ("scene_right_0", "scene_left_0")


@pytest.mark.parametrize("text", ["", "5", "5:5", "9:3", "-1:4", "a:b", "0:5:1", "0:99999999999"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="0:50"):
        EpisodeRange.parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": (",",)}, "at least one task"),
        ({"address": "localhost"}, "HOST:PORT"),
        ({"address": "host:99999"}, "HOST:PORT"),
        ({"workers": 0}, "--workers: expected at least 1, got 0"),
        ({"max_attempts": 0}, "--max-attempts"),
        ({"step_timeout_s": 0.0}, "--step-timeout-s"),
        ({"time_limit_s": float("nan")}, "--time-limit-s"),
        ({"wait_for_server_s": -1.0}, "--wait-for-server"),
        ({"stall_timeout_s": 20.0}, "--stall-timeout-s 20"),
        ({"max_sample_size": 49}, "--max-sample-size 49"),
        ({"latency_ms": -1.0}, "--latency-ms: expected 0 or more milliseconds, got -1"),
        ({"meshcat_port": 80}, "--meshcat-port: expected 1024 to 65535, got 80"),
        ({"simulator": "lbm-eval", "shift": "camera=low"}, "--shift: not with --simulator lbm-e"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EvaluationConfig(**{"tasks": ("PickAndPlaceBox",)} | options)
