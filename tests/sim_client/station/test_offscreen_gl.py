"""Where the station's own renderer has no OpenGL to draw with, and what draws then."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from policy_interface.contract import ImageSize
from sim_client.station import offscreen_gl
from sim_client.station.headless_gl import INSTALL_LINE, RenderingUnavailableError
from sim_client.station.looks import Renderer
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task


def seen(renderer: Renderer | None) -> npt.NDArray[np.uint8]:
    size = ImageSize(height=48, width=64)
    station = Station(
        get_task("PickAndPlaceBox"), cameras={"scene_left_0": size}, renderer=renderer
    )
    station.reset(100)
    return station.observe().cameras["scene_left_0"].rgb


def test_vtk_draws_where_no_driver_has_a_surfaceless_display(monkeypatch) -> None:
    """As on a machine with a graphics card's driver and without Mesa."""
    monkeypatch.setattr(offscreen_gl, "_PLATFORM_SURFACELESS_MESA", 0)
    monkeypatch.setattr(offscreen_gl, "_egl", cache(offscreen_gl._egl.__wrapped__))
    np.testing.assert_array_equal(seen(None), seen("vtk"))
    with pytest.raises(RenderingUnavailableError, match="use renderer 'vtk'") as refusal:
        seen("own")
    assert INSTALL_LINE in str(refusal.value)


# Python forks by default on Linux before 3.14, and so does gymnasium's AsyncVectorEnv.
_FORKS = """
import os, signal
from policy_interface.contract import ImageSize
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task

def looking():
    size = ImageSize(height=48, width=64)
    station = Station(get_task("PickAndPlaceBox"), cameras={"scene_left_0": size})
    station.reset(100)
    station.observe()
    return station

station = looking()
for look in (looking, station.observe):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # Ends what would wait for its parent's threads for ever.
        try:
            look()
            print("drawn", flush=True)
        except RenderingUnavailableError as error:
            print(error, flush=True)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
station.observe()
"""


def test_a_forked_process_never_waits_for_its_parents_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    by_default, by_the_parents_station = done.stdout.splitlines()
    assert by_default == "drawn"
    assert "start it by 'spawn'" in by_the_parents_station
