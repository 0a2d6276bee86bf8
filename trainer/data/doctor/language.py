"""Instructions that are missing, empty or no help."""

from __future__ import annotations

from typing import ClassVar

from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.instructions import task_phrasings

# What people write where a form asks for an instruction.
_PLACEHOLDERS = frozenset(
    [
        *("n/a", "na", "none", "null", "todo", "tbd", "test", "task", "dummy", "default"),
        *("instruction", "unknown", "xxx", "-", ".", "?"),
    ]
)


class Language(Check):
    """A policy that listens learns from what was said; one that doesn't loses nothing."""

    name: ClassVar[str] = "language"

    def __init__(self) -> None:
        self._number = 0
        self._missing: list[str] = []
        self._placeholders: dict[str, str] = {}
        self._tasks_by_text: dict[str, set[str]] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        self._number += 1
        description = episode.description
        texts = task_phrasings(description)
        plain = {" ".join(text.lower().split()) for text in texts} - {""}
        if not plain:
            self._missing.append(description.episode_id)
        for text in plain:
            if text in _PLACEHOLDERS:
                self._placeholders[description.episode_id] = text
            elif description.task is not None:
                self._tasks_by_text.setdefault(text, set()).add(description.task)

    def findings(self) -> list[Finding]:
        findings = []
        if self._missing:
            some = len(self._missing) < self._number
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.ERROR if some else Severity.WARNING,
                    episodes=tuple(self._missing) if some else (),
                    measured=f"{len(self._missing)} of {self._number} episodes have no instruction",
                    numbers={"num_missing": len(self._missing)},
                    cost="a policy that listens learns to act on an empty sentence"
                    if some
                    else "no policy that listens can be trained on it",
                    remedy="write an instruction for each episode, or train without language",
                )
            )
        if self._placeholders:
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.ERROR,
                    episodes=tuple(self._placeholders),
                    measured=f"instructions such as {next(iter(self._placeholders.values()))!r}",
                    numbers={"num_placeholders": len(self._placeholders)},
                    cost="the policy learns that the words do not matter",
                    remedy="write what was asked of the robot",
                )
            )
        shared = {text: tasks for text, tasks in self._tasks_by_text.items() if len(tasks) > 1}
        if shared:
            text, tasks = next(iter(shared.items()))
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.WARNING,
                    measured=f"{len(shared)} instructions are given for several tasks: "
                    f"{text!r} for {', '.join(sorted(tasks))}",
                    numbers={"num_shared": len(shared)},
                    cost="the words do not say which of the tasks is meant",
                    remedy="give each task words of its own",
                )
            )
        return findings
