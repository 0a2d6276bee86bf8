"""A large picture of the station in the middle of a task, really rendered, for people.

    python -m sim_client.picture --task PickAndPlaceBox --output scene.png --size 1280x720

The scripted expert acts until it carries the object. The picture is rendered at twice its size,
with shadows, and averaged down, so that edges are smooth.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import tyro

from policy_interface.contract import ImageSize
from sim_client.experts.catalog import make_expert
from sim_client.experts.pick_and_place import Phase
from sim_client.station.cameras import PICTURE_QUALITY, CameraMount, looking_at
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.station import Station
from sim_client.tasks.catalog import UnknownTaskError, get_task

_SUPERSAMPLING = 2
_SEED = 100
# Long enough into the way to the target for the picture to tell the task.
_STEPS_CARRIED = 9

_VIEW = CameraMount(
    parent="table",
    X_PC=looking_at((1.10, -0.80, 0.78), (-0.18, -0.02, 0.25)),
    vertical_field_of_view_rad=float(np.deg2rad(36.0)),
)
_SIZE = ImageSize(height=720, width=1280)

_IMAGE_SIZE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="WIDTHxHEIGHT",
    instance_from_str=lambda words: ImageSize.parse(words[0]),
    is_instance=lambda value: isinstance(value, ImageSize),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Render a picture of the station in the middle of a task."""

    task: str = "PickAndPlaceBox"
    """`sim-client tasks` lists them."""
    output: Path = Path("scene.png")
    """PNG file to write."""
    size: Annotated[ImageSize, _IMAGE_SIZE] = _SIZE
    """Pixels."""
    seed: int = _SEED
    """Which scenario."""


def picture_mid_task(
    task_name: str, *, size: ImageSize = _SIZE, seed: int = _SEED
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of the moment when the expert carries the object to its place."""
    large = ImageSize(height=size.height * _SUPERSAMPLING, width=size.width * _SUPERSAMPLING)
    task = get_task(task_name)
    # Any camera makes the station load its renderer; this one is never read.
    station = Station(task, cameras={"scene_right_0": large}, quality=PICTURE_QUALITY)
    expert = make_expert(task)
    station.reset(seed)
    num_carried = 0
    while num_carried < _STEPS_CARRIED and station.time_s < task.time_limit_s:
        action = expert.act(station.scene_state(), station.actual(), station.desired())
        station.step(action)
        num_carried += expert.phase is Phase.CARRY
    image = station.render(_VIEW, large)
    return np.asarray(
        cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def main(config: PictureConfig) -> int:
    try:
        image = picture_mid_task(config.task, size=config.size, seed=config.seed)
    except (UnknownTaskError, RenderingUnavailableError) as error:
        print(f"picture: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownTaskError) else 1
    if not cv2.imwrite(str(config.output), image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        print(f"picture: {config.output}: not written", file=sys.stderr)
        return 1
    print(config.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(PictureConfig, description=__doc__)))
