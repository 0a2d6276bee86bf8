"""NaN and infinity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity


class NotFinite(Check):
    """A field that is never finite is told apart: nobody recorded it, and it can be left out."""

    name: ClassVar[str] = "not-finite"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for name, values in episode.arrays.items():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if bad.any():
                (steps,) = np.nonzero(bad)
                self._tally.add(
                    episode,
                    name,
                    float(bad.sum()),
                    fault="all" if bad.all() else "some",
                    steps=(int(steps[0]), int(steps[-1]) + 1),
                )

    def findings(self) -> list[Finding]:
        return [
            *self._tally.findings(
                self.name,
                Severity.ERROR,
                fault="some",
                measured=lambda seen: (
                    f"NaN or infinity in {seen.total:.0f} steps, "
                    f"{seen.worst:.0f} of them in {seen.worst_episode}"
                ),
                number="num_steps",
                cost="one such number makes the loss NaN and every weight with it",
                remedy="leave out the steps or the episodes, or record them anew",
            ),
            *self._tally.findings(
                self.name,
                Severity.WARNING,
                fault="all",
                measured=lambda seen: "NaN or infinity in every step",
                number="num_steps",
                cost="a policy that takes this field gets NaN; statistics of it do not exist",
                remedy="leave the field out of the observation and the action",
            ),
        ]
