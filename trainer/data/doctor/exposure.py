"""Pictures that show nothing: black, overexposed or of one colour."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

# Of 255. A dark scene with anything in it lies above.
_BLACK = 8
_WHITE = 250
# Of the pixels.
_MOSTLY = 0.95
# Standard deviation within a picture, of 255; JPEG leaves less of a flat one.
_FLAT = 2.0


class Exposure(Check):
    """Counts among the sampled frames alone."""

    name: ClassVar[str] = "exposure"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        for camera, sampled in episode.frames.items():
            faults = [fault_of(frame) for frame in sampled.frames]
            for fault in ("black", "overexposed", "of one colour"):
                number = faults.count(fault)
                if number:
                    step = int(sampled.steps[faults.index(fault)])
                    self._tally.add(
                        episode,
                        camera,
                        number / len(faults),
                        fault=fault,
                        steps=(step, step + 1),
                    )

    def findings(self) -> list[Finding]:
        findings = []
        for fault in ("black", "overexposed", "of one colour"):
            for severity, kept in ((Severity.ERROR, True), (Severity.WARNING, False)):
                findings += [
                    finding
                    for finding in self._tally.findings(
                        self.name,
                        severity,
                        fault=fault,
                        measured=lambda seen, fault=fault: (
                            f"up to {seen.worst:.0%} of the sampled frames of an episode "
                            f"are {fault} ({seen.worst_episode})"
                        ),
                        number="fraction",
                        cost="the policy sees nothing there and learns to do without this camera",
                        remedy="check cable, lens cap, exposure and decoding; leave them out",
                    )
                    if (finding.numbers["fraction"] > 0.5) is kept
                ]
        return findings


def fault_of(frame: npt.NDArray[np.uint8]) -> str | None:
    brightest = frame.max(axis=-1)
    if (brightest <= _BLACK).mean() > _MOSTLY:
        return "black"
    if (frame.min(axis=-1) >= _WHITE).mean() > _MOSTLY:
        return "overexposed"
    return "of one colour" if frame.std(axis=(0, 1)).max() < _FLAT else None
