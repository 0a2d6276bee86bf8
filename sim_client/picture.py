"""A large picture of the station in the middle of a task, really rendered, for people.

    python -m sim_client.picture --task PickAndPlaceBox --output scene.png --size 1280x720

The scripted expert does the task once, and again up to a moment of it. The picture is rendered at
twice its size, with shadows, and averaged down, so that edges are smooth.
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
from sim_client.experts.expert import Expert
from sim_client.station.cameras import PICTURE_QUALITY, CameraMount, looking_at
from sim_client.station.headless_gl import RenderingUnavailableError
from sim_client.station.station import CONTROL_PERIOD_S, Station
from sim_client.tasks.catalog import UnknownTaskError, get_task

_SUPERSAMPLING = 2
_SEED = 100

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
    moment: float = 0.6
    """Share of the expert's episode, 0 its beginning and 1 its end."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.moment <= 1.0:
            raise ValueError(f"--moment: expected 0 to 1, got {self.moment}")


def picture_mid_task(
    task_name: str, *, size: ImageSize = _SIZE, seed: int = _SEED, moment: float = 0.6
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of the scene when the expert has done this share of its episode."""
    large = ImageSize(height=size.height * _SUPERSAMPLING, width=size.width * _SUPERSAMPLING)
    task = get_task(task_name)
    # Any camera makes the station load its renderer; this one is never read.
    station = Station(task, cameras={"scene_right_0": large}, quality=PICTURE_QUALITY)
    expert = make_expert(task)
    num_steps = _act(station, expert, seed, max_steps=round(task.time_limit_s / CONTROL_PERIOD_S))
    _act(station, expert, seed, max_steps=round(moment * num_steps))
    image = station.render(_VIEW, large)
    return np.asarray(
        cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _act(station: Station, expert: Expert, seed: int, *, max_steps: int) -> int:
    """Let the expert act from the beginning; how many control steps it took."""
    station.reset(seed)
    expert.reset()
    for step in range(max_steps):
        if expert.finished and station.status().success:
            return step
        station.step(expert.act(station.scene_state(), station.actual(), station.desired()))
    return max_steps


def main(config: PictureConfig) -> int:
    try:
        image = picture_mid_task(
            config.task, size=config.size, seed=config.seed, moment=config.moment
        )
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
