"""What a distribution shift makes of one episode: draws by level, each from a stream of its own.

Nothing that is disabled is drawn, and nothing that is drawn here moves a draw made elsewhere.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from sim_client.manipulands.manipuland import Colour, Manipuland, scaled
from sim_client.station.cameras import CAMERA_MOUNTS
from sim_client.station.distractors import KINDS, Distractor
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.looks import Lighting, Looks
from sim_client.station.observation_noise import ObservationNoise
from sim_client.station.panda_kinematics import Array
from sim_client.station.scene import SceneSpec
from sim_client.station.shift import Level, Shift
from sim_client.station.wider_placement import with_wider_placements
from sim_client.tasks.random_streams import stream
from sim_client.tasks.task import Task

# By level: low, medium, high.
_KEY_SPREAD_M = {"low": 0.25, "medium": 0.6, "high": 1.2}
_LIGHT_FACTOR = {"low": 1.15, "medium": 1.4, "high": 1.9}
_LIGHT_TINT = {"low": 0.04, "medium": 0.10, "high": 0.22}

# Hue in turns; saturation and value as factors. Objects keep the colour that an instruction names.
_ROOM_HUE = {"low": 0.03, "medium": 0.12, "high": 0.5}
_OBJECT_HUE = {"low": 0.01, "medium": 0.02, "high": 0.035}
_COLOUR_FACTOR = {"low": 1.1, "medium": 1.25, "high": 1.5}

_SCENE_OFFSET_M = {"low": 0.01, "medium": 0.03, "high": 0.06}
_SCENE_TURN_RAD = {"low": np.deg2rad(1.0), "medium": np.deg2rad(3.0), "high": np.deg2rad(6.0)}
_WRIST_OFFSET_M = {"low": 0.002, "medium": 0.005, "high": 0.010}
_WRIST_TURN_RAD = {"low": np.deg2rad(1.0), "medium": np.deg2rad(2.0), "high": np.deg2rad(4.0)}

_NUM_DISTRACTORS = {"low": 1, "medium": 2, "high": 4}
# Lower and upper; a hand must still be able to close around what it could close around.
_SIZE = {"low": (0.95, 1.03), "medium": (0.90, 1.06), "high": (0.82, 1.10)}
_MASS_FACTOR = {"low": 1.25, "medium": 1.6, "high": 2.5}
_PLACEMENT_FACTOR = {"low": 1.25, "medium": 1.5, "high": 2.0}
_TABLE_HEIGHT_M = {"low": 0.015, "medium": 0.03, "high": 0.05}
_DELAY_STEPS = {"low": 1, "medium": 2, "high": 3}
_NOISE = {
    "low": ObservationNoise(pixel=3.0, position_m=0.002, rotation_rad=0.005, joint_rad=0.002),
    "medium": ObservationNoise(pixel=8.0, position_m=0.005, rotation_rad=0.012, joint_rad=0.005),
    "high": ObservationNoise(pixel=20.0, position_m=0.010, rotation_rad=0.030, joint_rad=0.010),
}
# Of the episodes, so many are told in words that no demonstration has.
_HELD_OUT_SHARE = {"low": 1 / 3, "medium": 2 / 3, "high": 1.0}

_Item = TypeVar("_Item", bound=Manipuland)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeShift:
    """One episode's draw.

    task: with the objects and the ranges of this episode; the very same one where none changes.
    camera_offsets: X_CD (4, 4) by name, where a camera is, in the frame of where it should be.
    """

    task: Task
    scene: SceneSpec
    instruction: str
    camera_offsets: Mapping[str, Array] = field(default_factory=dict)
    delay_steps: int = 0
    noise: ObservationNoise | None = None

    @property
    def distractors(self) -> tuple[Distractor, ...]:
        return tuple(item for item in self.scene.distractors if isinstance(item, Distractor))


def draw_episode(task: Task, shift: Shift, seed: int, *, cameras: Iterable[str]) -> EpisodeShift:
    """What `shift` makes of the episode of `seed`."""
    shifted = _shifted_task(task, shift, seed)
    return EpisodeShift(
        task=shifted,
        scene=SceneSpec(
            objects=shifted.objects,
            distractors=_distractors(shift.distractors, seed),
            looks=Looks(
                **_room_colours(shift.textures, seed), lighting=_lighting(shift.lighting, seed)
            ),
            table_height_m=_table_height_m(shift.table_height, seed),
        ),
        instruction=_instruction(task, shift.phrasing, seed),
        camera_offsets=_camera_offsets(shift.camera, seed, cameras),
        delay_steps=_DELAY_STEPS.get(shift.action_delay, 0),
        noise=_NOISE.get(shift.observation_noise),
    )


def _shifted_task(task: Task, shift: Shift, seed: int) -> Task:
    if shift.object_size != "disabled" or shift.mass != "disabled":
        size = 1.0
        if shift.object_size != "disabled":
            # One for all, so that what fits into or onto something else still does.
            size = float(stream(seed, "shift.object_size").uniform(*_SIZE[shift.object_size]))
        task = replace(
            task,
            objects=tuple(
                scaled(item, size=size, mass=_mass_factor(shift.mass, seed, item.name))
                for item in task.objects
            ),
            placements={
                name: replace(
                    placement,
                    height_m=None if placement.height_m is None else size * placement.height_m,
                    **(
                        {"x_m": _times(size, placement.x_m), "y_m": _times(size, placement.y_m)}
                        if placement.on is not None
                        else {}
                    ),
                )
                for name, placement in task.placements.items()
            },
        )
    if shift.textures != "disabled":
        task = replace(
            task, objects=tuple(_recoloured(item, shift.textures, seed) for item in task.objects)
        )
    if shift.placement != "disabled":
        task = with_wider_placements(task, factor=_PLACEMENT_FACTOR[shift.placement])
    return task


def _times(factor: float, bounds: tuple[float, float]) -> tuple[float, float]:
    return factor * bounds[0], factor * bounds[1]


def _factor(rng: np.random.Generator, greatest: float) -> float:
    """Log-uniform in [1 / greatest, greatest]."""
    return float(np.exp(rng.uniform(-np.log(greatest), np.log(greatest))))


def _mass_factor(level: Level, seed: int, name: str) -> float:
    if level == "disabled":
        return 1.0
    return _factor(stream(seed, f"shift.mass.{name}"), _MASS_FACTOR[level])


def _other_colour(colour: Colour, rng: np.random.Generator, *, hue: float, factor: float) -> Colour:
    h, s, v = colorsys.rgb_to_hsv(*colour)
    h = (h + rng.uniform(-hue, hue)) % 1.0
    s = min(1.0, s * _factor(rng, factor))
    # Darker more often than brighter: what is white cannot become whiter.
    v = min(1.0, v * _factor(rng, factor))
    return colorsys.hsv_to_rgb(h, s, v)


def _recoloured(item: _Item, level: Level, seed: int) -> _Item:
    """The same object with each of its fields called `colour` or `..._colour` drawn anew."""
    assert is_dataclass(item), f"{item!r} is no dataclass"
    assert not isinstance(item, type), f"{item!r} is no object"
    changes: dict[str, Any] = {}
    for each in fields(item):
        if each.name.endswith("colour"):
            name = f"shift.textures.{item.name}.{each.name}"
            changes[each.name] = _other_colour(
                getattr(item, each.name),
                stream(seed, name),
                hue=_OBJECT_HUE[level],
                factor=_COLOUR_FACTOR[level],
            )
    return replace(item, **changes)


def _room_colours(level: Level, seed: int) -> dict[str, Colour]:
    if level == "disabled":
        return {}
    nominal = Looks()
    return {
        name: _other_colour(
            getattr(nominal, name),
            stream(seed, f"shift.textures.{name}"),
            hue=_ROOM_HUE[level],
            factor=_COLOUR_FACTOR[level],
        )
        for name in ("table", "table_edge", "floor", "background")
    }


def _lighting(level: Level, seed: int) -> Lighting:
    nominal = Lighting()
    if level == "disabled":
        return nominal
    rng = stream(seed, "shift.lighting")
    spread_m, tint = _KEY_SPREAD_M[level], _LIGHT_TINT[level]
    x, y, z = nominal.key_position_m
    return Lighting(
        key_position_m=(
            x + rng.uniform(-spread_m, spread_m),
            y + rng.uniform(-spread_m, spread_m),
            # Never down to where it would shine from below the hands.
            z + rng.uniform(-spread_m / 2, spread_m / 2),
        ),
        key_intensity=nominal.key_intensity * _factor(rng, _LIGHT_FACTOR[level]),
        key_colour=_tinted(nominal.key_colour, rng, tint),
        fill_scale=_factor(rng, _LIGHT_FACTOR[level]),
        fill_colour=_tinted(nominal.fill_colour, rng, tint),
    )


def _tinted(colour: Colour, rng: np.random.Generator, tint: float) -> Colour:
    red, green, blue = (float(part * (1.0 - rng.uniform(0.0, tint))) for part in colour)
    return red, green, blue


def _distractors(level: Level, seed: int) -> tuple[Distractor, ...]:
    drawn = []
    for i in range(_NUM_DISTRACTORS.get(level, 0)):
        name = f"distractor_{i}"
        rng = stream(seed, f"shift.{name}")
        drawn.append(
            Distractor(
                name=name,
                kind=KINDS[int(rng.integers(len(KINDS)))],
                colour=colorsys.hsv_to_rgb(
                    rng.uniform(), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9)
                ),
                radius_m=float(rng.uniform(0.022, 0.036)),
                height_m=float(rng.uniform(0.03, 0.08)),
            )
        )
    return tuple(drawn)


def _table_height_m(level: Level, seed: int) -> float:
    if level == "disabled":
        return 0.0
    limit_m = _TABLE_HEIGHT_M[level]
    return float(stream(seed, "shift.table_height").uniform(-limit_m, limit_m))


def _camera_offsets(level: Level, seed: int, cameras: Iterable[str]) -> dict[str, Array]:
    if level == "disabled":
        return {}
    offsets = {}
    for name in cameras:
        in_room = CAMERA_MOUNTS[name].parent == "table"
        offset_m = (_SCENE_OFFSET_M if in_room else _WRIST_OFFSET_M)[level]
        turn_rad = (_SCENE_TURN_RAD if in_room else _WRIST_TURN_RAD)[level]
        rng = stream(seed, f"shift.camera.{name}")
        X_CD = np.eye(4)
        X_CD[:3, :3] = rotation_from_vector(rng.uniform(-turn_rad, turn_rad, size=3))
        X_CD[:3, 3] = rng.uniform(-offset_m, offset_m, size=3)
        offsets[name] = X_CD
    return offsets


def _instruction(task: Task, level: Level, seed: int) -> str:
    phrasings = task.instructions
    instruction = phrasings[int(stream(seed, "phrasing").integers(len(phrasings)))]
    if level == "disabled":
        return instruction
    rng = stream(seed, "shift.phrasing")
    if rng.random() >= _HELD_OUT_SHARE[level]:
        return instruction
    return task.held_out_instructions[int(rng.integers(len(task.held_out_instructions)))]
