"""The same seed and the same actions give the same bits: states and images, wherever they run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from policy_interface.contract import RIGHT_ARM, RIGHT_GRIPPER, ImageSize
from policy_interface.types import Action, Pose
from sim_client.station.arm_controller import tool_down
from sim_client.station.shift import Shift
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task

SIZE = ImageSize(height=48, width=48)
CAMERAS = {"scene_right_0": SIZE, "wrist_left_plus": SIZE}
TASK = "PutMugOnSaucer"


def made(shift: str = "") -> Station:
    return Station(get_task(TASK), cameras=CAMERAS, latency_s=0.06, shift=Shift.parse(shift))


def digests(station: Station, seed: int, *, num_steps: int = 6) -> list[str]:
    """Of the state and of every image, at the start and after each of some lively steps."""
    rng = np.random.default_rng(seed)
    station.reset(seed)
    found = []
    for _ in range(num_steps + 1):
        pixels = hashlib.sha256()
        for view in station.observe().cameras.values():
            pixels.update(view.rgb.tobytes())
        found += [station.state_digest(), pixels.hexdigest()]
        desired = station.desired()
        X_TE = tool_down(rng.uniform([-0.2, -0.4, 0.0], [0.1, 0.0, 0.3]), rng.uniform(-0.5, 0.5))
        poses = {**desired.poses, RIGHT_ARM: Pose.from_matrix(X_TE)}
        widths = {**desired.gripper_widths_m, RIGHT_GRIPPER: rng.uniform(0.0, 0.08)}
        station.step(Action(poses=poses, gripper_widths_m=widths))
    return found


@pytest.mark.parametrize("shift", [pytest.param("", marks=pytest.mark.slow), "unseen-all"])
def test_two_stations_and_episodes_in_between(shift: str) -> None:
    fresh, used = made(shift), made(shift)
    expected = digests(fresh, 42)
    for seed in (7, 43):
        digests(used, seed, num_steps=2)
    assert digests(used, 42) == expected
    assert digests(fresh, 42) == expected
    assert digests(fresh, 43) != expected


def test_another_process() -> None:
    program = (
        "import json, runpy, sys; "
        "module = runpy.run_path(sys.argv[1]); "
        "print(json.dumps(module['digests'](module['made'](), 42)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, __file__], check=True, capture_output=True, text=True
    ).stdout
    assert json.loads(output) == digests(made(), 42)
