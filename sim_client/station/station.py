"""The two-arm station: a simulated robot cell that takes actions and gives observations.

One control step is 0.1 s. Simulation time stands still between steps, so nothing depends on how
long a policy thinks; latency is simulated where it is asked for. World and task frame T coincide:
z up, x forward from the arms, y to their left, origin at the centre of the arms' workspace on the
table's surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ContractError, ImageSize
from policy_interface.types import Observation, RobotState
from sim_client.station import offscreen_gl
from sim_client.station.arm_controller import sample_start
from sim_client.station.arm_models import ArmModelName, make_arm_model
from sim_client.station.camera_rig import CameraRig, RigOptions
from sim_client.station.cameras import (
    CAMERA_MOUNTS,
    DEFAULT_CAMERAS,
    POLICY_QUALITY,
    CameraMount,
    RenderQuality,
)
from sim_client.station.commands import (
    ARM_NAMES,
    CONTROL_PERIOD_S,
    GRIPPER_NAMES,
    TIME_STEPS_PER_CONTROL_STEP,
    CommandQueue,
    JointAction,
    StationAction,
    Tick,
    latency_time_steps,
    require_all_commands,
)
from sim_client.station.distractors import NoRoomError, place_distractors
from sim_client.station.headless_gl import require_rendering
from sim_client.station.looks import Renderer
from sim_client.station.panda_kinematics import Array
from sim_client.station.shift import Shift
from sim_client.station.shift_draws import EpisodeShift, draw_episode
from sim_client.station.workspace import SIDES, TIME_STEP_S
from sim_client.station.world import SimulationError, World
from sim_client.tasks.monitor import TaskMonitor, TaskStatus
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState
from sim_client.tasks.task import Task

__all__ = [
    "ARM_NAMES",
    "CONTROL_PERIOD_S",
    "GRIPPER_NAMES",
    "JointAction",
    "NoSceneError",
    "SimulationError",
    "Station",
]

_SETTLE_S = 0.2
"""Simulated before time 0, so that objects rest on the table when an episode begins."""
_MAX_SCENE_ATTEMPTS = 50
_MAX_SETTLING_M = 0.02
"""An object that moves farther than this while it settles was not placed validly."""
_MAX_SETTLED_SPEED_M_S = 0.1


class NoSceneError(RuntimeError):
    """No scene of a seed is both undecided and at rest: the task's declaration is at fault."""


