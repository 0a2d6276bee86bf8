"""The two-arm station: a simulated robot cell that takes actions and gives observations.

One control step is 0.1 s. Simulation time stands still between steps, so nothing depends on how
long a policy thinks. World and task frame T coincide: z up, x forward from the arms, y to their
left, origin at the centre of the arms' workspace on the table's surface.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydrake.geometry import ColorRenderCamera
from pydrake.math import RigidTransform
from pydrake.systems.analysis import Simulator

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    Contract,
    ContractError,
    ImageSize,
    action_violations,
)
from policy_interface.types import Action, CameraView, Observation, Pose, RobotState
from sim_client.drake_arrays import drake_array
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import ArmController, sample_start
from sim_client.station.cameras import (
    CAMERA_MOUNTS,
    DEFAULT_CAMERAS,
    POLICY_QUALITY,
    CameraMount,
    RenderQuality,
    render_camera,
)
from sim_client.station.contacts import ContactReader
from sim_client.station.headless_gl import require_rendering
from sim_client.station.scene import build_scene
from sim_client.station.workspace import BASE_POSITIONS_M, SIDES
from sim_client.tasks.monitor import TaskMonitor, TaskStatus
from sim_client.tasks.placement import Layout
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState
from sim_client.tasks.task import Task

CONTROL_PERIOD_S = 0.1
_TICKS_PER_STEP = 5
_TICK_S = CONTROL_PERIOD_S / _TICKS_PER_STEP
_SETTLE_S = 0.2
"""Simulated before time 0, so that objects rest on the table when an episode begins."""
_MAX_SCENE_ATTEMPTS = 50
_MAX_SETTLING_M = 0.02
"""An object that moves farther than this while it settles was not placed validly."""
_MAX_SETTLED_SPEED_M_S = 0.1

ARM_NAMES = {"right": RIGHT_ARM, "left": LEFT_ARM}
GRIPPER_NAMES = {"right": RIGHT_GRIPPER, "left": LEFT_GRIPPER}


class SimulationError(RuntimeError):
    """The physics engine gave up or diverged: no verdict on the policy."""


class NoSceneError(RuntimeError):
    """No scene of a seed is both undecided and at rest: the task's declaration is at fault."""


