"""How long a policy took to answer the control steps of an episode. Standard library only."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from step_analysis.strict_json import MAX_NUMBER, FormatError, check_keys, shown


@dataclass(frozen=True, kw_only=True)
class PolicyLatency:
    """Real time from asking for an action until it was there, over the steps of an episode.

    Raises:
        FormatError: a field has the wrong type, or the times are not in order.
    """

    num_steps: int
    """Steps that were answered, the only ones that are timed."""
    p50_ms: float
    p95_ms: float
    max_ms: float

    def __post_init__(self) -> None:
        if type(self.num_steps) is not int or not 1 <= self.num_steps < 2**63:
            raise FormatError(f"num_steps: a positive integer expected, got {self.num_steps!r:.80}")
        for name in ("p50_ms", "p95_ms", "max_ms"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= MAX_NUMBER:
                raise FormatError(
                    f"{name}: a finite number of milliseconds expected, got {shown(value)}"
                )
        if not self.p50_ms <= self.p95_ms <= self.max_ms:
            raise FormatError(
                f"p50_ms <= p95_ms <= max_ms expected, got {self.p50_ms}, {self.p95_ms} and "
                f"{self.max_ms}"
            )

    @classmethod
    def of(cls, latencies_s: Sequence[float]) -> Self | None:
        """The summary of some steps' latencies; None where no step was answered."""
        if not latencies_s:
            return None
        # `quantiles` asks for two values at least; a single one is all of its own.
        values = [*latencies_s] if len(latencies_s) > 1 else [*latencies_s] * 2
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(
            num_steps=len(latencies_s),
            p50_ms=round(cuts[49] * 1e3, 3),
            p95_ms=round(cuts[94] * 1e3, 3),
            max_ms=round(max(latencies_s) * 1e3, 3),
        )

    @classmethod
    def from_json_value(cls, value: object) -> Self:
        """From what a JSON object was decoded to."""
        if not isinstance(value, dict):
            raise FormatError(f"policy_latency: a JSON object expected, got {shown(value)}")
        check_keys(value, [each.name for each in fields(cls)], "policy_latency")
        try:
            return cls(**value)
        except FormatError as error:
            raise FormatError(f"policy_latency: {error}") from None
