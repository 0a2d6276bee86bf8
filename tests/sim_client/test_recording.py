"""Recording demonstrations through the verb's function, in real worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from policy_interface.contract import ImageSize
from policy_interface.demonstration import list_demonstrations, load_demonstration
from sim_client import recording
from sim_client.experts.expert import CommandNoise
from sim_client.recording import RecordingConfig, record_demonstrations
from sim_client.roll_in_options import RollIn
from sim_client.tasks.catalog import get_task

SIM_CLIENT = str(Path(sys.executable).with_name("sim-client"))
POLICY_SERVER = str(Path(sys.executable).with_name("policy-server"))
OPTIONS = ["--cameras", "scene_right_0", "--image-size", "32x24"]


def config_for(folder: Path, **changes: object) -> RecordingConfig:
    fields = {
        "task": "PickAndPlaceBox",
        "num": 2,
        "output": folder,
        "workers": 1,
        "cameras": ("scene_right_0",),
        "image_size": ImageSize(height=24, width=32),
    }
    return RecordingConfig(**(fields | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations")
    assert record_demonstrations(config_for(folder)) == 0
    return folder


def test_what_is_recorded(recorded: Path) -> None:
    paths = list_demonstrations(recorded)
    assert [path.name for path in paths] == ["episode_000000.npz", "episode_000001.npz"]
    task = get_task("PickAndPlaceBox")
    for index, path in enumerate(paths):
        demonstration = load_demonstration(path)
        assert demonstration.task == "PickAndPlaceBox"
        assert demonstration.instruction in task.instructions
        assert demonstration.scenario_index == index
        assert demonstration.seed == index + 100
        assert demonstration.success
        assert demonstration.teacher == "scripted expert"
        assert "drake" in demonstration.provenance["simulator"]
        np.testing.assert_allclose(np.diff(demonstration.time_s), 0.1)
        assert 20 < demonstration.num_steps < 100
        rgb = demonstration.cameras["scene_right_0"].rgb
        assert rgb.shape == (demonstration.num_steps, 24, 32, 3)
        assert rgb.std() > 10
        # Noise is executed, not recorded: an intended step is short, and the next command that
        # was executed (`desired`) differs from it in some places.
        intended = demonstration.action.poses["right::panda"][:-1, :3, 3]
        executed = demonstration.desired.poses["right::panda"][1:, :3, 3]
        offset = np.linalg.norm(intended - executed, axis=1)
        assert offset.max() > 0.003
        assert np.median(offset) < 1e-9
    description = json.loads((recorded / "dataset.json").read_text())
    assert description["task"] == "PickAndPlaceBox"
    assert description["unsuccessful"] == {}


def test_goes_on_where_it_was(recorded: Path, tmp_path: Path) -> None:
    """What is whole is kept, byte for byte; what is cut is recorded again, the same."""
    folder = tmp_path / "partial"
    folder.mkdir()
    whole, lost = list_demonstrations(recorded)
    (folder / whole.name).write_bytes(whole.read_bytes()[:-1000])
    (folder / lost.name).write_bytes(lost.read_bytes())
    kept = (folder / lost.name).stat().st_mtime_ns
    assert record_demonstrations(config_for(folder)) == 0
    assert (folder / lost.name).stat().st_mtime_ns == kept
    again, before = load_demonstration(folder / whole.name), load_demonstration(whole)
    np.testing.assert_array_equal(
        again.cameras["scene_right_0"].rgb, before.cameras["scene_right_0"].rgb
    )
    np.testing.assert_array_equal(
        again.action.poses["right::panda"], before.action.poses["right::panda"]
    )


def test_a_full_folder_takes_no_worker(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "start_worker", lambda *_, **__: pytest.fail("a worker"))
    assert record_demonstrations(config_for(recorded)) == 0
    assert "2 demonstrations of PickAndPlaceBox" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": CommandNoise(position_m=0.0)},
        {"cameras": ("scene_left_0",)},
        {"task": "PutMugOnSaucer"},
    ],
)
def test_other_options_are_refused(
    recorded: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    assert record_demonstrations(config_for(recorded, **changes)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "choose another folder" in line


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"task": "PickAndPlaceBoks"}, "Did you mean 'PickAndPlaceBox'"),
        ({"output": Path("/proc/demonstrations")}, "not a writable folder"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], hint: str
) -> None:
    assert record_demonstrations(config_for(tmp_path / "new", **changes)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line


@pytest.fixture
def waving() -> Iterator[str]:
    """The address of a policy that moves the arms about."""
    process = subprocess.Popen(
        [POLICY_SERVER, "serve", "wave", "--address", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
    assert address is not None
    yield address[0]
    process.terminate()
    process.wait()


def test_a_policy_acts_before_the_expert(
    waving: str, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roll_in = RollIn(address=waving, max_s=3.0)
    for name in ("once", "again"):
        config = config_for(tmp_path / name, num=1, first=7, roll_in=roll_in)
        assert record_demonstrations(config) == 0
    once, again = (
        load_demonstration(tmp_path / name / "episode_000007.npz") for name in ("once", "again")
    )
    num_steps = round(once.time_s[0] * 10)
    assert 1 <= num_steps <= 30
    assert once.provenance["roll_in"] == f"{num_steps} control steps of wave"
    # The left arm, which the expert leaves alone, is where the policy has brought it.
    at_rest = load_demonstration(list_demonstrations(recorded)[0])
    moved = once.desired.poses["left::panda"][0] - at_rest.desired.poses["left::panda"][0]
    assert np.abs(moved).max() > 0.01
    np.testing.assert_array_equal(
        once.action.poses["right::panda"], again.action.poses["right::panda"]
    )
    capsys.readouterr()
    # What an expert alone shows is another data set, and so is what follows another policy.
    assert record_demonstrations(config_for(tmp_path / "once", num=1)) == 2
    assert "roll_in" in capsys.readouterr().err


def test_a_policy_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roll_in = RollIn(address="127.0.0.1:1", wait_s=0.2)
    assert record_demonstrations(config_for(tmp_path / "new", roll_in=roll_in)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sim-client demos: --roll-in.address: ")


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    for changes in (
        {"num": 0},
        {"workers": 0},
        {"first": -1},
        {"cameras": ("scene_top",)},
        {"cameras": ()},
    ):
        with pytest.raises(ValueError, match="expected"):
            config_for(tmp_path, **changes)


def test_survives_a_killed_worker_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    """One run: its worker is killed, another goes on; then Ctrl-C; nothing half-written stays."""
    folder = tmp_path / "demonstrations"
    process = subprocess.Popen(
        [SIM_CLIENT, "demos", "--num", "20", "--workers", "1", "--output", str(folder), *OPTIONS],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("2 of 20"):
            for child in psutil.Process(process.pid).children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.send_signal(signal.SIGKILL)
        if line.startswith("4 of 20"):
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    text = "".join(lines)
    assert "ended with SIGKILL; it is recorded again" in text
    assert "run the same command to go on" in text
    assert "Traceback" not in text
    recorded = list_demonstrations(folder)
    assert len(recorded) >= 4
    for path in recorded:
        load_demonstration(path)
    assert list(folder.glob(".*.partial")) == []
