"""Drake's own Panda in the station's place, read from a folder laid out as `drake_models`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydrake.math import RigidTransform
from pydrake.systems.analysis import Simulator

from policy_interface.contract import LEFT_GRIPPER, RIGHT_ARM, RIGHT_GRIPPER, ImageSize
from policy_interface.types import Action, Pose
from sim_client.drake_arrays import drake_array
from sim_client.manipulands.kiwi import Kiwi
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import tool_down
from sim_client.station.arm_models import (
    ArmModelUnavailableError,
    DrakeArmModel,
    OwnArmModel,
)
from sim_client.station.contacts import ContactReader
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.looks import Renderer
from sim_client.station.scene import TIME_STEP_S, SceneSpec, build_scene
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task


def _link(name: str, collision_x_m: float = 0.0) -> str:
    return f"""
  <link name="{name}">
    <inertial><mass value="1.0"/>
      <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><geometry><sphere radius="0.03"/></geometry></visual>
    <collision><origin xyz="{collision_x_m} 0 0"/>
      <geometry><sphere radius="0.02"/></geometry></collision>
  </link>"""


def _joint(name: str, kind: str, links: tuple[str, str], place: str, rest: str) -> str:
    parent, child = links
    return f"""
  <joint name="{name}" type="{kind}">
    <parent link="{parent}"/><child link="{child}"/><origin {place}/>{rest}
  </joint>"""


def _transmission(joint: str) -> str:
    return f"""
  <transmission name="{joint}_tran"><type>transmission_interface/SimpleTransmission</type>
    <joint name="{joint}"><hardwareInterface>PositionJointInterface</hardwareInterface></joint>
    <actuator name="{joint}_motor"><mechanicalReduction>1</mechanicalReduction></actuator>
  </transmission>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two files that the station reads, with the published joints and simple shapes."""
    arm = [_link(f"panda_link{i}") for i in range(9)]
    for i, spec in enumerate(panda.JOINTS):
        x, y, z = spec.origin_m
        name = f"panda_joint{i + 1}"
        limit = (
            f'<axis xyz="0 0 1"/><limit lower="{spec.lower_rad}" upper="{spec.upper_rad}" '
            f'velocity="{spec.velocity_rad_s}" effort="{spec.effort_nm}"/>'
        )
        place = f'xyz="{x} {y} {z}" rpy="{spec.roll_rad} 0 0"'
        links = (f"panda_link{i}", f"panda_link{i + 1}")
        arm += [_joint(name, "revolute", links, place, limit), _transmission(name)]
    flange = ("panda_link7", "panda_link8")
    arm.append(_joint("panda_joint8", "fixed", flange, f'xyz="0 0 {panda.FLANGE_OFFSET_M}"', ""))

    # Far enough from the flange's that something can touch it alone.
    hand = [_link("panda_hand", collision_x_m=0.1)]
    hand += [_link(name) for name in ("panda_leftfinger", "panda_rightfinger")]
    for i, (finger, sign) in enumerate((("leftfinger", 1), ("rightfinger", -1)), start=1):
        name = f"panda_finger_joint{i}"
        limit = (
            f'<axis xyz="0 {sign} 0"/><limit lower="0.0" upper="0.04" velocity="0.2" effort="20"/>'
        )
        place = f'xyz="0 0 {panda.FINGER_ORIGIN_M}"'
        links = ("panda_hand", f"panda_{finger}")
        hand += [_joint(name, "prismatic", links, place, limit), _transmission(name)]

    files = tmp_path / "franka_description" / "urdf"
    files.mkdir(parents=True)
    (tmp_path / "package.xml").write_text("<package><name>drake_models</name></package>")
    for name, parts in (("panda_arm", arm), ("hand", hand)):
        text = f'<robot name="{name}">{"".join(parts)}\n</robot>\n'
        (files / f"{name}.urdf").write_text(text)
    return tmp_path


def test_the_same_actions_do_the_same(folder: Path) -> None:
    station = Station(
        get_task("PickAndPlaceBox"),
        cameras={},
        arm_model="drake_models",
        drake_models_folder=folder,
    )
    station.reset(100)
    X_TE = tool_down(np.array([-0.10, -0.25, 0.20]), 0.4)
    left = station.desired().poses["left::panda"]
    action = Action(
        poses={RIGHT_ARM: Pose.from_matrix(X_TE), "left::panda": left},
        gripper_widths_m={RIGHT_GRIPPER: 0.03, LEFT_GRIPPER: 0.08},
    )
    for _ in range(15):
        station.step(action)
    actual = station.actual()
    np.testing.assert_allclose(actual.poses[RIGHT_ARM].matrix(), X_TE, atol=3e-3)
    np.testing.assert_allclose(actual.poses["left::panda"].matrix(), left.matrix(), atol=3e-3)
    assert actual.gripper_widths_m[RIGHT_GRIPPER] == pytest.approx(0.03, abs=2e-3)


@pytest.mark.parametrize("name", ["own", "drake_models"])
def test_a_hand_that_lies_against_an_object_touches_it(name: str, folder: Path) -> None:
    model = OwnArmModel() if name == "own" else DrakeArmModel(folder=folder)
    scene = build_scene(SceneSpec(objects=(Kiwi(),)), arm_model=model)
    plant, kiwi = scene.plant, scene.bodies["kiwi"]
    simulator, reader = Simulator(scene.diagram), ContactReader(scene)
    context = plant.GetMyMutableContextFromRoot(simulator.get_mutable_context())
    X_WH = plant.EvalBodyPoseInWorld(context, scene.arms["right"].hand_body)
    beside_m = [0.1, 0.0, 0.0] if name == "drake_models" else [0.0, 0.0, 0.0]
    X_WA = RigidTransform(drake_array([0.0, 0.0, 3.0]))
    for X_WO, touching in (
        (X_WH @ RigidTransform(drake_array(beside_m)), {("right", "kiwi")}),
        (X_WA, set()),
    ):
        plant.SetFreeBodyPose(context, kiwi, X_WO)
        # Contacts are those of the last time step.
        simulator.AdvanceTo(simulator.get_context().get_time() + TIME_STEP_S)
        assert reader.read(context).arms == touching


def test_a_folder_without_the_arm_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArmModelUnavailableError, match="unpack .*models and name its folder"):
        Station(
            get_task("PickAndPlaceBox"),
            cameras={},
            arm_model="drake_models",
            drake_models_folder=tmp_path,
        )


def test_its_looks_are_drawn_by_vtk_alone(folder: Path) -> None:
    def made(renderer: Renderer | None) -> Station:
        return Station(
            get_task("PickAndPlaceBox"),
            cameras={"scene_left_0": ImageSize(height=60, width=80)},
            arm_model="drake_models",
            drake_models_folder=folder,
            renderer=renderer,
        )

    with pytest.raises(RenderingUnavailableError, match=r"with 'own'.*use renderer 'vtk'"):
        made("own")
    default = made(None)
    default.reset(100)
    assert default.observe().cameras["scene_left_0"].rgb.std() > 5.0
