"""How the scene looks, shapes apart: colours and lights, and the engine that draws them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from pydrake.geometry import (
    LightParameter,
    MakeRenderEngineGl,
    MakeRenderEngineVtk,
    RenderEngine,
    RenderEngineGlParams,
    RenderEngineVtkParams,
    Rgba,
)

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import Colour
from sim_client.station.cameras import RenderQuality
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.panda_kinematics import Array

Renderer = Literal["own", "vtk", "gl"]


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """A key light that casts shadows, and fill lights without, so that no side is black.

    fill_scale: times the fill lights' own intensities. Colours are those of the light.
    """

    key_position_m: tuple[float, float, float] = (0.75, -0.85, 2.1)
    key_intensity: float = 0.78
    key_colour: Colour = (1.0, 0.97, 0.92)
    fill_scale: float = 1.0
    fill_colour: Colour = (0.95, 0.97, 1.0)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The colours of the surroundings, and the light on them."""

    table: Colour = (0.86, 0.80, 0.70)
    table_edge: Colour = (0.62, 0.53, 0.42)
    floor: Colour = (0.50, 0.53, 0.57)
    background: Colour = (0.80, 0.84, 0.88)
    lighting: Lighting = field(default_factory=Lighting)


_KEY_TARGET_M = np.array([-0.10, -0.05, 0.0])
_KEY_SPREAD_M = 0.09
# Position (m) and intensity of the lights that soften the key light's shadows.
_FILLS = (((1.9, -1.1, 1.0), 0.40), ((0.0, 2.2, 1.2), 0.34))


def make_render_engine(
    renderer: Literal["vtk", "gl"], quality: RenderQuality, looks: Looks
) -> RenderEngine:
    """An engine of Drake's with the scene's lights.

    VTK draws off screen by itself; Drake's GL engine needs an X display, and knows no shadows.
    Raises RenderingUnavailableError where this machine lacks the display.
    """
    background = drake_array(looks.background)
    lights = _lights(looks.lighting, quality)
    if renderer == "vtk":
        return MakeRenderEngineVtk(
            RenderEngineVtkParams(
                default_clear_color=background,
                lights=lights,
                cast_shadows=quality.shadows,
                shadow_map_size=quality.shadow_map_size,
            )
        )
    if not os.environ.get("DISPLAY"):
        raise RenderingUnavailableError(
            "cannot render with 'gl': Drake's GL engine needs an X display and DISPLAY is not "
            "set; use renderer 'vtk', which needs none, or run under an X server (xvfb-run)"
        )
    try:
        return MakeRenderEngineGl(
            RenderEngineGlParams(default_clear_color=Rgba(*looks.background, 1.0), lights=lights)
        )
    except RuntimeError as error:
        raise RenderingUnavailableError(
            f"cannot render with 'gl': {error}; use renderer 'vtk', which needs no X display"
        ) from error


class DistantLight(NamedTuple):
    """Shines from infinitely far away. direction: (3,), of length 1, along which it shines."""

    direction: Array
    colour: Colour
    intensity: float


def distant_lights(lighting: Lighting) -> list[DistantLight]:
    """The same lights without shadows, from so far away that they cost a third less a pixel."""
    places = [np.array(lighting.key_position_m), *(np.array(place) for place, _ in _FILLS)]
    ways = [_KEY_TARGET_M - place for place in places]
    intensities = [lighting.fill_scale * intensity for _, intensity in _FILLS]
    return [
        DistantLight(way / np.linalg.norm(way), colour, intensity)
        for way, colour, intensity in zip(
            ways,
            [lighting.key_colour, *(lighting.fill_colour for _ in _FILLS)],
            [lighting.key_intensity, *intensities],
            strict=True,
        )
    ]


def _lights(lighting: Lighting, quality: RenderQuality) -> list[LightParameter]:
    """VTK's phong shading has no ambient term, and only spots cast shadows in Drake."""
    if not quality.shadows:
        return [
            LightParameter(
                type="directional",
                color=Rgba(*light.colour),
                intensity=light.intensity,
                direction=drake_array(light.direction),
                frame="world",
            )
            for light in distant_lights(lighting)
        ]
    key = np.array(lighting.key_position_m)
    keys = [
        LightParameter(
            type="spot",
            color=Rgba(*lighting.key_colour),
            intensity=lighting.key_intensity / quality.num_key_lights,
            position=drake_array(place),
            direction=drake_array(_KEY_TARGET_M - place),
            cone_angle=42.0,
            frame="world",
        )
        for place in _around(key, quality.num_key_lights)
    ]
    fills = [
        LightParameter(
            type="point",
            color=Rgba(*lighting.fill_colour),
            intensity=lighting.fill_scale * intensity,
            position=drake_array(place),
            frame="world",
        )
        for place, intensity in _FILLS
    ]
    return [*keys, *fills]


def _around(place: Array, num: int) -> list[Array]:
    """One place in the middle, the others on a circle around it."""
    angles = 2.0 * np.pi * np.arange(num - 1) / max(1, num - 1)
    offsets = [np.zeros(3), *(np.array([np.cos(a), np.sin(a), 0.0]) for a in angles)]
    return [place + _KEY_SPREAD_M * offset for offset in offsets]