class Station:
    """One task's scene with two arms. Not to be shared between threads.

    cameras: the size of each camera's image, by semantic name; none makes a station without
    rendering, which needs no GL libraries. Raises RenderingUnavailableError where
    this machine lacks them, ContractError for an unknown camera.
    """

    def __init__(
        self,
        task: Task,
        *,
        cameras: Mapping[str, ImageSize] = DEFAULT_CAMERAS,
        quality: RenderQuality = POLICY_QUALITY,
    ) -> None:
        unknown = sorted(set(cameras) - set(CAMERA_MOUNTS))
        if unknown:
            raise ContractError(
                f"cameras {unknown} unknown: the station has {sorted(CAMERA_MOUNTS)}"
            )
        if cameras:
            require_rendering()
        self.task = task
        self.contract = Contract(cameras=cameras, uses_language=True)
        self._scene = build_scene(task.objects, quality=quality if cameras else None)
        self._render_cameras = {
            name: render_camera(size, CAMERA_MOUNTS[name].vertical_field_of_view_rad)
            for name, size in cameras.items()
        }
        self._simulator = Simulator(self._scene.diagram)
        self._simulator.set_target_realtime_rate(0.0)
        self._root_context = self._simulator.get_mutable_context()
        self._context = self._scene.plant.GetMyMutableContextFromRoot(self._root_context)
        self._graph_context = self._scene.scene_graph.GetMyContextFromRoot(self._root_context)
        self._controllers = {
            side: ArmController(base_position_m=np.array(BASE_POSITIONS_M[side])) for side in SIDES
        }
        self._contacts = ContactReader(self._scene)
        self._free_bodies = {
            name: body
            for name, body in self._scene.bodies.items()
            if name not in self._scene.fixed_frames
        }
        self._monitor = TaskMonitor(task, control_period_s=CONTROL_PERIOD_S)
        self._instruction = task.instruction
        self._fastest_fall_m_s: dict[str, float] = {}
        self._num_ticks = 0
        self._num_steps = 0
        self._status: TaskStatus | None = None

    @property
    def instruction(self) -> str:
        """What the policy is told to do in this episode: one of the task's phrasings."""
        return self._instruction

    @property
    def time_s(self) -> float:
        """Seconds since the episode began."""
        return self._num_steps * CONTROL_PERIOD_S

    def reset(self, seed: int) -> None:
        """Begin the episode that `seed` stands for: same seed, same scene, bit by bit.

        A scene that is decided before anybody has acted, or that does not come to rest where it was
        placed, is drawn again. Raises NoSceneError where that never ends.
        """
        for attempt in range(_MAX_SCENE_ATTEMPTS):
            layout = self.task.sample_layout(seed, attempt=attempt)
            self._place(layout, seed)
            state = self.scene_state()
            if self._is_settled(state, layout):
                status = self._monitor.begin(state)
                if not (self.task.is_solved(state) or status.failed):
                    break
        else:
            raise NoSceneError(
                f"{self.task.name}: no scene of seed {seed} in {_MAX_SCENE_ATTEMPTS} draws is "
                "at rest and undecided at its start"
            )
        self._status = status
        phrasings = self.task.instructions
        self._instruction = phrasings[int(stream(seed, "phrasing").integers(len(phrasings)))]

    def _place(self, layout: Layout, seed: int) -> None:
        """Set everything where it starts, and let it come to rest."""
        plant = self._scene.plant
        self._simulator.get_mutable_context().SetTime(0.0)
        plant.SetDefaultState(self._context, self._context.get_mutable_state())
        for name, X_TO in layout.items():
            pose = RigidTransform(drake_array(X_TO))
            if name in self._scene.fixed_frames:
                self._scene.fixed_frames[name].SetPoseInParentFrame(self._context, pose)
            else:
                plant.SetFreeBodyPose(self._context, self._scene.bodies[name], pose)
        for side, controller in self._controllers.items():
            controller.reset(*sample_start(side, stream(seed, f"start.{side}")))
            arm = self._scene.arms[side]
            plant.SetPositions(self._context, arm.arm, drake_array(controller.q))
            plant.SetPositions(
                self._context, arm.fingers, drake_array(controller.finger_positions())
            )
        self._command()
        self._simulator.Initialize()
        self._num_ticks = 0
        for _ in range(round(_SETTLE_S / _TICK_S)):
            self._advance_tick()
        self._num_steps = 0
        self._fastest_fall_m_s = dict.fromkeys(self._free_bodies, 0.0)

    def _is_settled(self, state: SceneState, layout: Layout) -> bool:
        return not state.arm_contacts and all(
            np.linalg.norm(state.position_m(name) - layout[name][:3, 3]) < _MAX_SETTLING_M
            and state.speed_m_s(name) < _MAX_SETTLED_SPEED_M_S
            for name in self._free_bodies
        )

    def step(self, action: Action) -> TaskStatus:
        """Advance one control step toward the action, and say how the task stands.

        Poses are interpolated over the step; what lies outside the workspace or asks for too much
        speed is followed as far as the limits allow. Raises ContractError where an arm or a gripper
        is left without a command, SimulationError where the physics engine fails.
        """
        missing = action_violations(self.contract, action)
        if missing:
            raise ContractError("; ".join(missing))
        for side, controller in self._controllers.items():
            controller.set_target(
                action.poses[ARM_NAMES[side]].matrix(),
                action.gripper_widths_m[GRIPPER_NAMES[side]],
                num_ticks=_TICKS_PER_STEP,
            )
        for _ in range(_TICKS_PER_STEP):
            for controller in self._controllers.values():
                controller.tick(_TICK_S)
            self._command()
            self._advance_tick()
        self._num_steps += 1
        if not np.isfinite(self._scene.plant.GetPositionsAndVelocities(self._context)).all():
            raise SimulationError(f"the simulated state is not finite at {self.time_s:.1f} s")
        self._status = self._monitor.update(self.scene_state())
        return self._status

    def status(self) -> TaskStatus:
        """How the task stands. Raises RuntimeError before the first `reset`."""
        if self._status is None:
            raise RuntimeError("the station has no episode yet: reset it first")
        return self._status

    def state_digest(self) -> str:
        """SHA-256 (hex) of every position and velocity: equal exactly where the states are."""
        state = self._scene.plant.GetPositionsAndVelocities(self._context)
        return hashlib.sha256(np.ascontiguousarray(state).tobytes()).hexdigest()

    def state(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Positions and velocities of everything that moves, in Drake's order."""
        plant = self._scene.plant
        q: Any = plant.GetPositions(self._context)
        v: Any = plant.GetVelocities(self._context)
        return np.array(q), np.array(v)

    def geometry(self) -> Any:
        """What is where now, as a QueryObject: for drawing."""
        return self._scene.scene_graph.get_query_output_port().Eval(self._graph_context)

    def observe(self) -> Observation:
        """Everything a policy may know now; renders the cameras."""
        return Observation(
            actual=self.actual(),
            desired=self.desired(),
            cameras={
                name: self._view(CAMERA_MOUNTS[name], camera)
                for name, camera in self._render_cameras.items()
            },
            language_instruction=self._instruction,
            time_s=self.time_s,
        )

    def render(self, mount: CameraMount, size: ImageSize) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB from a camera that is not one of the station's own."""
        return self._view(mount, render_camera(size, mount.vertical_field_of_view_rad)).rgb

    def scene_state(self) -> SceneState:
        """The true state of the objects, for predicates and scripted experts."""
        plant = self._scene.plant
        poses = {}
        velocities = {}
        for name, body in self._scene.bodies.items():
            poses[name] = plant.EvalBodyPoseInWorld(self._context, body).GetAsMatrix4()
            velocity = plant.EvalBodySpatialVelocityInWorld(self._context, body)
            velocities[name] = np.concatenate([velocity.rotational(), velocity.translational()])
        contacts = self._contacts.read(self._context)
        return SceneState(
            poses=poses,
            velocities=velocities,
            contacts=contacts.objects,
            finger_contacts=contacts.fingers,
            arm_contacts=contacts.arms,
            fastest_fall_m_s=dict(self._fastest_fall_m_s),
        )

    def _advance_tick(self) -> None:
        self._num_ticks += 1
        try:
            # From the number of ticks, so that rounding errors do not add up.
            self._simulator.AdvanceTo(self._num_ticks * _TICK_S)
        except RuntimeError as error:
            raise SimulationError(f"Drake failed at {self.time_s:.1f} s: {error}") from error
        # Ten times a second would miss what falls a few centimetres.
        plant = self._scene.plant
        for name, body in self._free_bodies.items():
            velocity = plant.EvalBodySpatialVelocityInWorld(self._context, body)
            fall_m_s = -float(velocity.translational()[2])
            if fall_m_s > self._fastest_fall_m_s.get(name, 0.0):
                self._fastest_fall_m_s[name] = fall_m_s

    def _command(self) -> None:
        plant = self._scene.plant
        for side, controller in self._controllers.items():
            arm = self._scene.arms[side]
            fingers = controller.finger_positions()
            for instance, desired in (
                (arm.arm, np.concatenate([controller.q, controller.qdot])),
                (arm.fingers, np.concatenate([fingers, np.zeros(2)])),
            ):
                plant.get_desired_state_input_port(instance).FixValue(self._context, desired)

    def actual(self) -> RobotState:
        """What the arms and grippers measure."""
        plant = self._scene.plant
        poses, widths, positions, velocities, torques = {}, {}, {}, {}, {}
        for side, arm in self._scene.arms.items():
            name = ARM_NAMES[side]
            q: Any = plant.GetPositions(self._context, arm.arm)
            X_BE = panda.forward_kinematics(q)
            poses[name] = Pose.from_matrix(self._controllers[side].X_TB @ X_BE)
            fingers = plant.GetPositions(self._context, arm.fingers)
            widths[GRIPPER_NAMES[side]] = float(fingers.sum())
            positions[name] = q
            velocities[name] = plant.GetVelocities(self._context, arm.arm)
            net = plant.get_net_actuation_output_port(arm.arm).Eval(self._context)
            torques[name] = np.array(net)
        return RobotState(
            poses=poses,
            gripper_widths_m=widths,
            joint_positions_rad=positions,
            joint_velocities_rad_s=velocities,
            joint_torques_nm=torques,
        )

    def desired(self) -> RobotState:
        """What they were last asked for, within the workspace."""
        return RobotState(
            poses={
                ARM_NAMES[side]: Pose.from_matrix(controller.X_TE_target)
                for side, controller in self._controllers.items()
            },
            gripper_widths_m={
                GRIPPER_NAMES[side]: controller.width_target_m
                for side, controller in self._controllers.items()
            },
            joint_positions_rad={
                ARM_NAMES[side]: controller.q.copy()
                for side, controller in self._controllers.items()
            },
            joint_velocities_rad_s={
                ARM_NAMES[side]: controller.qdot.copy()
                for side, controller in self._controllers.items()
            },
        )

    def _view(self, mount: CameraMount, camera: ColorRenderCamera) -> CameraView:
        plant = self._scene.plant
        if mount.parent == "table":
            body = plant.world_body()
        else:
            body = self._scene.arms[mount.parent].hand_body
        query: Any = self._scene.scene_graph.get_query_output_port().Eval(self._graph_context)
        image = query.RenderColorImage(
            camera,
            plant.GetBodyFrameIdOrThrow(body.index()),
            RigidTransform(drake_array(mount.X_PC)),
        )
        X_TP: Any = plant.EvalBodyPoseInWorld(self._context, body).GetAsMatrix4()
        return CameraView(
            rgb=np.ascontiguousarray(image.data[:, :, :3]),
            intrinsics=camera.core().intrinsics().intrinsic_matrix(),
            X_TC=Pose.from_matrix(X_TP @ mount.X_PC),
        )
