"""Whether demonstrations succeeded."""

from __future__ import annotations

from typing import ClassVar

from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity


class Success(Check):
    """Flags that are missing, all false, or false for some."""

    name: ClassVar[str] = "success"

    def __init__(self) -> None:
        self._flags: dict[str, bool | None] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        self._flags[episode.description.episode_id] = episode.description.success

    def findings(self) -> list[Finding]:
        absent = tuple(name for name, flag in self._flags.items() if flag is None)
        failed = tuple(name for name, flag in self._flags.items() if flag is False)
        number = len(self._flags)
        findings = []
        if number and len(failed) == number:
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.ERROR,
                    measured=f"all {number} episodes are flagged as failures",
                    numbers={"num_failed": number},
                    cost="a loader that keeps successes keeps nothing; otherwise failing is learnt",
                    remedy="find who writes the flag, or set it where the outcome was good",
                )
            )
        elif failed:
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.WARNING,
                    episodes=failed,
                    measured=f"{len(failed)} of {number} episodes are flagged as failures",
                    numbers={"num_failed": len(failed)},
                    cost="imitation learns to fail as they do",
                    remedy="leave them out, unless the method uses failures",
                )
            )
        if absent:
            some = 0 < len(absent) < number
            findings.append(
                Finding(
                    check=self.name,
                    severity=Severity.WARNING if some else Severity.NOTE,
                    episodes=absent if some else (),
                    measured=f"{len(absent)} of {number} episodes do not say how they ended",
                    numbers={"num_absent": len(absent)},
                    cost="failures cannot be told from demonstrations",
                    remedy="note the outcome with each episode",
                )
            )
        return findings
