"""The station as a gymnasium environment.

    import gymnasium
    from sim_client.environment import register_environments

    register_environments()
    environment = gymnasium.make("sim_client/PickAndPlaceBox-v0")
    observation, info = environment.reset(seed=100)

`reset(seed=s)` begins the scenario that `s` stands for, the same as `Station.reset(s)`. Without a
seed the scenario is a random one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, SupportsFloat, get_args

import gymnasium
import numpy as np
from numpy.typing import NDArray

from policy_interface.contract import ImageSize
from policy_interface.types import Observation
from sim_client.action_vector import ARMS, GRIPPERS, action_from_vector, action_to_vector
from sim_client.station import panda_kinematics as panda
from sim_client.station.cameras import DEFAULT_CAMERAS
from sim_client.station.station import CONTROL_PERIOD_S, JointAction, Station
from sim_client.tasks.catalog import TASKS, get_task

_REACH_M = 1.0
"""Beyond the workspace of both arms: positions in actions are within this of the task frame."""

ObservationDict = dict[str, Any]
ActionSpace = Literal["end_effector_poses", "joint_positions"]


class StationEnvironment(gymnasium.Env[ObservationDict, NDArray[np.float64]]):
    """One task of the station. Reward is 1 at success and 0 before; success ends the episode.

    Observations: `cameras`, an RGB image by name, where it has any; `actual` and `desired`, 20
    numbers laid out as in `action_vector`; `joint_positions`, 14 (right then left, rad). The
    instruction is in `info`.

    Actions: 20 such numbers; or with action_space "joint_positions" 16, the right arm's 7 joint
    angles (rad), the left's, and the two gripper widths (m). station_options: more of `Station`'s
    own arguments, such as `shift` and `latency_s`.
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
        action_space: ActionSpace = "end_effector_poses",
        render_mode: str | None = None,
        **station_options: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        if render_mode is not None and not cameras:
            raise ValueError("render_mode 'rgb_array' needs a camera: the station has none")
        if action_space not in get_args(ActionSpace):
            raise ValueError(
                f"action_space: expected one of {list(get_args(ActionSpace))}, got {action_space!r}"
            )
        self.render_mode = render_mode
        self._station = Station(get_task(task), cameras=cameras, **station_options)
        self._observation: Observation | None = None
        self._acts_on_joints = action_space == "joint_positions"
        self.action_space = _joint_space() if self._acts_on_joints else _pose_space()
        self.observation_space = _observation_space(cameras)

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
        decode = joint_action_from_vector if self._acts_on_joints else action_from_vector
        status = self._station.step(decode(action))
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
        values: ObservationDict = {
            "actual": action_to_vector(observation.actual),
            "desired": action_to_vector(observation.desired),
            "joint_positions": np.concatenate([joints[arm] for arm in ARMS]),
        }
        if observation.cameras:
            values["cameras"] = {name: view.rgb for name, view in observation.cameras.items()}
        return values

    def _info(self, **more: int) -> dict[str, Any]:
        status = self._station.status()
        return {
            "instruction": self._station.instruction,
            "success": status.success,
            "progress": status.progress,
            "predicates": dict(status.predicates),
            **more,
        }


def joint_action_from_vector(vector: NDArray[np.floating]) -> JointAction:
    """From [right 7 | left 7 | right width | left width], rad and m.

    Raises ValueError for another number of them, InvalidValueError where one is not finite.
    """
    numbers = np.asarray(vector, dtype=np.float64)
    size = len(ARMS) * panda.NUM_JOINTS + len(GRIPPERS)
    if numbers.shape != (size,):
        raise ValueError(f"joint action: expected {size} numbers, got shape {numbers.shape}")
    angles, widths = np.split(numbers, [len(ARMS) * panda.NUM_JOINTS])
    by_arm = np.split(angles, len(ARMS))
    return JointAction(
        joint_positions_rad=dict(zip(ARMS, by_arm, strict=True)),
        gripper_widths_m=dict(zip(GRIPPERS, widths.tolist(), strict=True)),
    )


def _pose_bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of one arm's 9 numbers."""
    high = np.concatenate([np.full(3, _REACH_M), np.full(6, 1.0)])
    return -high, high


def _pose_space() -> Any:
    low, high = _pose_bounds()
    return gymnasium.spaces.Box(
        low=np.concatenate([low, low, np.zeros(2)]),
        high=np.concatenate([high, high, np.full(2, panda.MAX_GRIPPER_WIDTH_M)]),
        dtype=np.float64,
    )


def _joint_space() -> Any:
    return gymnasium.spaces.Box(
        low=np.concatenate([panda.LOWER_RAD, panda.LOWER_RAD, np.zeros(2)]),
        high=np.concatenate(
            [panda.UPPER_RAD, panda.UPPER_RAD, np.full(2, panda.MAX_GRIPPER_WIDTH_M)]
        ),
        dtype=np.float64,
    )


def _observation_space(cameras: Mapping[str, ImageSize]) -> gymnasium.spaces.Dict:
    box = gymnasium.spaces.Box
    low, high = _pose_bounds()
    # Measured values may be a little outside of what can be asked for.
    state = box(
        low=np.concatenate([2.0 * low, 2.0 * low, np.full(2, -0.1)]),
        high=np.concatenate([2.0 * high, 2.0 * high, np.full(2, 0.2)]),
        dtype=np.float64,
    )
    spaces: dict[str, Any] = {
        "actual": state,
        "desired": state,
        "joint_positions": box(low=-np.pi, high=2.0 * np.pi, shape=(14,), dtype=np.float64),
    }
    if cameras:
        # gymnasium allows no empty dictionary.
        images: dict[str, Any] = {
            name: box(0, 255, (size.height, size.width, 3), np.uint8)
            for name, size in cameras.items()
        }
        spaces["cameras"] = gymnasium.spaces.Dict(images)
    return gymnasium.spaces.Dict(spaces)


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
