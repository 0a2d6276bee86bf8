"""What each episode leaves behind besides its line in the ledger."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_client.evaluation.action_log import ActionLogError, load_action_log
from sim_client.evaluation.video import VideoWriter, side_by_side
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import Outcome

Script = Callable[[Mapping[int, str]], None]


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    return tmp_path / "rollouts"


def files_of(rollouts: Path, index: int) -> Path:
    (folder,) = rollouts.glob(
        f"hold/PickAndPlaceBox/rollouts/*/pick_and_place_box/demonstration_{index}"
    )
    return folder


def frames_of(video: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    while (read := capture.read())[0]:
        yield read[1]


def test_every_episode_has_an_action_log_and_nothing_more(
    served: Any, evaluate: Any, rollouts: Path
) -> None:
    def change_answer(step: Any, action: Any) -> None:
        action.pose_status[0].pose.translation[2] = 0.01 * step.number

    served.change_answer = change_answer
    assert evaluate("7:9") == 0
    folder = files_of(rollouts, 7)
    assert {path.name for path in folder.iterdir()} == {"actions.npz"}
    log = load_action_log(folder / "actions.npz")
    assert (log.task, log.scenario_index, log.seed) == ("PickAndPlaceBox", 7, 100_000_107)
    assert log.instruction == "PickAndPlaceBox, phrasing 0"
    assert log.times_s == pytest.approx([0.0, 0.1, 0.2, 0.3])
    # Both arms' poses, right before left, then both widths.
    assert log.actions.shape == (4, 20)
    assert log.actions[:, 2] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert log.actions[0, 3:9] == pytest.approx([1, 0, 0, 0, 1, 0])
    assert log.measured[:, 18:] == pytest.approx(np.full((4, 2), 0.08))
    assert '"time_limits_s": {"PickAndPlaceBox": 1.0}' in log.protocol_json
    record = next(r for r in read_ledger(rollouts / "hold" / "ledger.jsonl"))
    assert len(log.state_digests) == 5
    assert log.state_digests[-1].tobytes().hex() == record.state_digest
    assert len(np.unique(log.state_digests, axis=0)) == 5


def test_a_video_shows_every_step_also_of_cameras_that_the_policy_is_not_shown(
    served: Any, evaluate: Any, rollouts: Path
) -> None:
    assert evaluate("7:8", video=("scene_left_0", "scene_right_0")) == 0
    frames = list(frames_of(files_of(rollouts, 7) / "cameras.mp4"))
    assert [frame[1].mean() for frame in frames] == pytest.approx([0, 40, 80, 120], abs=12)
    # 320x240, and the policy's 12x8 scaled to the same height.
    assert frames[0].shape == (240, 320 + 360, 3)
    with pytest.raises(StopIteration):
        next(frames_of(files_of(rollouts, 7) / "actions.npz"))


def test_a_camera_that_is_none_cannot_be_filmed(
    served: Any, evaluate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("0:1", video=("scene_right_O",)) == 2
    assert "--video: the station has no camera 'scene_right_O'" in capsys.readouterr().err


def test_states_are_kept_on_request(served: Any, evaluate: Any, rollouts: Path) -> None:
    assert evaluate("7:8", save_states=True) == 0
    with np.load(files_of(rollouts, 7) / "states.npz", allow_pickle=False) as states:
        assert states["state_times_s"] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
        assert states["positions"].shape == (5, 21)
        assert list(states["velocities"][:, 0]) == [0, 1, 2, 3, 4]


def test_a_simulation_that_breaks_leaves_its_seed_and_its_last_state(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({1: "always raise"})
    assert evaluate("0:2", max_attempts=1) == 1
    with np.load(files_of(rollouts, 1) / "error.npz", allow_pickle=False) as broken:
        assert int(broken["seed"]) == 100_000_101
        assert "the physics of scenario 1 diverged" in str(broken["message"])
        # Two actions were asked for; the state is the one before the second.
        assert broken["actions"].shape == (2, 20)
        assert broken["velocities"].tolist() == [[1.0, 0.0]]
        assert broken["state_times_s"] == pytest.approx([0.1])
    assert not (files_of(rollouts, 1) / "actions.npz").exists()


def test_a_full_disk_is_an_error_and_the_episode_runs_again(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({1: "fill the disk"})
    assert evaluate("0:3") == 0
    first, second = [
        record
        for record in read_ledger(rollouts / "hold" / "ledger.jsonl")
        if record.scenario_index == 1
    ]
    assert first.outcome is Outcome.ERROR
    assert os.strerror(errno.EFBIG) in (first.message or "")
    assert second.outcome is Outcome.SUCCESS
    folder = files_of(rollouts, 1)
    assert {path.name for path in folder.iterdir()} == {"actions.npz"}
    assert len(load_action_log(folder / "actions.npz").actions) == 4


def test_an_attempt_begins_without_what_an_earlier_one_left(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({0: "always raise"})
    assert evaluate("0:1", video=("scene_right_0",), max_attempts=1) == 1
    folder = files_of(rollouts, 0)
    assert len(list(frames_of(folder / "cameras.mp4"))) == 2
    (folder / ".actions.npz.x1y2.part").write_bytes(b"of a process that was killed")
    script({})
    assert evaluate("0:1") == 0
    assert {path.name for path in folder.iterdir()} == {"actions.npz", "error.npz"}


def test_a_disk_that_fills_while_filming_is_an_error(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({0: "fill the disk"})
    assert evaluate("0:1", video=("scene_right_0",)) == 0
    first, second = read_ledger(rollouts / "hold" / "ledger.jsonl")
    assert first.outcome is Outcome.ERROR
    assert os.strerror(errno.EFBIG) in (first.message or "")
    assert second.outcome is Outcome.SUCCESS
    assert len(list(frames_of(files_of(rollouts, 0) / "cameras.mp4"))) == 4


def test_a_video_that_was_cut_off_plays_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "cut_off.mp4"
    writer = VideoWriter(path, frame_rate_hz=10.0)
    for brightness in range(0, 200, 20):
        writer.write(np.full((48, 64, 3), brightness, dtype=np.uint8))
    # As a process leaves it that is killed now.
    played = [frame.mean() for frame in frames_of(path)]
    assert len(played) >= 9
    assert played == pytest.approx(list(range(0, 20 * len(played), 20)), abs=6)
    writer.close()
    assert len(list(frames_of(path))) == 10


@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
)
def test_images_of_any_sizes_make_a_frame_with_even_sides(sizes: list[tuple[int, int]]) -> None:
    frame = side_by_side([np.zeros((*size, 3), np.uint8) for size in sizes])
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    assert frame.shape[0] >= max(height for height, _ in sizes)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_action_log_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "actions.npz"
    path.write_bytes(content)
    with pytest.raises(ActionLogError, match=f"{path}: no action log"):
        load_action_log(path)
    with pytest.raises(ActionLogError, match="No such file"):
        load_action_log(tmp_path / "missing.npz")


def test_a_log_with_a_row_missing_is_refused(served: Any, evaluate: Any, rollouts: Path) -> None:
    assert evaluate("0:1") == 0
    path = files_of(rollouts, 0) / "actions.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["actions"] = arrays["actions"][:-1]
    np.savez(path, **arrays)
    with pytest.raises(ActionLogError, match=r"actions: expected \(4, 20\) numbers, got \(3, 20\)"):
        load_action_log(path)
