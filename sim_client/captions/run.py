"""`sim-client captions`: scenes of tasks, drawn, with captions, questions and answers.

    captions.jsonl       a picture a line: image, and what is asked and answered about it
    images/000012.jpg
    README.md            what it was made by

The same options give the same files; a folder is there whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from policy_interface.contract import ImageSize
from sim_client.captions.facts import seen_objects
from sim_client.captions.sentences import Exchange, caption, questions
from sim_client.recording import IMAGE_SIZE, SMALL_IMAGE, STATION_CAMERAS
from sim_client.station.headless_gl import RenderingUnavailableError, require_rendering

if TYPE_CHECKING:
    from sim_client.tasks.task import Task

_WORK_FAILED, _BAD_USAGE, _OK = 1, 2, 0
_JPEG_QUALITY = 92
FIRST_SEED = 200_000_000
"""Of the scenes: beyond those of demonstrations and of evaluations."""


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Draw scenes of tasks and say what is to be seen: data for a vision-language model."""

    tasks: str = "seen"
    """Names, separated by commas; or a set: all, one-arm, two-arms, seen, unseen."""
    scenes: int = 200
    """How many scenes, spread evenly over the tasks."""
    output: Path = Path("scenes")
    """Folder for the pictures and captions.jsonl; it must not be there yet, or be empty."""
    cameras: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAMERA[,CAMERA]")] = (
        "scene_right_0",
        "wrist_right_minus",
    )
    """Cameras that look at each scene, separated by commas."""
    image_size: Annotated[ImageSize, IMAGE_SIZE] = SMALL_IMAGE
    """Size of each image in pixels."""
    questions: int = 4
    """Questions about each picture besides what there is in it, at most."""
    seed: int = 0
    """Of the scenes and of the words."""

    def __post_init__(self) -> None:
        words = [word.strip() for item in self.cameras for word in item.split(",")]
        object.__setattr__(self, "cameras", tuple(word for word in words if word))
        for name, least in (("scenes", 1), ("questions", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name}: expected {least} or more, got {getattr(self, name)}")
        unknown = sorted(set(self.cameras) - set(STATION_CAMERAS))
        if unknown or not self.cameras:
            raise ValueError(
                f"--cameras: expected some of {', '.join(STATION_CAMERAS)}; "
                f"got {', '.join(unknown) or 'none'}"
            )


def run(config: CaptionsConfig) -> int:
    """Returns the verb's exit code."""
    try:
        require_rendering()
        from sim_client.tasks.catalog import UnknownTaskError, get_tasks

        try:
            tasks = get_tasks(config.tasks.split(","))
        except UnknownTaskError as error:
            return _complain(f"--tasks: {error}", _BAD_USAGE)
        output = config.output
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            return _complain(f"--output: {output} is there already; name another", _BAD_USAGE)
        config.output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{config.output.name}.", dir=config.output.parent))
        try:
            _write(config, tasks, partial)
            partial.chmod(0o755)
            partial.replace(config.output)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except (RenderingUnavailableError, OSError) as error:
        return _complain(str(error), _WORK_FAILED)
    print(config.output)
    return _OK


def _write(config: CaptionsConfig, tasks: Sequence[Task], folder: Path) -> None:
    (folder / "images").mkdir()
    num_pictures = num_answers = 0
    with (folder / "captions.jsonl").open("w") as lines:
        for image, exchanges in _pictures(config, tasks):
            name = f"images/{num_pictures:06d}.jpg"
            num_pictures += 1
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            _, file = cv2.imencode(".jpg", image[:, :, ::-1], quality)
            (folder / name).write_bytes(file.tobytes())
            lines.write(json.dumps({"image": name, "messages": _messages(exchanges)}) + "\n")
            num_answers += len(exchanges)
    options = {**asdict(config), "output": str(config.output), "image_size": str(config.image_size)}
    about = (
        f"{num_pictures} pictures of simulated scenes, and {num_answers} questions about them "
        "with their answers, made by `sim-client captions`:"
    )
    told = json.dumps(options, indent=2)
    (folder / "README.md").write_text(f"{about}\n\n```json\n{told}\n```\n")


def _messages(exchanges: Sequence[Exchange]) -> list[Mapping[str, str]]:
    """In OpenAI's layout; the reader shows the picture before the first."""
    return [
        {"role": role, "content": words}
        for each in exchanges
        for role, words in (("user", each.question), ("assistant", each.answer))
    ]


def _pictures(
    config: CaptionsConfig, tasks: Sequence[Task]
) -> Iterator[tuple[Any, list[Exchange]]]:
    """Images (H, W, 3) and what is said of each; pictures that show no object are left out."""
    from sim_client.station.station import Station

    sizes = dict.fromkeys(config.cameras, config.image_size)
    with tqdm(total=config.scenes, desc="scenes", unit="scene", disable=None, leave=False) as told:
        for place, task in enumerate(tasks):
            numbers = range(place, config.scenes, len(tasks))
            if not numbers:
                continue
            station = Station(task, cameras=sizes, depth=True, labels=True)
            for number in numbers:
                rng = np.random.default_rng([config.seed, number])
                station.reset(FIRST_SEED + int(rng.integers(2**31)))
                for view in station.observe().cameras.values():
                    seen = seen_objects(view, station.label_names(), task.objects)
                    described = caption(seen, rng)
                    if described is not None:
                        asked = questions(seen, task.instructions, rng)[: config.questions]
                        # The description among them: whatever is asked may come first.
                        asked.insert(int(rng.integers(len(asked) + 1)), described)
                        yield view.rgb, asked
                told.update()


def _complain(line: str, exit_code: int) -> int:
    print(f"sim-client: captions: {line}", file=sys.stderr)
    return exit_code
