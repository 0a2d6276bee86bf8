"""A page about every task: a picture of it, what success is, and how its expert fares.

    python benchmarks/simulation_experts.py --seeds 100:200 > experts.jsonl
    python -m sim_client.gallery --experts experts.jsonl --output docs

writes `tasks.md` and `images/tasks/*.jpg` from the declarations themselves, so that the page says
what the code does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import tyro

from policy_interface.contract import ImageSize
from sim_client.picture import picture_mid_task
from sim_client.tasks.catalog import TASKS
from sim_client.tasks.task import Task
from step_analysis.intervals import clopper_pearson

_IMAGE_SIZE = ImageSize(height=360, width=640)
_JPEG_QUALITY = 88
# Where the middle of the episode tells less than another moment does.
_MOMENTS: Mapping[str, float] = {}
_MOMENT = 0.6


@dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """Draw every task and write the page about them."""

    experts: Path
    """What benchmarks/simulation_experts.py printed."""
    output: Path = Path("docs")
    """Folder of tasks.md; pictures go to images/tasks in it."""
    pictures: bool = True
    """Draw them, or keep those that are there."""


def page(tasks: Mapping[str, Task], experts: Mapping[str, Mapping[str, Any]]) -> str:
    """The page in Markdown; experts: a summary by the task's name."""
    return "\n".join(_lines(tasks, experts))


def _lines(tasks: Mapping[str, Task], experts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "# The tasks"
    yield ""
    yield "Written by `python -m sim_client.gallery` from the declarations in `sim_client/tasks/`."
    yield "The experts were run by `python benchmarks/simulation_experts.py` under the noise that"
    yield "demonstrations are recorded with; intervals are 95 % Clopper-Pearson."
    yield ""
    yield "| task | arms | time limit | expert | interval | median, longest success |"
    yield "|---|---|---|---|---|---|"
    for name, task in tasks.items():
        expert = experts[name]
        interval = clopper_pearson(expert["successes"], expert["episodes"])
        yield (
            f"| [{name}](#{name.lower()}) | {'two' if task.bimanual else 'one'} "
            f"| {task.time_limit_s:g} s | {expert['successes']}/{expert['episodes']} "
            f"| {100 * interval.lower:.1f} to {100 * interval.upper:.1f} % "
            f"| {expert['median_duration_s']:g} s, {expert['longest_success_s']:g} s |"
        )
    for name, task in tasks.items():
        yield from ("", f"## {name}", "", f"![{task.instruction}](images/tasks/{name}.jpg)", "")
        yield f"*{' '.join(task.instructions)}* Held out: *{' '.join(task.held_out_instructions)}*"
        yield ""
        yield f"Success, for {task.hold_time_s:g} s without a break: {_clauses(task.success)}."
        if task.failure:
            yield f"It is lost when {_clauses(task.failure)}, or when something leaves the table."
        else:
            yield "It is lost when something leaves the table."
        yield f"Progress counts, besides these: {_clauses(task.milestones)}."


def _clauses(predicates: tuple[Any, ...]) -> str:
    return "; ".join(predicate.words for predicate in predicates) or "nothing else"


def main(config: GalleryConfig) -> int:
    summaries = [json.loads(line) for line in config.experts.read_text().splitlines() if line]
    experts = {summary["task"]: summary for summary in summaries}
    missing = sorted(set(TASKS) - set(experts))
    if missing:
        print(f"gallery: {config.experts} lacks the experts of {missing}", file=sys.stderr)
        return 2
    folder = config.output / "images" / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in TASKS if config.pictures else ():
        image = picture_mid_task(name, size=_IMAGE_SIZE, moment=_MOMENTS.get(name, _MOMENT))
        path = folder / f"{name}.jpg"
        if not cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            print(f"gallery: {path}: not written", file=sys.stderr)
            return 1
    (config.output / "tasks.md").write_text(page(TASKS, experts) + "\n")
    print(config.output / "tasks.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(GalleryConfig, description=__doc__)))
