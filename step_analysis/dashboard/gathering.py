"""Policies put together again and again as files arrive: what no new file is about is kept."""

from collections.abc import Mapping, Sequence

from step_analysis.loading import PolicyRollouts, gather
from step_analysis.reading.source import PolicySource


class Gathering:
    """What was put together last, by condition and policy."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Sequence[PolicySource], PolicyRollouts]] = {}

    def gather(
        self, by_condition: Mapping[str, Sequence[PolicySource]]
    ) -> dict[str, tuple[PolicyRollouts, ...]]:
        """The policies of each condition, by name.

        Args:
            by_condition: all sources; those of an unchanged file are the same objects as before.
        """
        earlier, self._known = self._known, {}
        gathered: dict[str, tuple[PolicyRollouts, ...]] = {}
        for condition, sources in by_condition.items():
            by_policy: dict[str, list[PolicySource]] = {}
            for source in sources:
                by_policy.setdefault(source.policy, []).append(source)
            for policy in sorted(by_policy):
                key, own = (condition, policy), by_policy[policy]
                kept = earlier.get(key)
                if kept is None or not _are_same(kept[0], own):
                    (rollouts,) = gather(own, allow_mixed_checkpoints=True)
                    kept = own, rollouts
                self._known[key] = kept
            gathered[condition] = tuple(
                self._known[condition, policy][1] for policy in sorted(by_policy)
            )
        return gathered


def _are_same(earlier: Sequence[PolicySource], now: Sequence[PolicySource]) -> bool:
    return len(earlier) == len(now) and all(a is b for a, b in zip(earlier, now, strict=True))
