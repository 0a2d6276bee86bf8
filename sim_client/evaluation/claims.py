"""Which process runs which episode, where several evaluate into one folder.

A claim is a lock of the operating system's on a file of its own, so it ends with the process that
holds it, however that ends: no clock, no lease that is too short or too long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from step_analysis.rollouts import RolloutKey

_FOLDER_NAME = ".claims"


class Claims:
    """The episodes that this process runs, and that no other one may begin meanwhile."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / _FOLDER_NAME
        self._held: dict[RolloutKey, int] = {}

    def take(self, key: RolloutKey) -> bool:
        """Whether the episode is ours now. Raises OSError where no file can be made."""
        assert key not in self._held, f"{key} is ours already"
        self._folder.mkdir(exist_ok=True)
        descriptor = os.open(self._path(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._held[key] = descriptor
        return True

    def give_back(self, key: RolloutKey, *, for_good: bool) -> None:
        """Let others have it, if it is ours. for_good: it has its verdict, and the file has done.

        Without a verdict the file must stay: whoever waits for the removed one and whoever makes
        a new one would both have the episode.
        """
        descriptor = self._held.pop(key, None)
        if descriptor is None:
            return
        if for_good:
            with contextlib.suppress(OSError):
                self._path(key).unlink(missing_ok=True)
        os.close(descriptor)

    def give_all_back(self) -> None:
        for key in list(self._held):
            self.give_back(key, for_good=False)

    def _path(self, key: RolloutKey) -> Path:
        return self._folder / f"{key.task}-{key.scenario_index}"
