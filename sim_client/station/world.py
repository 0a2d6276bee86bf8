"""One built scene that is simulated: where things are put, how time passes, what is true in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydrake.math import RigidTransform
from pydrake.systems.analysis import Simulator

from policy_interface.types import Pose, RobotState
from sim_client.drake_arrays import drake_array
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import ArmCommand, ArmController
from sim_client.station.arm_models import ArmModel
from sim_client.station.cameras import RenderQuality
from sim_client.station.commands import ARM_NAMES, GRIPPER_NAMES, Tick
from sim_client.station.contacts import ContactReader
from sim_client.station.fixed_input import FixedInput
from sim_client.station.panda_kinematics import Array
from sim_client.station.scene import Scene, SceneSpec, build_scene
from sim_client.station.workspace import BASE_POSITIONS_M, SIDES, TIME_STEP_S
from sim_client.tasks.placement import Layout
from sim_client.tasks.scene_state import SceneState


class SimulationError(RuntimeError):
    """The physics engine gave up or diverged: no verdict on the policy."""


class World:
    """A scene in simulation, and the controllers of its arms."""

    def __init__(self, spec: SceneSpec, *, quality: RenderQuality, arm_model: ArmModel) -> None:
        self.spec = spec
        self.scene: Scene = build_scene(spec, quality=quality, arm_model=arm_model)
        self.simulator = Simulator(self.scene.diagram)
        self.simulator.set_target_realtime_rate(0.0)
        self.context = self.simulator.get_mutable_context()
        self._plant = self.scene.plant
        self.plant_context = self._plant.GetMyMutableContextFromRoot(self.context)
        self._graph_context = self.scene.scene_graph.GetMyContextFromRoot(self.context)
        self.controllers = {
            side: ArmController(base_position_m=spec.X_TR[:3, 3] + BASE_POSITIONS_M[side])
            for side in SIDES
        }
        self._state_now = self._view_of_state()
        self._servos: list[tuple[FixedInput, FixedInput]] = []
        self._followed: Sequence[ArmCommand] = ()
        self._contacts = ContactReader(self.scene)
        free = [name for name in self.scene.bodies if name not in self.scene.fixed_frames]
        self.free_objects = tuple(free)
        # The upward speed of a free body is one of its six velocities.
        starts = [self.scene.bodies[name].floating_velocities_start_in_v() for name in free]
        self._rise_indices = self._plant.num_positions() + 5 + np.array(starts, dtype=np.intp)
        self._slowest_rise_m_s = np.zeros(len(free))
        self._num_time_steps = 0
        self._state: SceneState | None = None

    def place(self, layout: Layout, starts: Mapping[str, tuple[Array, float]]) -> None:
        """Put everything where it starts, at rest, at time 0.

        starts: by side, the flange's pose X_RE (4, 4) in the room and the gripper's width (m).
        """
        plant, context = self._plant, self.plant_context
        self.context.SetTime(0.0)
        plant.SetDefaultState(context, context.get_mutable_state())
        for name, X_TO in layout.items():
            pose = RigidTransform(drake_array(X_TO))
            if name in self.scene.fixed_frames:
                self.scene.fixed_frames[name].SetPoseInParentFrame(context, pose)
            else:
                plant.SetFreeBodyPose(context, self.scene.bodies[name], pose)
        for side, controller in self.controllers.items():
            X_RE, width_m = starts[side]
            controller.reset(self.spec.X_TR @ X_RE, width_m)
            arm = self.scene.arms[side]
            plant.SetPositions(context, arm.arm, drake_array(controller.q))
            plant.SetPositions(context, arm.fingers, drake_array(np.full(2, width_m / 2.0)))
        self._fix_commands(self.commands())
        self.simulator.Initialize()
        self._state_now = self._view_of_state()
        self._num_time_steps = 0
        self.forget_falls()

    def _view_of_state(self) -> Array:
        """Every position and velocity now, and after every advance: Drake's own memory.

        Asking the plant for them, a copy each time, costs as much as an arm's kinematics.
        """
        state: Any = self.plant_context.get_discrete_state_vector()
        return state.value()

    def forget_falls(self) -> None:
        """Count the greatest downward speeds from now on."""
        self._slowest_rise_m_s[:] = 0.0
        self._state = None

    def advance(self, tick: Tick) -> None:
        """Simulate one tick under its commands. Raises SimulationError."""
        self._follow(tick.commands)
        self._num_time_steps += tick.num_time_steps
        self._state = None
        # From the number of time steps, so that rounding errors do not add up.
        until_s = self._num_time_steps * TIME_STEP_S
        try:
            self.simulator.AdvanceTo(until_s)
        except RuntimeError as error:
            raise SimulationError(
                f"Drake failed {until_s:.2f} s after the scene was placed: {error}"
            ) from error
        # Ten times a second would miss what falls a few centimetres.
        slowest = self._slowest_rise_m_s
        np.minimum(slowest, self._state_now[self._rise_indices], out=slowest)

    def commands(self) -> tuple[ArmCommand, ...]:
        """What the controllers command now, in the order of the sides."""
        return tuple(controller.command() for controller in self.controllers.values())

    def _fix_commands(self, commands: Sequence[ArmCommand]) -> None:
        """Connect the arms' servos to what they are to follow, in every episode anew."""
        plant, context = self._plant, self.plant_context
        self._servos = [
            (
                FixedInput(plant.get_desired_state_input_port(arm.arm), context, command.joints),
                FixedInput(
                    plant.get_desired_state_input_port(arm.fingers), context, command.fingers
                ),
            )
            for arm, command in zip(self.scene.arms.values(), commands, strict=True)
        ]
        self._followed = commands

    def _follow(self, commands: Sequence[ArmCommand]) -> None:
        """Give the arms' servos what they are to follow from now on."""
        for (joints, fingers), command, former in zip(
            self._servos, commands, self._followed, strict=True
        ):
            # What is the same as before is followed already: an arm that waits, an open hand.
            if command.joints is not former.joints:
                joints.set(command.joints)
            if command.fingers is not former.fingers:
                fingers.set(command.fingers)
        self._followed = commands

    def require_finite(self) -> None:
        """Raises SimulationError where the simulation has diverged."""
        if not np.isfinite(self._state_now).all():
            raise SimulationError("the simulated state is not finite")

    def digest(self) -> str:
        """SHA-256 (hex) of every position and velocity: equal exactly where the states are."""
        state = self._plant.GetPositionsAndVelocities(self.plant_context)
        return hashlib.sha256(np.ascontiguousarray(state).tobytes()).hexdigest()

    def positions_and_velocities(self) -> tuple[Array, Array]:
        """Of everything that moves, in Drake's order."""
        q: Any = self._plant.GetPositions(self.plant_context)
        v: Any = self._plant.GetVelocities(self.plant_context)
        return np.array(q), np.array(v)

    def geometry(self) -> Any:
        """What is where now, as Drake's QueryObject."""
        return self.scene.scene_graph.get_query_output_port().Eval(self._graph_context)

    def state(self) -> SceneState:
        """The true state of the task's objects; read once a tick, however often it is asked for."""
        if self._state is None:
            self._state = self._read_state()
        return self._state

    def _read_state(self) -> SceneState:
        poses = {}
        velocities = {}
        for item in self.spec.objects:
            body = self.scene.bodies[item.name]
            X_TO = self._plant.EvalBodyPoseInWorld(self.plant_context, body)
            poses[item.name] = X_TO.GetAsMatrix4()
            V_TO = self._plant.EvalBodySpatialVelocityInWorld(self.plant_context, body)
            velocities[item.name] = V_TO.get_coeffs()
        contacts = self._contacts.read(self.plant_context)
        falls = dict(zip(self.free_objects, (-self._slowest_rise_m_s).tolist(), strict=True))
        return SceneState(
            poses=poses,
            velocities=velocities,
            contacts=contacts.objects,
            finger_contacts=contacts.fingers,
            arm_contacts=contacts.arms,
            fastest_fall_m_s={name: falls[name] for name in poses if name in falls},
        )

    def is_settled(self, layout: Layout, *, within_m: float, speed_m_s: float) -> bool:
        """Whether every free body, distractors too, rests where it was placed, and no arm on it."""
        if self._contacts.read(self.plant_context).arms:
            return False
        for name in self.free_objects:
            body = self.scene.bodies[name]
            X_TO = self._plant.EvalBodyPoseInWorld(self.plant_context, body)
            V_TO = self._plant.EvalBodySpatialVelocityInWorld(self.plant_context, body)
            moved_m = np.linalg.norm(X_TO.translation() - layout[name][:3, 3])
            if moved_m >= within_m or np.linalg.norm(V_TO.translational()) >= speed_m_s:
                return False
        return True

    def actual(self) -> RobotState:
        """What the arms and grippers measure."""
        plant, context = self._plant, self.plant_context
        poses, widths, positions, velocities, torques = {}, {}, {}, {}, {}
        for side, arm in self.scene.arms.items():
            name = ARM_NAMES[side]
            q: Any = plant.GetPositions(context, arm.arm)
            X_BE = panda.forward_kinematics(q)
            poses[name] = Pose.from_matrix(self.controllers[side].X_TB @ X_BE)
            widths[GRIPPER_NAMES[side]] = float(plant.GetPositions(context, arm.fingers).sum())
            positions[name] = q
            velocities[name] = plant.GetVelocities(context, arm.arm)
            torques[name] = np.array(plant.get_net_actuation_output_port(arm.arm).Eval(context))
        return RobotState(
            poses=poses,
            gripper_widths_m=widths,
            joint_positions_rad=positions,
            joint_velocities_rad_s=velocities,
            joint_torques_nm=torques,
        )

    def desired(self) -> RobotState:
        """What they were last asked for, within the workspace."""
        arms = {ARM_NAMES[side]: each for side, each in self.controllers.items()}
        grippers = {GRIPPER_NAMES[side]: each for side, each in self.controllers.items()}
        return RobotState(
            poses={name: Pose.from_matrix(each.X_TE_target) for name, each in arms.items()},
            gripper_widths_m={name: each.width_target_m for name, each in grippers.items()},
            joint_positions_rad={name: each.q for name, each in arms.items()},
            joint_velocities_rad_s={name: each.qdot for name, each in arms.items()},
        )
