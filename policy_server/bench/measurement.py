"""What a load took: latencies, bytes, errors, and the figures that sum them up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_PERCENTS = (50, 95, 99)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """Of one load, or of a part of its clients.

    seconds: how long was measured.
    latencies_s: of each step that was answered. In an open loop from when it was due.
    control_steps: how many steps of its episode came before each of these.
    errors: answers that were none, by gRPC status.
    sent_bytes, received_bytes: messages, without what the transport adds to them.
    generator_busy: the fraction of a core that the load itself took, at most; near 1, it is the
        load that is measured.
    """

    seconds: float
    latencies_s: npt.NDArray[np.float64]
    control_steps: npt.NDArray[np.int64]
    errors: Counter[str]
    sent_bytes: int
    received_bytes: int
    generator_busy: float

    @staticmethod
    def of(parts: Sequence[Measurement]) -> Measurement:
        """Of clients that were measured side by side."""
        return Measurement(
            seconds=max(part.seconds for part in parts),
            latencies_s=np.concatenate([part.latencies_s for part in parts]),
            control_steps=np.concatenate([part.control_steps for part in parts]),
            errors=sum((part.errors for part in parts), Counter()),
            sent_bytes=sum(part.sent_bytes for part in parts),
            received_bytes=sum(part.received_bytes for part in parts),
            generator_busy=max(part.generator_busy for part in parts),
        )

    @property
    def num_steps(self) -> int:
        return len(self.latencies_s)

    @property
    def steps_per_s(self) -> float:
        return self.num_steps / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """NaN where nothing was answered."""
        if not self.num_steps:
            return math.nan
        return 1e3 * float(np.percentile(self.latencies_s, percent))

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        figures: dict[str, Any] = {
            "steps": self.num_steps,
            "steps_per_s": round(self.steps_per_s, 1),
            "sent_bytes_per_s": round(self.sent_bytes / self.seconds),
            "received_bytes_per_s": round(self.received_bytes / self.seconds),
            "errors": dict(sorted(self.errors.items())),
            "generator_busy": round(self.generator_busy, 2),
        }
        for percent in _PERCENTS:
            value = self.percentile_ms(percent)
            figures[f"p{percent}_ms"] = None if math.isnan(value) else round(value, 3)
        return figures

    def text(self) -> str:
        """For people."""
        times = ", ".join(f"p{each} {self.percentile_ms(each):.2f} ms" for each in _PERCENTS)
        errors = ", ".join(f"{count} {status}" for status, count in sorted(self.errors.items()))
        return "\n".join(
            (
                f"steps     {self.num_steps} in {self.seconds:.1f} s: "
                f"{self.steps_per_s:.0f} a second",
                f"latency   {times if self.num_steps else 'nothing was answered'}",
                f"bytes     {self.sent_bytes / self.seconds / 1e6:.1f} MB/s there, "
                f"{self.received_bytes / self.seconds / 1e6:.3f} MB/s back",
                f"errors    {errors or 'none'}",
                f"the load  took up to {self.generator_busy:.0%} of a core of its own",
            )
        )
