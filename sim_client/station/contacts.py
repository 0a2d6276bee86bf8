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
        plant, inspector = scene.plant, scene.scene_graph.model_inspector()
        self._port = plant.get_contact_results_output_port()
        # All by plain numbers: hashing Drake's indices would take longer than all else here.
        self._body_of_geometry: dict[int, int] = {
            geometry.get_value(): int(
                plant.GetBodyFromFrameId(inspector.GetFrameId(geometry)).index()
            )
            for geometry in inspector.GetAllGeometryIds(Role.kProximity)
        }
        self._object_of_body = {int(body.index()): name for name, body in scene.bodies.items()}
        self._object_of_body[int(plant.world_body().index())] = TABLE
        self._side_of_finger = {
            int(body.index()): side
            for side, arm in scene.arms.items()
            for body in arm.finger_bodies
        }
        self._side_of_body = dict(self._side_of_finger)
        for side, arm in scene.arms.items():
            # Drake's own arm has its hand in a model of its own.
            for model in (arm.arm, arm.fingers):
                for index in plant.GetBodyIndices(model):
                    self._side_of_body[int(index)] = side
        self._former: tuple[list[tuple[int, int]], Contacts] | None = None

    def read(self, context: Context) -> Contacts:
        """The contacts now; context: the plant's."""
        pairs = self._pairs(context)
        # Who touches whom rarely changes from one instant to the next.
        if self._former is None or self._former[0] != pairs:
            self._former = pairs, self._by_name(pairs)
        return self._former[1]

    def _by_name(self, pairs: list[tuple[int, int]]) -> Contacts:
        fingers, arms, objects = set(), set(), set()
        for pair in pairs:
            names = sorted(self._object_of_body[i] for i in pair if i in self._object_of_body)
            if len(names) == 2:
                objects.add((names[0], names[1]))
            elif len(names) == 1 and names[0] != TABLE:
                for body in pair:
                    if body in self._side_of_body:
                        arms.add((self._side_of_body[body], names[0]))
                    if body in self._side_of_finger:
                        fingers.add((self._side_of_finger[body], names[0]))
        return Contacts(frozenset(fingers), frozenset(arms), frozenset(objects))

    def _pairs(self, context: Context) -> list[tuple[int, int]]:
        """The bodies that touch, a pair for each contact."""
        results: Any = self._port.Eval(context)
        pairs: list[tuple[int, int]] = []
        for i in range(results.num_point_pair_contacts()):
            point = results.point_pair_contact_info(i)
            pairs.append((int(point.bodyA_index()), int(point.bodyB_index())))
        for i in range(results.num_hydroelastic_contacts()):
            surface = results.hydroelastic_contact_info(i).contact_surface()
            pairs.append(
                (
                    self._body_of_geometry[surface.id_M().get_value()],
                    self._body_of_geometry[surface.id_N().get_value()],
                )
            )
        return pairs
