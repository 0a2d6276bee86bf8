"""Episodes simulated again from their action logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from policy_interface.contract import Contract
from policy_interface.usage import UsageError
from policy_server.testing import NoisePolicy, running_server
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.runner import run as evaluate
from sim_client.replay.run import ReplayConfig, run
from step_analysis.ledger import read_design, read_ledger, write_design

TASK = "PickAndPlaceBox"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of Drake's station, under a policy that moves the arms at random."""
    output = tmp_path_factory.mktemp("rollouts")
    with running_server(NoisePolicy(contract=Contract(cameras={}))) as server:
        config = EvaluationConfig(
            tasks=(TASK,),
            episodes=EpisodeRange(0, 2),
            address=server.address,
            workers=1,
            output=output,
            time_limit_s=0.6,
        )
        assert evaluate(config) == 0
    return output / "noise"


def replay(folder: Path, episode: int = 0, **options: Any) -> int:
    return run(ReplayConfig(run=folder, task=TASK, episode=episode, **options))


def log_of(folder: Path, episode: int) -> Path:
    (path,) = folder.glob(f"{TASK}/rollouts/*/*/demonstration_{episode}/actions.npz")
    return path


def change(path: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name].copy() for name in file.files}
    edit(arrays)
    np.savez(path, **arrays)


def copied(evaluated: Path, to: Path) -> Path:
    """The first episode alone, to be spoilt."""
    log = log_of(evaluated, 0)
    there = to / "noise" / log.relative_to(evaluated)
    there.parent.mkdir(parents=True)
    there.write_bytes(log.read_bytes())
    write_design(to / "noise" / "evaluation.json", read_design(evaluated / "evaluation.json"))
    return to / "noise"


def test_every_state_is_what_it_was_to_the_last_bit(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = read_ledger(evaluated / "ledger.jsonl")
    assert len({record.state_digest for record in records}) == 2
    for episode in range(2):
        assert replay(evaluated, episode) == 0
        out = capsys.readouterr().out
        assert f"{TASK} episode {episode}, seed {100_000_100 + episode}: bit-equal in all 7" in out


def test_a_shifted_and_delayed_scene_comes_out_the_same_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shift = "distractors=low,mass=high,table_height=high,observation_noise=low"
    with running_server(NoisePolicy(contract=Contract(cameras={}))) as server:
        config = EvaluationConfig(
            tasks=(TASK,),
            episodes=EpisodeRange(0, 2),
            address=server.address,
            workers=1,
            output=tmp_path,
            time_limit_s=0.4,
            shift=shift,
            latency_ms=100.0,
        )
        assert evaluate(config) == 0
    design = read_design(tmp_path / "noise" / "evaluation.json")
    assert (design.station["shift"], design.station["latency_ms"]) == (shift, 100.0)
    for episode in range(2):
        assert replay(tmp_path, episode) == 0
    assert "bit-equal in all 5 states" in capsys.readouterr().out


def test_the_folder_above_will_do_where_it_holds_one_policy(evaluated: Path) -> None:
    assert replay(evaluated.parent) == 0


def test_an_action_that_was_another_is_found_at_its_step(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(evaluated, tmp_path)

    def nudge(arrays: dict[str, np.ndarray]) -> None:
        arrays["actions"][3, 0] += 1e-9

    change(log_of(folder, 0), nudge)
    assert replay(folder) == 1
    assert "differs first after control step 4, at 0.4 s" in capsys.readouterr().out


def test_another_scene_is_found_before_the_first_step(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(evaluated, tmp_path)
    change(log_of(folder, 0), lambda arrays: arrays.update(seed=np.array(100_000_105)))
    assert replay(folder) == 1
    assert "differs first as it was reset; the arms are off by" in capsys.readouterr().out


def test_another_simulator_is_told(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(evaluated, tmp_path)
    protocol = '{"station": {}, "software": {"drake": "1.0.0", "assay": "0.1.0"}}'
    change(log_of(folder, 0), lambda arrays: arrays.update(protocol=np.array(protocol)))
    assert replay(folder) == 0
    assert "simulated with drake 1.0.0 then, with" in capsys.readouterr().out


def test_it_can_be_filmed_and_drawn(evaluated: Path, tmp_path: Path) -> None:
    video, page = tmp_path / "episode.mp4", tmp_path / "episode.html"
    assert replay(evaluated, video=video, image_size="64x48", meshcat=page) == 0
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert [frame.shape for frame in frames] == [(48, 128, 3)] * 7
    assert frames[0].std() > 10
    assert "meshcat" in page.read_text()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"task": "PickAndPlaceBocks"}, "did you mean PickAndPlaceBox?"),
        ({"episode": 7}, "no actions.npz of PickAndPlaceBox episode 7: expected one .* 0 to 1"),
        ({"video": Path("x.mp4"), "image_size": "big"}, "--image-size"),
        ({"video": Path("x.mp4"), "cameras": "overhead"}, "'overhead'"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    evaluated: Path, options: Mapping[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(ReplayConfig(**{"run": evaluated, "task": TASK, "episode": 0} | options))


def test_a_folder_without_an_evaluation_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no evaluation: expected the folder of a policy"):
        replay(tmp_path)


def test_a_simulation_that_is_not_deterministic_is_found_out(
    served: Any, evaluate: Any, script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script({0: "drift"})
    assert evaluate("0:1") == 0
    config = ReplayConfig(run=tmp_path / "rollouts", task=TASK, episode=0)
    assert run(config, station_factory="fake_station:build") == 1
    assert "differs first after control step 2" in capsys.readouterr().out


def test_an_episode_that_broke_is_replayed_until_it_breaks_again(
    served: Any, evaluate: Any, script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script({0: "always raise"})
    assert evaluate("0:1", max_attempts=1) == 1
    capsys.readouterr()
    config = ReplayConfig(run=tmp_path / "rollouts", task=TASK, episode=0)
    assert run(config, station_factory="fake_station:build") == 0
    out = capsys.readouterr().out
    assert "bit-equal in all 2 states" in out
    assert "then the simulation broke: the physics of scenario 0 diverged" in out
