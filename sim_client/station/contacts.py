"""Who touches whom: Drake's contact results in the words of tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydrake.geometry import Role
from pydrake.systems.framework import Context

from sim_client.station.scene import Scene
from sim_client.tasks.scene_state import TABLE


class Contacts(NamedTuple):
    """fingers, arms: (side, object). objects: pairs in alphabetical order, the table among them."""

    fingers: frozenset[tuple[str, str]]
    arms: frozenset[tuple[str, str]]
    objects: frozenset[tuple[str, str]]


class ContactReader:
    """Reads the contacts of one scene."""

    def __init__(self, scene: Scene) -> None:
        self._plant = scene.plant
        inspector = scene.scene_graph.model_inspector()
        self._body_of_geometry = {
            geometry: scene.plant.GetBodyFromFrameId(inspector.GetFrameId(geometry)).index()
            for geometry in inspector.GetAllGeometryIds(Role.kProximity)
        }
        self._object_of_body = {body.index(): name for name, body in scene.bodies.items()}
        self._object_of_body[scene.plant.world_body().index()] = TABLE
        self._side_of_finger = {
            body.index(): side for side, arm in scene.arms.items() for body in arm.finger_bodies
        }
        self._side_of_body = dict(self._side_of_finger)
        for side, arm in scene.arms.items():
            for index in scene.plant.GetBodyIndices(arm.arm):
                self._side_of_body[index] = side

    def read(self, context: Context) -> Contacts:
        """The contacts now; context: the plant's."""
        fingers, arms, objects = set(), set(), set()
        for pair in self._pairs(context):
            names = sorted(self._object_of_body[i] for i in pair if i in self._object_of_body)
            if len(names) == 2:
                objects.add((names[0], names[1]))
            elif len(names) == 1 and names[0] != TABLE:
                for index in pair:
                    if index in self._side_of_body:
                        arms.add((self._side_of_body[index], names[0]))
                    if index in self._side_of_finger:
                        fingers.add((self._side_of_finger[index], names[0]))
        return Contacts(frozenset(fingers), frozenset(arms), frozenset(objects))

    def _pairs(self, context: Context) -> list[tuple[Any, Any]]:
        results: Any = self._plant.get_contact_results_output_port().Eval(context)
        pairs: list[tuple[Any, Any]] = []
        for i in range(results.num_point_pair_contacts()):
            point = results.point_pair_contact_info(i)
            pairs.append((point.bodyA_index(), point.bodyB_index()))
        for i in range(results.num_hydroelastic_contacts()):
            surface = results.hydroelastic_contact_info(i).contact_surface()
            pairs.append(
                (self._body_of_geometry[surface.id_M()], self._body_of_geometry[surface.id_N()])
            )
        return pairs
