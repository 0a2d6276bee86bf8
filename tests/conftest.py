"""Observations and actions that the tests of several packages need."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from policy_interface.contract import LEFT_ARM, LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER, ImageSize
from policy_interface.types import CameraView, Observation, Pose, RobotState

# The same examples in every run, and no example fails because the machine is busy.
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")

_SLOW_TIMEOUT_S = 900
_END_TIMEOUT_S = 300.0
_SESSION_TIMEOUT_S = 2400.0

MakeObservation = Callable[..., Observation]


def pytest_configure() -> None:
    """Let Ctrl-C reach what is tested, also where the tests were started with it ignored.

    A shell starts so what it runs in the background, and children inherit it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests may take longer before they count as hung."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_TIMEOUT_S))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Interrupt what takes far too long, whatever hangs: then pytest tells what has failed so far.

    A run that is ended from outside tells nothing.
    """
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and not session.config.getoption("usepdb"):
        timer = threading.Timer(_SESSION_TIMEOUT_S, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Give the rest of a failed test, such as the ends of its fixtures, a limit of its own.

    pytest-timeout and pytest's faulthandler both stop their clocks at a failure, for a debugger.
    """
    if isinstance(node, pytest.Item) and not node.config.getoption("usepdb"):
        limit_s = min(_END_TIMEOUT_S, float(node.config.getini("faulthandler_timeout")))
        # Past the capturing; pytest stops this clock when the test is over.
        faulthandler.dump_traceback_later(
            limit_s, exit=True, file=node.config.stash[fault_handler_stderr_fd_key]
        )


def _pose(generator: np.random.Generator) -> Pose:
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    return Pose(rotation=rotation, translation_m=generator.uniform(-0.5, 0.5, size=3))


def _state(generator: np.random.Generator) -> RobotState:
    return RobotState(
        poses={arm: _pose(generator) for arm in (RIGHT_ARM, LEFT_ARM)},
        gripper_widths_m={
            gripper: float(generator.uniform(0, 0.08)) for gripper in (RIGHT_GRIPPER, LEFT_GRIPPER)
        },
        joint_positions_rad={
            arm: generator.uniform(-1, 1, size=7) for arm in (RIGHT_ARM, LEFT_ARM)
        },
    )


@pytest.fixture(scope="session")
def make_observation() -> MakeObservation:
    """A two-armed observation with random poses and pixels: make(seed, cameras, instruction)."""

    def make(
        seed: int = 0,
        cameras: dict[str, ImageSize] | None = None,
        instruction: str | None = None,
        time_s: float | None = 0.0,
    ) -> Observation:
        generator = np.random.default_rng(seed)
        if cameras is None:
            cameras = {"scene_right_0": ImageSize(height=8, width=12)}
        return Observation(
            actual=_state(generator),
            desired=_state(generator),
            cameras={
                name: CameraView(
                    rgb=generator.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8),
                    intrinsics=np.array([[50.0, 0, 6], [0, 50, 4], [0, 0, 1]]),
                    X_TC=_pose(generator),
                )
                for name, size in cameras.items()
            },
            language_instruction=instruction,
            time_s=time_s,
        )

    return make
