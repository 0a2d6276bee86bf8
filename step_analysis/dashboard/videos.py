"""Films of episodes, found in the folders that evaluations write, and nowhere else."""

from pathlib import Path

from step_analysis.ledger import LEDGER_FILE_NAME
from step_analysis.loading import TaskRollouts
from step_analysis.results_json import snake_case

VIDEO_FILE_NAME = "cameras.mp4"


def find_video(root: Path, task: TaskRollouts, scenario_index: int) -> Path | None:
    """The film of an episode, the latest where it was filmed twice; None if there is none.

    It lies below `root`, wherever links lead.
    """
    name = snake_case(task.task)
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in (name, task.task)):
        return None
    episode = Path(name, f"demonstration_{scenario_index}", VIDEO_FILE_NAME)
    inside = root.resolve()
    found: list[Path] = []
    for source in {run.source for run in task.runs}:
        folder = source.parent
        folders = [folder]
        if source.name == LEDGER_FILE_NAME:
            rollouts = folder / task.task / "rollouts"
            folders = list(rollouts.iterdir()) if rollouts.is_dir() else []
        found += [path for each in folders if (path := each / episode).is_file()]
    # Timestamped folders: the last one is the latest.
    for path in sorted(found, reverse=True):
        resolved = path.resolve()
        if resolved.is_relative_to(inside):
            return resolved
    return None
