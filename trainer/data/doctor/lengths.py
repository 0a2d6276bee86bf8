"""Episodes that are too short."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

# Of the usual length of the same task: a demonstration cannot be that much quicker.
_SHORT = 0.2
# Fewer steps than this are no motion.
_FEWEST_STEPS = 5


class TooShort(Check):
    """A start that was aborted, or the rest of a file that was cut."""

    name: ClassVar[str] = "too-short"

    def __init__(self) -> None:
        self._lengths: dict[str | None, dict[str, int]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        description = episode.description
        of_task = self._lengths.setdefault(description.task, {})
        of_task[description.episode_id] = description.num_steps

    def findings(self) -> list[Finding]:
        findings = []
        for task, lengths in self._lengths.items():
            usual = float(np.median(list(lengths.values())))
            limit = max(_SHORT * usual, _FEWEST_STEPS)
            short = {name: length for name, length in lengths.items() if length < limit}
            if short:
                of_task = f" of {task}" if task else ""
                findings.append(
                    Finding(
                        check=self.name,
                        severity=Severity.WARNING,
                        episodes=tuple(short),
                        measured=f"as few as {min(short.values())} steps; "
                        f"the usual length{of_task} is {usual:.0f}",
                        numbers={"num_steps": min(short.values()), "usual_num_steps": usual},
                        cost="mostly padding, and no demonstration of the task",
                        remedy="leave them out",
                    )
                )
        return findings
