"""What a machine without GL gets: one line with the cure, where Drake would end with a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim_client.station.headless_gl import INSTALL_LINE, require_rendering

SIM_CLIENT = str(Path(sys.executable).with_name("sim-client"))

# Hides the vendor's library, or Mesa's driver, as on a machine where that package is missing.
WITHOUT_VENDOR = {"__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
WITHOUT_DRIVER = {"LIBGL_DRIVERS_PATH": "/nonexistent", "EGL_LOG_LEVEL": "fatal"}


def test_this_machine_renders() -> None:
    require_rendering()


@pytest.mark.parametrize("hidden", [WITHOUT_VENDOR, WITHOUT_DRIVER], ids=["vendor", "driver"])
def test_demos_without_gl_is_one_line(tmp_path: Path, hidden: dict[str, str]) -> None:
    done = subprocess.run(
        [SIM_CLIENT, "demos", "--num", "1", "--output", str(tmp_path / "demonstrations")],
        env=os.environ | hidden,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "cannot render cameras" in line
    assert INSTALL_LINE in line


def test_a_missing_library_is_named() -> None:
    code = (
        "import ctypes; real = ctypes.CDLL\n"
        "def without_egl(name, *rest):\n"
        "    if name == 'libEGL.so.1': raise OSError(name)\n"
        "    return real(name, *rest)\n"
        "ctypes.CDLL = without_egl\n"
        "from sim_client.station.headless_gl import require_rendering\n"
        "require_rendering()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RenderingUnavailableError: cannot render cameras: libEGL.so.1 is missing" in done.stderr
    assert INSTALL_LINE in done.stderr


def test_a_station_without_cameras_needs_no_gl() -> None:
    code = (
        "from sim_client.station.station import Station\n"
        "from sim_client.tasks.catalog import get_task\n"
        "station = Station(get_task('PickAndPlaceBox'), cameras={})\n"
        "station.reset(100)\n"
        "print(sorted(station.observe().cameras))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | WITHOUT_VENDOR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr
