"""The real pieces together: Drake's station, its cameras, and the project's own server."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from policy_interface.contract import Contract, ImageSize
from policy_server.testing import GatedPolicy, NoisePolicy, running_server
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.live_page import live_pages
from sim_client.evaluation.runner import run
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import Outcome


@pytest.mark.slow
def test_a_policy_that_does_nothing_useful_times_out_in_the_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = Contract(
        cameras={
            "scene_right_0": ImageSize(height=96, width=96),
            "wrist_right_minus": ImageSize(height=48, width=64),
        },
        uses_language=True,
    )
    with running_server(NoisePolicy(contract=contract)) as server:
        config = EvaluationConfig(
            tasks=("PickAndPlaceBox",),
            episodes=EpisodeRange(0, 2),
            address=server.address,
            workers=1,
            output=tmp_path / "rollouts",
            time_limit_s=0.5,
            video=tuple(contract.cameras),
            save_meshcat=True,
            save_states=True,
        )
        assert run(config) == 0
    assert "PickAndPlaceBox: 0/2 succeeded (0.0%), 2 timed out" in capsys.readouterr().out
    records = read_ledger(tmp_path / "rollouts" / "noise" / "ledger.jsonl")
    assert [record.outcome for record in records] == ["timeout", "timeout"]
    assert [record.duration_s for record in records] == pytest.approx([0.5, 0.5])
    assert records[0].detail["box_in_bin"] is False
    assert records[0].detail != records[1].detail
    assert [record.progress for record in records] == [0.0, 0.0]
    assert all(record.instruction for record in records)
    assert records[0].state_digest != records[1].state_digest
    for index in range(2):
        (folder,) = (tmp_path / "rollouts").glob(f"**/demonstration_{index}")
        read, frame = cv2.VideoCapture(str(folder / "cameras.mp4")).read()
        assert read
        assert frame.shape == (96, 96 + 128, 3)
        # A picture of something in both halves, not a blank.
        assert frame[:, :96].std() > 10
        assert frame[:, 96:].std() > 10
        assert "meshcat" in (folder / "recording.html").read_text()
        with np.load(folder / "states.npz", allow_pickle=False) as states:
            # 0.5 s are 5 control steps, and the state before them.
            assert states["state_times_s"] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
            # Two arms of 7 joints, two fingers each, and free bodies of 7 numbers (6 velocities).
            assert (states["positions"].shape[1] - 18) % 7 == 0
            assert np.isfinite(states["positions"]).all()
            assert np.abs(np.diff(states["positions"], axis=0)).max() > 1e-4


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        ("nan", "SimulationError: "),
        pytest.param("asserting", "SystemExit: Failure at ", marks=pytest.mark.slow),
    ],
)
def test_a_solver_that_breaks_is_an_error_with_its_seed_and_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaking: str, message: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with running_server(NoisePolicy(contract=Contract(cameras={}))) as server:
        config = EvaluationConfig(
            tasks=("PickAndPlaceBox",),
            episodes=EpisodeRange(0, 1),
            address=server.address,
            workers=1,
            output=tmp_path,
            time_limit_s=1.0,
            max_attempts=1,
        )
        assert run(config, station_factory=f"breaking_station:build_{breaking}") == 1
    (record,) = read_ledger(tmp_path / "noise" / "ledger.jsonl")
    assert record.outcome is Outcome.ERROR
    assert message in (record.message or "")
    (path,) = tmp_path.glob("**/demonstration_0/error.npz")
    with np.load(path, allow_pickle=False) as broken:
        assert int(broken["seed"]) == record.seed == 100_000_100
        assert broken["actions"].shape == (4, 20)
        assert broken["state_times_s"] == pytest.approx([0.3])
        assert np.isfinite(broken["positions"]).all()
        assert np.isfinite(broken["velocities"]).all()


def test_a_browser_can_watch_the_episode_that_runs(tmp_path: Path) -> None:
    policy = GatedPolicy(NoisePolicy(contract=Contract(cameras={}), chunk_length=4))
    codes: list[int] = []
    with running_server(policy) as server:
        config = EvaluationConfig(
            tasks=("PickAndPlaceBox",),
            episodes=EpisodeRange(0, 1),
            address=server.address,
            workers=1,
            output=tmp_path,
            time_limit_s=0.4,
            meshcat_port=17_000,
        )
        evaluation = threading.Thread(target=lambda: codes.append(run(config)))
        evaluation.start()
        # The episode stands still at its first plan.
        policy.next_batch_size()
        (page,) = live_pages(tmp_path / "noise")
        with urllib.request.urlopen(page) as answer:  # noqa: S310 (a page of this machine)
            assert b"meshcat" in answer.read()
        policy.let_go()
        evaluation.join(timeout=240)
    assert codes == [0]
    assert live_pages(tmp_path / "noise") == []
