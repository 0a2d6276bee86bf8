"""The station as a gymnasium environment.

    import gymnasium
    from sim_client.environment import register_environments

    register_environments()
    environment = gymnasium.make("sim_client/PickAndPlaceBox-v0")
    observation, info = environment.reset(seed=100)

`reset(seed=s)` begins the scenario that `s` stands for, the same as `Station.reset(s)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from policy_interface.contract import ImageSize
from policy_interface.types import Observation
from sim_client.action_vector import ARMS, action_from_vector, action_to_vector
from sim_client.station.cameras import DEFAULT_CAMERAS
from sim_client.station.panda_kinematics import MAX_GRIPPER_WIDTH_M
from sim_client.station.station import CONTROL_PERIOD_S, Station
from sim_client.tasks.catalog import TASKS, get_task

_REACH_M = 1.0
"""Beyond the workspace of both arms: positions in actions are within this of the task frame."""

ObservationDict = dict[str, Any]


class StationEnvironment(gymnasium.Env[ObservationDict, NDArray[np.float64]]):
    """One task of the station. Reward is 1 at success and 0 before; success ends the episode.

    Observations: `cameras`, an RGB image by name; `actual` and `desired`, 20 numbers laid out as
    an action; `joint_positions`, 14 (right then left, rad). The instruction is in `info`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (gymnasium declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": round(1.0 / CONTROL_PERIOD_S),
    }

    def __init__(
        self,
        *,
        task: str,
        cameras: Mapping[str, ImageSize] = DEFAULT_CAMERAS,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        if render_mode is not None and not cameras:
            raise ValueError("render_mode 'rgb_array' needs a camera: the station has none")
        self.render_mode = render_mode
        self._station = Station(get_task(task), cameras=cameras)
        self._observation: Observation | None = None
        box = gymnasium.spaces.Box
        low = np.concatenate([np.full(3, -_REACH_M), np.full(6, -1.0)])
        high = np.concatenate([np.full(3, _REACH_M), np.full(6, 1.0)])
        self.action_space = box(
            low=np.concatenate([low, low, np.zeros(2)]),
            high=np.concatenate([high, high, np.full(2, MAX_GRIPPER_WIDTH_M)]),
            dtype=np.float64,
        )
        # Measured values may be a little outside of what can be asked for.
        state = box(
            low=np.concatenate([2.0 * low, 2.0 * low, np.full(2, -0.1)]),
            high=np.concatenate([2.0 * high, 2.0 * high, np.full(2, 0.2)]),
            dtype=np.float64,
        )
        self.observation_space = gymnasium.spaces.Dict(
            {
                "cameras": gymnasium.spaces.Dict(
                    {
                        name: box(0, 255, (size.height, size.width, 3), np.uint8)
                        for name, size in cameras.items()
                    }
                ),
                "actual": state,
                "desired": state,
                "joint_positions": box(low=-np.pi, high=2.0 * np.pi, shape=(14,), dtype=np.float64),
            }
        )

    @property
    def station(self) -> Station:
        """For scripted experts, which see the true state."""
        return self._station

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObservationDict, dict[str, Any]]:
        super().reset(seed=seed)
        scenario_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._station.reset(scenario_seed)
        return self._observe(), self._info(scenario_seed=scenario_seed)

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[ObservationDict, SupportsFloat, bool, bool, dict[str, Any]]:
        status = self._station.step(action_from_vector(action))
        terminated = status.success or status.failed
        truncated = not terminated and self._station.time_s >= self._station.task.time_limit_s
        reward = 1.0 if status.success else 0.0
        return self._observe(), reward, terminated, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the first camera last saw, (H, W, 3)."""
        if self.render_mode is None or self._observation is None:
            return None
        return next(iter(self._observation.cameras.values())).rgb

    def _observe(self) -> ObservationDict:
        observation = self._observation = self._station.observe()
        joints = observation.actual.joint_positions_rad
        return {
            "cameras": {name: view.rgb for name, view in observation.cameras.items()},
            "actual": action_to_vector(observation.actual),
            "desired": action_to_vector(observation.desired),
            "joint_positions": np.concatenate([joints[arm] for arm in ARMS]),
        }

    def _info(self, **more: int) -> dict[str, Any]:
        status = self._station.status()
        return {
            "instruction": self._station.task.instruction,
            "success": status.success,
            "predicates": dict(status.predicates),
            **more,
        }


def register_environments() -> None:
    """Make `gymnasium.make("sim_client/<Task>-v0")` work for every task; again is harmless."""
    for name in TASKS:
        environment_id = f"sim_client/{name}-v0"
        if environment_id not in gymnasium.registry:
            gymnasium.register(
                id=environment_id,
                entry_point="sim_client.environment:StationEnvironment",
                kwargs={"task": name},
            )