class Station:
    """One task's scene with two arms. Not to be shared between threads.

    cameras: the size of each camera's image, by semantic name; none makes a station without
    rendering, which needs no GL libraries. depth, labels: whether views have these images too.
    renderer: "own" draws the project's own arms without shadows, several times as fast as Drake's
    "vtk" and to the eye the same; "gl" is Drake's, which needs an X display. By default "own" where
    it can, else "vtk".
    arm_model: "drake_models" is Drake's own Panda, from drake_models_folder where one is named.
    latency_s: in simulated time, a multiple of 10 ms: how long after its observation an action
    takes effect; until then the previous command holds.
    shift: how episodes differ from the nominal ones. Where it changes what is in the scene or how
    that looks, each reset builds the scene anew, which takes about as long as a second of physics.

    Raises ContractError for what it does not have, RenderingUnavailableError and
    ArmModelUnavailableError where this machine lacks something.
    """

    def __init__(
        self,
        task: Task,
        *,
        cameras: Mapping[str, ImageSize] = DEFAULT_CAMERAS,
        depth: bool = False,
        labels: bool = False,
        quality: RenderQuality = POLICY_QUALITY,
        renderer: Renderer | None = None,
        arm_model: ArmModelName = "own",
        drake_models_folder: Path | None = None,
        latency_s: float = 0.0,
        shift: Shift | None = None,
    ) -> None:
        unknown = sorted(set(cameras) - set(CAMERA_MOUNTS))
        if unknown:
            raise ContractError(
                f"cameras {unknown} unknown: the station has {sorted(CAMERA_MOUNTS)}"
            )
        self.shift = Shift() if shift is None else shift
        if self.shift.phrasing != "disabled" and not task.held_out_instructions:
            raise ContractError(
                f"phrasing={self.shift.phrasing}: {task.name} has no held-out instructions; "
                "leave phrasing disabled"
            )
        self._latency_time_steps = latency_time_steps(latency_s)
        if cameras:
            require_rendering()
        self.task = task
        self.contract = Contract(cameras=cameras, uses_language=True)
        if renderer is None:
            can_draw = arm_model == "own" and not quality.shadows
            # Without cameras nothing is drawn, and nobody looks for OpenGL.
            is_own = can_draw and bool(cameras) and offscreen_gl.is_available()
            renderer = "own" if is_own else "vtk"
        self._rig_options = RigOptions(
            cameras=cameras, depth=depth, labels=labels, quality=quality, renderer=renderer
        )
        self._arm_model = make_arm_model(arm_model, folder=drake_models_folder)
        self._episode = draw_episode(task, self.shift, 0, cameras=cameras)
        self._build(self._episode)
        self._monitor = TaskMonitor(task, control_period_s=CONTROL_PERIOD_S)
        self._seed = 0
        self._num_steps = 0
        self._status: TaskStatus | None = None

    @property
    def gl_renderer(self) -> str:
        """What draws the cameras, in the words of its driver; empty where nothing is drawn."""
        if not self._rig_options.cameras:
            return ""
        if not offscreen_gl.is_available():
            return f"{self._rig_options.renderer} by a driver that tells no name"
        return f"{self._rig_options.renderer} by {offscreen_gl.driver_name()}"

    def _build(self, episode: EpisodeShift) -> None:
        options = self._rig_options
        self.world = World(episode.scene, quality=options.quality, arm_model=self._arm_model)
        self._queue = CommandQueue(self.world.controllers)
        # Without cameras nothing is rendered, and no GL library is needed.
        self._rig = (
            CameraRig(self.world.scene, self.world.plant_context, options)
            if options.cameras
            else None
        )

    @property
    def instruction(self) -> str:
        """What the policy is told to do in this episode: one of the task's phrasings."""
        return self._episode.instruction

    @property
    def episode_task(self) -> Task:
        """The task with this episode's objects: those of `task` unless the shift changes them."""
        return self._episode.task

    @property
    def time_s(self) -> float:
        """Seconds since the episode began."""
        return self._num_steps * CONTROL_PERIOD_S

    def reset(self, seed: int) -> None:
        """Begin the episode that `seed` stands for: same seed, same scene, bit by bit.

        A scene that is decided before anybody has acted, or that does not come to rest where it was
        placed, is drawn again. Raises NoSceneError where that never ends.
        """
        episode = draw_episode(self.task, self.shift, seed, cameras=self.contract.cameras)
        if episode.scene != self.world.spec:
            self._build(episode)
        if episode.task is not self._episode.task:
            self._monitor = TaskMonitor(episode.task, control_period_s=CONTROL_PERIOD_S)
        self._episode, self._seed, self._num_steps = episode, seed, 0
        task = episode.task
        for attempt in range(_MAX_SCENE_ATTEMPTS):
            if not self._place(attempt):
                continue
            state = self.scene_state()
            status = self._monitor.begin(state)
            if not (task.is_solved(state) or status.failed):
                break
        else:
            raise NoSceneError(
                f"{task.name}: no scene of seed {seed} in {_MAX_SCENE_ATTEMPTS} draws is "
                "at rest and undecided at its start"
            )
        self._status = status
        delay = self._latency_time_steps + episode.delay_steps * TIME_STEPS_PER_CONTROL_STEP
        self._queue.begin(delay_time_steps=delay)

    def _place(self, attempt: int) -> bool:
        """Set everything where it starts, and say whether it came to rest there."""
        episode, seed, world = self._episode, self._seed, self.world
        layout = episode.task.sample_layout(seed, attempt=attempt)
        if episode.distractors:
            try:
                others = place_distractors(
                    episode.distractors, episode.task, layout, seed=seed, attempt=attempt
                )
            except NoRoomError:
                return False
            layout = {**layout, **others}
        starts = {side: sample_start(side, stream(seed, f"start.{side}")) for side in SIDES}
        world.place(layout, starts)
        world.advance(
            Tick(commands=world.commands(), num_time_steps=round(_SETTLE_S / TIME_STEP_S))
        )
        world.forget_falls()
        return world.is_settled(layout, within_m=_MAX_SETTLING_M, speed_m_s=_MAX_SETTLED_SPEED_M_S)

    def step(self, action: StationAction) -> TaskStatus:
        """Advance one control step toward the action, and say how the task stands.

        Poses and joint angles are interpolated over the step; what lies outside the workspace or
        asks for too much speed is followed as far as the limits allow. Raises ContractError where
        an arm or a gripper is left without a command, SimulationError where the physics fails.
        """
        require_all_commands(self.contract, action)
        # Commands do not depend on the simulated state, and all at once they are computed faster.
        for tick in self._queue.control_step(action):
            self.world.advance(tick)
        self._num_steps += 1
        self.world.require_finite()
        self._status = self._monitor.update(self.world.state())
        return self._status

    def status(self) -> TaskStatus:
        """How the task stands. Raises RuntimeError before the first `reset`."""
        if self._status is None:
            raise RuntimeError("the station has no episode yet: reset it first")
        return self._status

    def state_digest(self) -> str:
        """SHA-256 (hex) of every position and velocity: equal exactly where the states are."""
        return self.world.digest()

    def state(self) -> tuple[Array, Array]:
        """Positions and velocities of everything that moves, in Drake's order."""
        return self.world.positions_and_velocities()

    def geometry(self) -> Any:
        """What is where now, as a QueryObject: for drawing."""
        return self.world.geometry()

    def observe(self) -> Observation:
        """Everything a policy may know now; renders the cameras."""
        observation = Observation(
            actual=self.actual(),
            desired=self.desired(),
            cameras={} if self._rig is None else self._rig.views(self._episode.camera_offsets),
            language_instruction=self.instruction,
            time_s=self.time_s,
        )
        if self._episode.noise is None:
            return observation
        # By the control step, so that looking twice shows the same.
        rng = stream(self._seed, "shift.observation_noise", attempt=self._num_steps)
        return self._episode.noise.on(observation, rng)

    def render(self, mount: CameraMount, size: ImageSize) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB from a camera that is not one of the station's own.

        Raises ContractError where the station was made without cameras, and so does not render.
        """
        if self._rig is None:
            raise ContractError("the station renders nothing: make it with a camera")
        return self._rig.picture(mount, size)

    def label_names(self) -> Mapping[int, str]:
        """What a number in a label image stands for, such as "mug" or "right::panda_hand"."""
        return self.world.scene.label_names()

    def scene_state(self) -> SceneState:
        """The true state of the task's objects, for predicates and scripted experts."""
        return self.world.state()

    def actual(self) -> RobotState:
        """What the arms and grippers measure, without the shift's noise."""
        return self.world.actual()

    def desired(self) -> RobotState:
        """What they were last asked for, within the workspace; later than given under latency."""
        return self.world.desired()
