"""Where a checkpoint comes from: code, data, seeds, versions, time."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from trainer.data.robot_recordings import RobotRecordings

_PACKAGE = Path(__file__).resolve().parent
_GIT_TIMEOUT_S = 10


def _git(*arguments: str) -> str | None:
    """The output of a git command on the code's own checkout; None outside of one."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, "-C", str(_PACKAGE), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _distribution_version() -> str | None:
    try:
        return version("assay")
    except PackageNotFoundError:
        return None


def describe_code() -> dict[str, Any]:
    """git_dirty: whether tracked files differed from git_sha; both None outside a checkout."""
    # Only if the package itself is tracked: a site-packages may lie inside somebody's checkout.
    tracked = _git("ls-files", "--error-unmatch", "training_loop.py") is not None
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".") if tracked else None
    return {
        "git_sha": _git("rev-parse", "HEAD") if tracked else None,
        "git_dirty": None if changes is None else bool(changes),
        "versions": {
            "assay": _distribution_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "safetensors": safetensors.__version__,
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }


def describe_data(recordings: RobotRecordings, num_training_episodes: int) -> dict[str, Any]:
    return {
        "tasks": list(recordings.tasks),
        "data_sha256": recordings.digest,
        "num_episodes": recordings.num_episodes,
        "num_training_episodes": num_training_episodes,
        "num_failed_episodes_left_out": recordings.num_failed,
        "num_frames": recordings.num_steps,
        "demonstration_seeds": list(recordings.seeds),
    }


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
