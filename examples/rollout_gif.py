"""A rollout as a small GIF for a page, from the film that `sim-client replay` makes of it.

    python examples/rollout_gif.py runs/policies/PickAndPlaceBox/rollouts/PickAndPlaceBox \
        PickAndPlaceBox 503 docs/images/results/PickAndPlaceBox.gif
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image
from stages import StageFailedError, call

_SIZE = "200x150"
# A film has ten pictures a simulated second; half of them say as much.
_EVERY, _PICTURE_MS = 2, 200
_COLOURS = 48
# The last picture stays, so that the end can be seen.
_LAST_MS = 1600


def pictures(film: Path) -> Iterator[Image.Image]:
    """Every second picture, and the last."""
    video = cv2.VideoCapture(str(film))
    read: list[Image.Image] = []
    while True:
        is_there, bgr = video.read()
        if not is_there:
            break
        read.append(Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
    video.release()
    yield from read[:-1:_EVERY]
    yield from read[-1:]


def write_gif(film: Path, output: Path) -> None:
    """One palette for all pictures, so that what stands still costs nothing."""
    shown = list(pictures(film))
    # By what they cover of the colours, not of the picture: what is handled is small.
    palette = shown[0].quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE)
    frames = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in shown]
    output.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        output,
        save_all=True,
        append_images=frames[1:],
        duration=[_PICTURE_MS] * (len(frames) - 1) + [_LAST_MS],
        loop=0,
        optimize=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of an evaluated policy")
    parser.add_argument("task")
    parser.add_argument("episode", type=int)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cameras", default="scene_right_0,scene_left_0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        try:
            call(
                *("sim-client", "replay", options.run, options.task, options.episode),
                *("--video", film, "--cameras", options.cameras, "--image-size", _SIZE),
            )
        except StageFailedError as error:
            return error.exit_code
        write_gif(film, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
